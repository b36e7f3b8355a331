"""A look for one event in the lanes: what waits of it, and where. Reads only, within bounds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Redis

from .lane import Item, Lane

MOST_BYTES = 64_000_000
"""So much of one lane is looked through, from its head on."""
PAGE, LARGEST_PAGE, PAGE_BYTES = 20, 1000, 1_000_000
"""Items that are read at once: at first, at most, and what they should come to."""


class Found(NamedTuple):
    """An item in whose data the id is."""

    lane: Lane
    item: Item
    next_try_ms: int
    """When its parked key is due; 0: it is not parked."""


class LaneSearch:
    """Searches lanes for the messageId of an event; whether it is really that event's, the caller has to see."""

    def __init__(self, redis: Redis, message_id: str, *, most_bytes: int = 0) -> None:
        """Of each lane `most_bytes` are looked through; by default `MOST_BYTES`."""
        self._redis = redis
        # In lanes everything is JSON, with the same escapes as here.
        self._needle = msgspec.json.encode(message_id)[1:-1]
        self._most_bytes = most_bytes or MOST_BYTES
        self.cut: list[Lane] = []
        """Lanes of which only the beginning was looked through."""

    async def find(self, lane: Lane, keys: Iterable[str] = ()) -> list[Found]:
        """What waits in a lane: parked under one of these lane keys, or in its stream. Raises `redis.RedisError`."""
        found = [one for key in keys for one in await self._parked(lane, key)]
        after, page, left = "-", PAGE, self._most_bytes
        while rows := await self._redis.xrange(lane.key, min=after, count=page):
            found += [self._found(lane, row) for row in rows if self._needle in row[1][b"d"]]
            size = sum(len(row[1][b"d"]) for row in rows)
            after, left = "(" + rows[-1][0].decode(), left - size
            if left <= 0:
                self.cut.append(lane)
                break
            page = min(LARGEST_PAGE, page * 2) if size < PAGE_BYTES else max(page // 2, 1)
        return [one._replace(item=await self._with_tries(one)) for one in found]

    async def _parked(self, lane: Lane, key: str) -> list[Found]:
        due = await self._redis.zscore(f"{lane.key}:parked", key)
        if due is None:
            return []
        rows = await self._redis.xrange(f"{lane.key}:park:{key}", count=LARGEST_PAGE)
        return [self._found(lane, row, int(due)) for row in rows if self._needle in row[1][b"d"]]

    def _found(self, lane: Lane, row: tuple[bytes, dict[bytes, bytes]], due: int = 0) -> Found:
        fields = row[1]
        item = Item(row[0].decode(), due > 0, fields[b"k"].decode(), int(fields[b"n"]), fields[b"d"])
        return Found(lane, item, due)

    async def _with_tries(self, one: Found) -> Item:
        pending: Any = self._redis.hget(f"{one.lane.key}:tries", one.item.id)
        return msgspec.structs.replace(one.item, tries=await pending or b"")
