"""Feeds what operators send again into the lanes, behind what waits there: live deliveries are not held up by it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from .config_model import DestinationConfig
from .lane import Claim, Lane
from .lanes import Lanes
from .once import Piece, do_once

POLL_SECONDS = 0.05
"""How often it is looked whether there is room."""
TELL_SECONDS = 2.0
"""After so long without room it is told, and then again and again."""
AT_ONCE = 500
"""Pieces of one step, at most."""


class Work(NamedTuple):
    """A piece of work and where it belongs."""

    shard: int
    destination: str
    """Whose lane has to have room; empty: it needs none."""
    piece: Piece


def room_of(config: DestinationConfig, shards: int) -> int:
    """How many deliveries may lie in one lane of a destination: those that go at once, or within a second."""
    most = config.batch_size * (config.concurrency if config.calls is None else config.calls // shards or 1)
    if config.rate_limit is not None:
        most = min(most, int(config.rate_limit.count / config.rate_limit.per_seconds / shards))
    return max(most, 1)


class Feed:
    """Called with work, it returns when all of that is done or was done before."""

    def __init__(
        self,
        lanes: Lanes,
        shards: int,
        destinations: Mapping[str, DestinationConfig],
        enqueue: Callable[[Sequence[Claim]], Awaitable[None]],
        *,
        rate: float | None = None,
        waiting: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """`rate` bounds the deliveries of a second; `waiting` is told the destination whose lanes have no room."""
        self._lanes = lanes
        self._room = {name: room_of(one, shards) for name, one in destinations.items()}
        self._enqueue = enqueue
        self._rate = rate
        self._waiting = waiting
        self._next_at = 0.0
        """When the next delivery may go."""

    async def __call__(self, work: Sequence[Work]) -> list[bool]:
        """Whether each piece was done now, and not before. Raises what `do_once` raises."""
        done = [False] * len(work)
        left: dict[tuple[int, str], deque[int]] = {}
        for number, one in enumerate(work):
            left.setdefault((one.shard, one.destination), deque()).append(number)
        moved = time.monotonic()
        while left:
            some_moved = False
            for place, room in (await self._rooms(list(left))).items():
                numbers = self._take(left[place], room, rated=place[1] != "")
                if not numbers:
                    continue
                some_moved = True
                claims, flags = await do_once(self._lanes, place[0], [work[number].piece for number in numbers])
                await self._enqueue(claims)
                for number, flag in zip(numbers, flags, strict=True):
                    done[number] = flag
                if not left[place]:
                    del left[place]
            if some_moved:
                moved = time.monotonic()
            elif self._waiting is not None and time.monotonic() - moved >= TELL_SECONDS:
                moved = time.monotonic()
                await self._waiting(next(iter(left))[1])
            if left:
                await asyncio.sleep(POLL_SECONDS)
        return done

    async def _rooms(self, places: Sequence[tuple[int, str]]) -> dict[tuple[int, str], int]:
        """How much may go there now. What is parked doesn't count: it may stay so for days."""
        async with self._lanes.redis.pipeline(transaction=False) as pipeline:
            for shard, name in places:
                pipeline.xlen(Lane(shard, name).key)
            lengths = await pipeline.execute()
        return {
            (shard, name): max(self._room.get(name, 1) - length, 0) if name else AT_ONCE
            for (shard, name), length in zip(places, lengths, strict=True)
        }

    def _take(self, left: deque[int], room: int, *, rated: bool) -> list[int]:
        number = min(len(left), room, AT_ONCE)
        if rated and self._rate is not None:
            now = time.monotonic()
            self._next_at = max(self._next_at, now - 2 * POLL_SECONDS)
            number = min(number, max(int((now - self._next_at) * self._rate) + 1, 0) if self._next_at <= now else 0)
            self._next_at += number / self._rate
        return [left.popleft() for _ in range(number)]
