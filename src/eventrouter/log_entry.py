"""An entry of the event log: accepted events of one shard, as they lie in the log's lane."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .events import StoredEvent

FORMAT = 1
"""The version of a log entry; a router reads its own and its neighbours'."""


class Entry(msgspec.Struct):
    """One item of the log's lane: events of one shard in the order of acceptance."""

    events: list[StoredEvent]
    v: int = FORMAT


_decoder = msgspec.json.Decoder(Entry)


def decode_entry(data: bytes) -> list[StoredEvent]:
    """The events of a log entry; numbers keep their exact value. Raises `msgspec.DecodeError` on foreign data."""
    entry = _decoder.decode(data)
    if abs(entry.v - FORMAT) > 1:
        raise msgspec.ValidationError(f"log entry of format {entry.v}: this version reads {FORMAT - 1} to {FORMAT + 1}")
    return entry.events


def encode_entry(events: Sequence[bytes]) -> bytes:
    """A log entry of encoded `StoredEvent`s."""
    return b'{"v":%d,"events":[%b]}' % (FORMAT, b",".join(events))
