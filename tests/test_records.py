"""records.py: what travels through the warehouse's lane comes out as it went in."""

from __future__ import annotations

import re

import msgspec
import pytest

from eventrouter.records import (
    AnyRecord,
    DeadLetter,
    DeadLetterReplayed,
    EventRecord,
    Identity,
    IdentityMerge,
    RejectedEvent,
    pack,
    rejection_id,
    unpack,
    unpack_each,
)
from eventrouter.stored import NewerFormatError, UnreadableError

NOW = "2026-11-24T17:00:00.000Z"
RECORDS: list[AnyRecord] = [
    EventRecord(source="website", event={"messageId": "m", "n": 2**70, "f": 1.0}, person_id="p", rules="r"),
    RejectedEvent(id="1", source="website", received_at=NOW, code="event_not_defined", message="no"),
    DeadLetter(
        source="website",
        message_id="m",
        destination="crm",
        route="r",
        class_="permanent",
        reason="HTTP 400",
        attempts=1,
        first_at=NOW,
        last_at=NOW,
    ),
    DeadLetterReplayed(source="website", message_id="m", destination="crm", replayed_at=NOW),
    Identity(type="user_id", value="u", person_id="p", seq=1, seen_at=NOW),
    IdentityMerge(person_id="p", into_person_id="q", seq=2, merged_at=NOW),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_survives_the_lane(record: AnyRecord) -> None:
    assert unpack(pack([record])) == [record]


def test_numbers_keep_their_exact_value() -> None:
    (record,) = unpack(pack(RECORDS[:1]))
    assert isinstance(record, EventRecord)
    assert (record.event["n"], repr(record.event["f"])) == (2**70, "1.0")


def test_a_field_that_a_later_version_added_is_passed_over() -> None:
    data = pack(RECORDS[3:4]).replace(b'"source"', b'"from_the_future":1,"source"')
    assert unpack(data) == RECORDS[3:4]


def test_foreign_data_is_an_error() -> None:
    with pytest.raises(msgspec.DecodeError):
        unpack(b'{"records":[{"record":"nonsense"}]}')


def test_a_record_that_cannot_be_read_costs_no_other() -> None:
    bad = b'{"record":"event","source":"web","event":{},"person_id":5}'
    data = pack([RECORDS[0], RECORDS[1]]).replace(b'},{"record"', b"}," + bad + b',{"record"', 1)
    first, fault, last = unpack_each(data)
    assert (first, last) == (RECORDS[0], RECORDS[1])
    assert isinstance(fault, UnreadableError)
    assert fault.data == bad


def test_a_pack_without_records_is_an_error_as_a_whole() -> None:
    for data, kind in ((b"nonsense", UnreadableError), (b'{"records":[{"record":"new"}],"v":2}', NewerFormatError)):
        with pytest.raises(kind):
            unpack_each(data)


def test_a_refusal_has_the_same_id_when_the_same_is_sent_again() -> None:
    first = rejection_id("web", "no_user_anon_id", "m1", '{"type":"track"}')
    assert first == rejection_id("web", "no_user_anon_id", "m1", '{"type":"track"}')
    assert re.fullmatch("[0-9a-f]{32}", first)


def test_refusals_of_different_events_have_different_ids() -> None:
    parts = [
        ("web", "no_user_anon_id", "m1", "{}"),
        ("app", "no_user_anon_id", "m1", "{}"),
        ("web", "type_unknown", "m1", "{}"),
        ("web", "no_user_anon_id", "m2", "{}"),
        ("web", "no_user_anon_id", None, "{}"),
        ("web", "no_user_anon_id", "m1", "[]"),
        ("web", "no_user_anon_id", "m1", ""),
    ]
    assert len({rejection_id(*one) for one in parts}) == len(parts)


def test_of_what_nothing_is_known_nothing_is_the_same() -> None:
    assert rejection_id("web", "event_too_deep", None, "") != rejection_id("web", "event_too_deep", None, "")
