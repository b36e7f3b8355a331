"""log_entry.py: events of a write, in the order of acceptance."""

from __future__ import annotations

import msgspec
import pytest

from eventrouter.events import StoredEvent
from eventrouter.log_entry import decode_each, decode_entry, encode_entry, source_of, sources_in
from eventrouter.stored import NewerFormatError, UnreadableError


def test_an_entry_gives_back_its_events_in_order() -> None:
    events = [StoredEvent("website", {"messageId": str(number), "big": 2**70}) for number in range(3)]
    assert decode_entry(encode_entry([msgspec.json.encode(event) for event in events])) == events


@pytest.mark.parametrize("data", [b"", b"[]", b'{"v":1}', b'{"v":99,"events":[]}', b'{"events":"x"}'])
def test_an_entry_that_this_version_cannot_read_is_an_error(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_entry(data)


def good(message_id: str) -> bytes:
    times = {"timestamp": "2026-11-24T17:00:00.000Z", "receivedAt": "2026-11-24T17:00:00.000Z"}
    return msgspec.json.encode(["web", {"type": "track", "messageId": message_id, **times}])


@pytest.mark.parametrize(
    ("bad", "source"),
    [
        (b"5", ""),
        (b'["web",5]', "web"),
        (b'["we b",5]', ""),
        (b'["web",{"messageId":"m"}]', "web"),
        (good("m").replace(b'"track"', b"null"), "web"),
        (good("m").replace(b'"m"', b"7"), "web"),
        (b'["web",{"type":"\xff"}]', "web"),
    ],
)
def test_an_event_that_cannot_be_read_costs_no_other(bad: bytes, source: str) -> None:
    first, fault, last = decode_each(encode_entry([good("m1"), bad, good("m2")]))
    assert isinstance(fault, UnreadableError)
    assert (fault.data, fault.source) == (bad, source)
    assert [isinstance(one, StoredEvent) and one.message_id for one in (first, last)] == ["m1", "m2"]


def test_events_that_can_be_read_are_given_back_as_they_are() -> None:
    data = encode_entry([good("m1"), good("m2")])
    assert decode_each(data) == decode_entry(data)


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"nonsense", UnreadableError), (b"", UnreadableError), (b'{"v":3,"events":5}', NewerFormatError)],
)
def test_an_entry_without_events_is_an_error_as_a_whole(data: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        decode_each(data)


@pytest.mark.parametrize("source", ["web", "My-App_2", "x" * 64])
def test_the_source_of_an_encoded_event_is_what_stands_in_front(source: str) -> None:
    assert source == source_of(msgspec.json.encode(StoredEvent(source, {"messageId": 'a"b'})))


def test_an_entry_tells_its_sources_whatever_is_in_its_events() -> None:
    payload = {"messageId": '\n["web",', "list": [["web", {}], '\n["web",'], '\n["web",': "\n"}
    events = [StoredEvent(source, payload) for source in ("app", "web", "app", "My-App_2")]
    data = encode_entry(list(map(msgspec.json.encode, events)))
    assert {"app": 2, "web": 1, "My-App_2": 1} == sources_in(data)
    assert {"app": 1, "web": 1, "My-App_2": 1} == sources_in(data[:-1].replace(b'["app"', b'["a p"', 1))
    assert {} == sources_in(encode_entry([])) == sources_in(b"nonsense")


def test_an_entry_of_the_version_before_is_read() -> None:
    events = [StoredEvent("web", {"messageId": "m1"}), StoredEvent("app", {"messageId": "m2"})]
    data = b'{"v":1,"events":[%b]}' % b",".join(map(msgspec.json.encode, events))
    assert (events, {}) == (decode_entry(data), sources_in(data))
