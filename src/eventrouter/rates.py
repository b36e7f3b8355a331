"""Rates: what happened in a second, from the counters at two moments."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from .counters import Snapshot

KEY = "er:samples"
EVERY_SECONDS = 15.0
"""How often the workers keep a sample, all of them together."""
SAMPLES = 4
"""How many are kept: what is told without a wait is about the last minute."""
EVENTS = ("accepted", "routed", "rejected")


class Sample(msgspec.Struct):
    """Sums of all shards at one moment."""

    at_ms: int
    events: dict[str, int]
    """By the names in `EVENTS`."""
    delivered: dict[str, int]
    """By destination."""
    failed: dict[str, int]
    """By destination: failures that are tried again (of a delivery, or of a batch as a whole), and dead letters."""


class Rates(msgspec.Struct):
    """What happened in a second, on average."""

    seconds: float
    """Over how long."""
    events: dict[str, float]
    delivered: dict[str, float]
    failed: dict[str, float]


def sample_of(snapshot: Snapshot) -> Sample:
    """The sums of a snapshot."""
    sample = Sample(snapshot.now_ms, dict.fromkeys(EVENTS, 0), {}, {})
    for field, number in snapshot.counts.items():
        kind, _, rest = field.partition(":")
        if kind in ("accepted", "routed") and rest:
            continue  # by source
        if kind in EVENTS:
            sample.events[kind] += number
            continue
        destination = rest.split(":", 1)[0]
        if kind == "delivered":
            sample.delivered[destination] = number
        elif kind in ("retried", "dead"):
            sample.failed[destination] = sample.failed.get(destination, 0) + number
    return sample


def rates_between(before: Sample, after: Sample) -> Rates | None:
    """None where no time has passed. Counters that went back, since the server lost them, are nothing."""
    seconds = (after.at_ms - before.at_ms) / 1000
    if seconds <= 0:
        return None

    def rates(earlier: dict[str, int], later: dict[str, int]) -> dict[str, float]:
        return {name: round(max(number - earlier.get(name, 0), 0) / seconds, 3) for name, number in later.items()}

    return Rates(
        round(seconds, 1),
        rates(before.events, after.events),
        rates(before.delivered, after.delivered),
        rates(before.failed, after.failed),
    )


async def read_sample(redis: Redis) -> Sample | None:
    """The oldest sample that is kept, about a minute old; None: no worker was there. Raises `redis.RedisError`."""
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.lindex(KEY, 0)
        [row] = await pipeline.execute()
    try:
        return msgspec.json.decode(row, type=Sample) if row else None
    except msgspec.MsgspecError:  # of another version
        return None


async def keep_sample(redis: Redis, look: Callable[[], Awaitable[Snapshot]]) -> bool:
    """Keeps a sample, unless another worker has just done so. Raises `redis.RedisError`."""
    if not await redis.set(f"{KEY}:kept", "", nx=True, px=int(EVERY_SECONDS * 1000) - 1000):
        return False
    row = msgspec.json.encode(sample_of(await look()))
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.rpush(KEY, row.decode())
        pipeline.ltrim(KEY, -SAMPLES, -1)
        pipeline.pexpire(KEY, int(EVERY_SECONDS * 1000) * SAMPLES * 2)
        await pipeline.execute()
    return True


async def keep_samples(redis: Redis, look: Callable[[], Awaitable[Snapshot]]) -> None:
    """Keeps one now and then, until cancelled."""
    while True:
        with contextlib.suppress(RedisError, OSError, TimeoutError):  # there is nothing to count while Redis is away
            await keep_sample(redis, look)
        await asyncio.sleep(EVERY_SECONDS)
