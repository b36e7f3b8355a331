"""An entry of the event log: accepted events of one shard, as they lie in the log's lane."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import msgspec

from .events import StoredEvent
from .stored import FAULTS, Form, UnreadableError

FORMAT = 1
"""The version of a log entry; a router reads its own and its neighbours'."""


class Entry(msgspec.Struct):
    """One item of the log's lane: events of one shard in the order of acceptance."""

    events: list[StoredEvent]
    v: int = FORMAT


class _RawEntry(msgspec.Struct):
    events: list[msgspec.Raw]
    v: int = FORMAT


_form = Form("an entry of the log", Entry, FORMAT)
_raw_form = Form("an entry of the log", _RawEntry, FORMAT)
_event_decoder = msgspec.json.Decoder(StoredEvent)

_SOURCE = rb'\["([A-Za-z0-9_-]{1,64})",'
_source_in_front = re.compile(_SOURCE)
_source_of_line = re.compile(rb"\n" + _SOURCE)


def decode_entry(data: bytes) -> list[StoredEvent]:
    """The events of a log entry; numbers keep their exact value.

    Raises `UnreadableError` on foreign data, `NewerFormatError` on that of a newer version.
    """
    return _form.read(data).events


def decode_each(data: bytes) -> list[StoredEvent | UnreadableError]:
    """As `decode_entry`, but an event that can't be read, or lacks what every event has, costs no other.

    In its place is why. Raises `UnreadableError` when there are no events at all.
    """
    try:
        events = decode_entry(data)
        if all(map(_is_whole, events)):
            return list(events)
    except UnreadableError:
        pass
    return [_read(bytes(raw)) for raw in _raw_form.read(data).events]


def _is_whole(stored: StoredEvent) -> bool:
    event = stored.event
    return (
        type(event.get("messageId")) is str
        and type(event.get("type")) is str
        and type(event.get("timestamp")) is str
        and type(event.get("receivedAt")) is str
    )


def _read(raw: bytes) -> StoredEvent | UnreadableError:
    try:
        stored = _event_decoder.decode(raw)
    except FAULTS as error:
        found = _source_in_front.match(raw)
        source = found[1].decode() if found else ""
        return UnreadableError(f"an event that can't be read: {error}", raw, source=source)
    if _is_whole(stored):
        return stored
    reason = "an event that lacks its type, messageId, timestamp or receivedAt"
    return UnreadableError(reason, raw, source=stored.source)


def source_of(event: bytes) -> str:
    """The source of an encoded `StoredEvent`, which stands in front: the names of sources need no escapes in JSON."""
    return event[2 : event.find(b'"', 2)].decode()


def sources_in(data: bytes) -> Counter[str]:
    """How many events of each source are in an entry, by their lines: also in one that can't be read any more.

    What is damaged in front, or was written by the version before, is not in it. `lua/audit.lua` counts like this.
    """
    return Counter(name.decode() for name in _source_of_line.findall(data))


def encode_entry(events: Sequence[bytes]) -> bytes:
    """A log entry of encoded `StoredEvent`s, each on a line of its own: there are no other line breaks in this JSON."""
    return b'{"v":%d,"events":[\n%b]}' % (FORMAT, b",\n".join(events))
