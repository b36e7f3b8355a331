"""The outcome log: what became of deliveries lately, in each shard, for `trace` and whoever watches.

A settlement writes one entry, in its own atomic step, and so does the router for what is dead at once. The log has a
fixed size; the oldest entries make room. Ids of entries count the bytes that were ever written, so that the step knows
what is too old. What it tells is gone after minutes or hours: the counters of the audit and the tables are what lasts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING

import msgspec

from .stored import FAULTS

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from .delivery import InHand
    from .records import DeadLetter

FORMAT = 1
REASON_LENGTH = 200
"""Characters of a reason that are kept."""
PAGE = 200
DELIVERED, RETRY, DEAD = "delivered", "retry", "dead"
"""What becomes of an attempt: the delivery was taken, waits for its next try, or is a dead letter."""


class Outcome(msgspec.Struct):
    """What became of one delivery, at one attempt."""

    source: str
    message_id: str
    destination: str
    outcome: str
    """`DELIVERED`, `RETRY` or `DEAD`."""
    at_ms: int
    """By the server's clock, as workers know it."""
    attempts: int
    """How often it had been tried then; 0: never, it was dead at once."""
    class_: str = msgspec.field(name="class", default="")
    """Of a dead letter."""
    reason: str = ""
    status: int | None = None


class Failed(msgspec.Struct, array_like=True):
    """A delivery that was not taken; with a class it is a dead letter."""

    source: str
    message_id: str
    attempts: int
    class_: str
    reason: str
    status: int | None = None


class Entry(msgspec.Struct, array_like=True):
    """The stored form."""

    v: int
    at_ms: int
    destination: str
    delivered: list[tuple[str, int, list[str]]]
    """Message ids by source and number of attempts."""
    failed: list[Failed]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def key_of(shard: int) -> str:
    """The stream of a shard. Each entry has one field, `d`: see `decode`."""
    return f"er:{{{shard}}}:outcomes"


def entry(at_ms: int, destination: str, delivered: Iterable[InHand], failed: Iterable[Failed] = ()) -> bytes:
    """An entry about one destination; empty when there is nothing to tell."""
    rows: dict[tuple[str, int], list[str]] = {}
    for hand in delivered:
        one, tries = hand.delivery, hand.tries
        if one is not None:
            rows.setdefault((one.source, tries.made + tries.together + 1), []).append(one.message_id)
    failures = list(failed)
    if not rows and not failures:
        return b""
    taken = [(source, attempts, ids) for (source, attempts), ids in rows.items()]
    return _encoder.encode(Entry(FORMAT, at_ms, destination, taken, failures))


def dead_entries(at_ms: int, letters: Iterable[DeadLetter]) -> list[bytes]:
    """An entry about the dead letters of each destination."""
    by_destination: dict[str, list[Failed]] = {}
    for letter in letters:
        by_destination.setdefault(letter.destination, []).append(dead(letter))
    return [entry(at_ms, name, (), failed) for name, failed in by_destination.items()]


def dead(letter: DeadLetter) -> Failed:
    """A delivery that will not be tried again by itself."""
    reason = letter.reason[:REASON_LENGTH]
    return Failed(letter.source, letter.message_id, letter.attempts, letter.class_, reason, letter.status)


def tried_again(hand: InHand, reason: str, status: int | None) -> Failed:
    """A delivery that waits for its next try."""
    one, tries = hand.delivery, hand.tries
    source, message_id = (one.source, one.message_id) if one is not None else ("", "")
    return Failed(source, message_id, tries.made + tries.together, "", reason[:REASON_LENGTH], status)


def decode(data: bytes) -> list[Outcome]:
    """The outcomes of an entry; none when another version wrote it."""
    try:
        found = _decoder.decode(data)
    except FAULTS:
        return []
    if found.v != FORMAT:
        return []
    outcomes = [
        Outcome(source, message_id, found.destination, DELIVERED, found.at_ms, attempts)
        for source, attempts, ids in found.delivered
        for message_id in ids
    ]
    outcomes += [
        Outcome(
            one.source,
            one.message_id,
            found.destination,
            DEAD if one.class_ else RETRY,
            found.at_ms,
            one.attempts,
            one.class_,
            one.reason,
            one.status,
        )
        for one in found.failed
    ]
    return outcomes


async def read_outcomes(redis: Redis, shard: int) -> AsyncIterator[list[bytes]]:
    """What the log of a shard holds, the newest entries first, page by page. Raises `redis.RedisError`."""
    before = "+"
    while rows := await redis.xrevrange(key_of(shard), max=before, count=PAGE):
        before = "(" + rows[-1][0].decode()
        yield [fields[b"d"] for _, fields in rows]


async def find_outcomes(redis: Redis, shard: int, message_id: str) -> list[Outcome]:
    """What is known of the deliveries of the events with this messageId, the oldest first."""
    found: list[Outcome] = []
    needle = message_id.encode("utf-8", "surrogatepass")
    async for page in read_outcomes(redis, shard):
        for data in page:
            if needle in data:
                found += (one for one in reversed(decode(data)) if one.message_id == message_id)
    return found[::-1]
