"""What tests of lanes share: short words for appends and turns, and a look at what is left in Redis."""

from __future__ import annotations

from collections.abc import Sequence

from redis.asyncio import Redis

from eventrouter.lane import Append, Claim, Item, Lane
from eventrouter.lanes import Lanes, Turn

CRM = Lane(0, "crm")


def append(*items: tuple[str, str], lane: str = "crm", count: str = "to:crm") -> Append:
    """Items of (lane key, data), one unit each."""
    return Append(lane, [(key, 1, data.encode()) for key, data in items], count)


async def begin(lanes: Lanes, *items: tuple[str, str], lane: Lane = CRM) -> Turn:
    """A turn of a lane that nobody served, with these items."""
    [claim] = await lanes.append(lane.shard, [append(*items, lane=lane.name, count=f"to:{lane.name}")])
    return await take(lanes, claim)


async def take(lanes: Lanes, claim: Claim) -> Turn:
    """The turn of a claim, which must be good."""
    turn = await lanes.begin(claim.lane, claim.token)
    assert turn is not None
    return turn


def texts(items: Sequence[Item]) -> list[str]:
    """The items' data."""
    return [item.data.decode() for item in items]


async def counts(redis: Redis, shard: int = 0) -> dict[str, int]:
    """The shard's counters of what became of events and deliveries; see `retries`, `shares`, `lags`."""
    return {
        field: number
        for field, number in (await _counts(redis, shard)).items()
        if "retried:" not in field and not field.startswith((*SHARES, "lag"))
    }


async def lags(redis: Redis, shard: int = 0) -> dict[str, int]:
    """How many deliveries were as old as that; see `eventrouter.lag`."""
    return {field: number for field, number in (await _counts(redis, shard)).items() if field.startswith("lag:")}


SHARES = ("accepted:", "duplicates:", "routed:", "unreadable:", "events:")


async def shares(redis: Redis, shard: int = 0) -> dict[str, int]:
    """The shard's counters of events by source, and by destination that was there."""
    return {field: number for field, number in (await _counts(redis, shard)).items() if field.startswith(SHARES)}


async def retries(redis: Redis, shard: int = 0) -> dict[str, int]:
    """How many failures are tried again, by destination and status: `crm:503`."""
    found = await _counts(redis, shard)
    return {field.removeprefix("retried:"): number for field, number in found.items() if "retried:" in field}


async def _counts(redis: Redis, shard: int) -> dict[str, int]:
    stored = await redis.hgetall(f"er:{{{shard}}}:counts")
    return {field.decode(): int(number) for field, number in stored.items()}


async def leftovers(redis: Redis, shard: int = 0) -> dict[str, object]:
    """What a shard at rest must not hold: claims, leases, parked keys, tries, pins, items, waiting units."""
    found: dict[str, object] = {}
    for raw in await redis.keys(f"er:{{{shard}}}:*"):
        key = raw.decode()
        kind = (await redis.type(key)).decode()
        if key.endswith(":turn"):
            turn = {field.decode(): value.decode() for field, value in (await redis.hgetall(key)).items()}
            if turn.pop("waiting", "0") != "0" or turn:
                found[key] = await redis.hgetall(key)
        elif kind == "stream" and ":park:" not in key and ":outcomes" not in key:
            if await redis.xlen(key):
                found[key] = await redis.xrange(key)
        elif ":seen" not in key and ":outcomes" not in key and not key.endswith((":counts", ":clock", ":again")):
            found[key] = kind
    return found


async def expire_lease(redis: Redis, lane: Lane) -> None:
    """Lets the lease of a lane be over."""
    await redis.zadd(f"er:{{{lane.shard}}}:leases", {lane.name: 1})


async def make_due(redis: Redis, lane: Lane, key: str) -> None:
    """Lets the next try of a parked key be now, and its lane's too if nobody serves it."""
    await redis.zadd(f"{lane.key}:parked", {key: 1}, xx=True)
    await redis.zadd(f"er:{{{lane.shard}}}:due", {lane.name: 1}, xx=True)


TIME = "redis.call('TIME')"


def on_test_clock(text: str) -> str:
    """The text of a step that reads the time where a `Clock` puts it."""
    assert 1 == text.count(TIME)
    return text.replace(TIME, "redis.call('HMGET', 'test:clock', 'seconds', 'micros')")


class Clock:
    """The time that steps see."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.ms = 1_700_000_000_000

    async def tick(self, ms: int = 0) -> None:
        """Moves the time on."""
        self.ms += ms
        await self._redis.hset("test:clock", mapping={"seconds": self.ms // 1000, "micros": self.ms % 1000 * 1000})
