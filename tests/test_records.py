"""records.py: what travels through the warehouse's lane comes out as it went in."""

from __future__ import annotations

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
    unpack,
)

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
