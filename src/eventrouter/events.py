"""The words that every part speaks about events: types, identities, the stored form."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

import msgspec

EVENT_TYPES = ("track", "identify", "page", "screen", "group", "alias")
"""The six types of Segment's spec."""

Event = dict[str, Any]
"""One event as decoded JSON, with the wire's names (`messageId`, `anonymousId`, `userId`, `properties`, …).

After `accept` it always has `type`, `messageId`, `timestamp` and `receivedAt` (ISO 8601, UTC, milliseconds, `Z`), at
least one of `anonymousId` and `userId` (alias: `userId`), and objects where the spec wants objects.
"""


class StoredEvent(msgspec.Struct, array_like=True):
    """An accepted event with the name of its source, as the event log keeps it. Its identity is (source, messageId)."""

    source: str
    event: Event
    traceparent: str = ""
    """The context of its trace, where there is one, as W3C Trace Context has it."""

    @property
    def message_id(self) -> str:
        """The client's (or, when it sent none, the collector's) id of the event."""
        return str(self.event["messageId"])


def order_key(event: Event) -> str:
    """The event's anonymousId, else its userId: events of one order key are delivered in order."""
    return str(event.get("anonymousId") or event.get("userId") or "")


def event_name(event: Event) -> str | None:
    """What a person calls the event: a track event's `event`, a page's or screen's `name`; None when it has neither.

    Other types may carry anything under these names: what is no text is no name.
    """
    for field in ("event", "name"):
        name = event.get(field)
        if name and type(name) is str:
            return name
    return None


def lane_key(key: str) -> str:
    """A short digest of an order key, 16 hex digits, so that the size of clients' ids never matters in Redis."""
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def shard_of(key: str, shards: int) -> int:
    """The shard of an order key, from 0 to `shards` - 1; the same on every machine and in every version."""
    return zlib.crc32(key.encode("utf-8", "surrogatepass")) % shards


def event_digest(source: str, message_id: str) -> bytes:
    """12 bytes that stand for an event's identity where ids are remembered (dedup)."""
    return hashlib.blake2b(f"{source}\0{message_id}".encode("utf-8", "surrogatepass"), digest_size=12).digest()


def idempotency_key(source: str, message_id: str, destination: str) -> str:
    """The id of a delivery, the same at every attempt: `msg_` and 32 hex digits; safe in an HTTP header."""
    text = f"{source}\0{message_id}\0{destination}"
    return "msg_" + hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
