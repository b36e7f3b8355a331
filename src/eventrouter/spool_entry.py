"""An entry of the spool: events as they lie on the collector's disk, whatever the number of shards."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec

from .acceptance import AcceptedEvent
from .records import RejectedEvent

FORMAT = 1
"""The version of a spool entry; a collector reads its own and its neighbours'."""


class SpoolEntry(msgspec.Struct, array_like=True):
    """What was kept by one write, in the order of acceptance."""

    events: list[AcceptedEvent]
    rejected: list[RejectedEvent]
    v: int = FORMAT


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SpoolEntry)


def encode_spooled(events: Sequence[AcceptedEvent], rejected: Sequence[RejectedEvent]) -> bytes:
    """The bytes of an entry, with a checksum in front: SQLite has none for what lies in its pages."""
    body = _encoder.encode(SpoolEntry(list(events), list(rejected)))
    return zlib.crc32(body).to_bytes(4, "big") + body


def decode_spooled(data: bytes) -> SpoolEntry:
    """The entry. Raises `msgspec.DecodeError` when the bytes are not what was written, or of a foreign version."""
    body = memoryview(data)[4:]
    if zlib.crc32(body) != int.from_bytes(data[:4], "big"):
        raise msgspec.DecodeError("its checksum is wrong: the disk has changed it")
    entry = _decoder.decode(body)
    if abs(entry.v - FORMAT) > 1:
        raise msgspec.ValidationError(
            f"spool entry of format {entry.v}: this version reads {FORMAT - 1} to {FORMAT + 1}"
        )
    return entry
