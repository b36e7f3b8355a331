"""The deep audit: the ids that Redis remembers as routed, compared with those in the warehouse.

The router remembers an id in the very step that puts its event into the warehouse's lane. So each id that is remembered
has to be in that lane, or in the warehouse: what is looked at in this order, ids first, leaves no gap while events move
on. The warehouse has each identity once, by the key of `events`. Of what is no longer remembered nothing can be told.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec

from .events import event_digest
from .lane import Lane
from .lanes import Lanes
from .records import DeadLetter, EventRecord, unpack_each
from .stored import FAULTS
from .times import write_time
from .unreadable import CODE
from .warehouse import EventId, Warehouse

PAGE = 2000
"""Ids that are looked at at once: memory doesn't grow with their number, the rest lies in a temporary file."""
SKEW = timedelta(hours=1)
"""How far the clocks of collectors and of Redis may be apart."""
BACK = timedelta(days=30)
"""So much earlier than it was routed an event may have been received: it waited in a spool, or in the log."""
EXAMPLES = 5
REFUSED = ("warehouse_refused", CODE)
"""Codes of `rejected_events` under which the warehouse keeps what it can't load."""


class Comparison(msgspec.Struct):
    """What was compared, in numbers of events."""

    since: str
    """Ids that were routed from then on (ISO 8601): a part of those that are remembered begins there."""
    until: str
    compared: int = 0
    """Ids that Redis remembers."""
    on_the_way: int = 0
    """Of these: in the warehouse's lane."""
    stored: int = 0
    """In the warehouse."""
    refused: int = 0
    """In `rejected_events`, since the warehouse can't hold them."""
    missing: int = 0
    """Nowhere. Which they are nobody knows: of ids digests are remembered."""
    strangers: int = 0
    """Events of that time in the warehouse that Redis doesn't remember."""
    examples: list[EventId] = []
    """Some of them."""
    dead_letters: dict[str, tuple[int, int]] = {}
    """By `DESTINATION:CLASS`: dead letters in the warehouse and on the way there."""


Progress = Callable[[int, int], None]
"""Told how many ids are done, of how many."""


class Ids:
    """A set of digests in a temporary file."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        for statement in (
            *("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", "PRAGMA cache_size = -32768"),
            "CREATE TABLE ids (digest BLOB PRIMARY KEY) WITHOUT ROWID",
        ):
            self._connection.execute(statement)
        self.left = 0

    def close(self) -> None:
        """Removes the file."""
        self._connection.close()

    def add(self, digests: Iterable[bytes]) -> None:
        """Adds those that aren't there yet."""
        rows = [(digest,) for digest in digests]
        self._connection.execute("BEGIN")
        self.left += self._connection.executemany("INSERT OR IGNORE INTO ids VALUES (?)", rows).rowcount
        self._connection.execute("COMMIT")

    def take(self, digests: Sequence[bytes]) -> set[bytes]:
        """Takes out those of `digests` that are there, and returns them."""
        found: set[bytes] = set()
        for first in range(0, len(digests), 500):
            some = digests[first : first + 500]
            query = f"SELECT digest FROM ids WHERE digest IN ({', '.join('?' * len(some))})"
            found.update(row[0] for row in self._connection.execute(query, some))
        self._connection.execute("BEGIN")
        self._connection.executemany("DELETE FROM ids WHERE digest = ?", [(digest,) for digest in found])
        self._connection.execute("COMMIT")
        self.left -= len(found)
        return found


async def compare(
    lanes: Lanes,
    shards: int,
    warehouse: Warehouse,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    progress: Progress = lambda done, total: None,
) -> Comparison:
    """Compares the ids that were routed between `since` and `until`, rounded out to the parts that are remembered.

    Without them: all that is remembered. Raises `redis.RedisError`, and what the warehouse raises when it is away.
    """
    with closing(Ids()) as ids:
        return await _Run(lanes, shards, warehouse, ids, progress).run(since, until)


class _Run:
    def __init__(self, lanes: Lanes, shards: int, warehouse: Warehouse, ids: Ids, progress: Progress) -> None:
        self._redis = lanes.redis
        self._shards = shards
        self._warehouse = warehouse
        self._ids = ids
        self._progress = progress
        self._found = Comparison("", "")
        self._letters: Counter[tuple[str, str]] = Counter()

    async def run(self, since: datetime | None, until: datetime | None) -> Comparison:
        found = self._found
        first, last = await self._remembered(since, until)
        found.since, found.until = _written(first), _written(last)
        found.compared = self._ids.left
        for shard in range(self._shards):
            async for digests in self._lane(shard):
                found.on_the_way += self._took(digests)
        await self._scan(first, None if until is None else last + SKEW)
        if self._ids.left:
            await self._look_among_refused()
        found.missing = self._ids.left
        stored = await self._warehouse.count_dead_letters()
        for one in stored.keys() | self._letters.keys():
            found.dead_letters[":".join(one)] = (stored.get(one, 0), self._letters[one])
        return found

    def _took(self, digests: Sequence[bytes]) -> int:
        number = len(self._ids.take(digests))
        self._progress(self._found.compared - self._ids.left, self._found.compared)
        return number

    async def _remembered(self, since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
        """Reads the ids; returns since when, and until when, those were routed that were read."""
        now = datetime.now(UTC)
        begins, ends = [], []
        for shard in range(self._shards):
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.lrange(f"er:{{{shard}}}:seen", 0, -1)
                (starts,) = await pipeline.execute()
            times = [_time(int(start)) for start in starts]
            for start, (begin, end) in zip(starts, pairwise([*times, max([now, *times])]), strict=True):
                if (since is None or end > since) and (until is None or begin < until):
                    begins.append(begin)
                    ends.append(end)
                    await self._read_part(f"er:{{{shard}}}:seen:{start.decode()}")
        return min(begins, default=since or now), max(ends, default=until or now)

    async def _read_part(self, key: str) -> None:
        cursor = 0
        while True:
            cursor, digests = await self._redis.sscan(key, cursor, count=PAGE)
            self._ids.add(digests)
            if not cursor:
                return

    async def _lane(self, shard: int) -> AsyncIterator[list[bytes]]:
        """The digests of the events in the warehouse's lane; counts its dead letters by the way."""
        after = "-"
        while rows := await self._redis.xrange(Lane(shard, "warehouse").key, min=after, count=20):
            after = "(" + rows[-1][0].decode()
            digests = []
            for _, fields in rows:
                try:
                    records = unpack_each(fields[b"d"])
                except FAULTS:
                    continue
                for record in records:
                    if isinstance(record, EventRecord):
                        digests.append(event_digest(record.source, str(record.event.get("messageId"))))
                    elif isinstance(record, DeadLetter):
                        self._letters[record.destination, record.class_] += 1
            yield digests

    async def _scan(self, first: datetime, until: datetime | None) -> None:
        """Looks through the warehouse, the newest events first, until all ids are found and `first` is reached."""
        after: EventId | None = None
        reached, ends = _written(first), _written(first - BACK)
        while page := await self._warehouse.scan_ids(until=until, limit=PAGE, after=after):
            after = page[-1]
            by_digest = {event_digest(one.source, one.message_id): one for one in page}
            before = self._ids.left
            known = self._ids.take(list(by_digest))
            self._found.stored += before - self._ids.left
            self._progress(self._found.compared - self._ids.left, self._found.compared)
            await self._look_for_strangers({digest: one for digest, one in by_digest.items() if digest not in known})
            if after.received_at < (ends if self._ids.left else reached):
                return

    async def _look_for_strangers(self, rest: dict[bytes, EventId]) -> None:
        """What was received since ids are remembered, and is not remembered (any more, or yet), never was routed."""
        if not rest:
            return
        digests = list(rest)
        async with self._redis.pipeline(transaction=False) as pipeline:
            for shard in range(self._shards):
                pipeline.lrange(f"er:{{{shard}}}:seen", 0, -1)
            parts = await pipeline.execute()
            for shard, starts in enumerate(parts):
                for start in starts:
                    pipeline.smismember(f"er:{{{shard}}}:seen:{start.decode()}", digests)
            flags = await pipeline.execute()
        oldest = [_time(int(starts[0])) for starts in parts if starts]
        if not oldest:
            return
        since = _written(max(oldest) + SKEW)
        for number, one in enumerate(rest.values()):
            if one.received_at >= since and not any(row[number] for row in flags):
                self._found.strangers += 1
                if len(self._found.examples) < EXAMPLES:
                    self._found.examples.append(one)

    async def _look_among_refused(self) -> None:
        for code in REFUSED:
            after = ""
            while rows := await self._warehouse.find_rejected(code=code, limit=PAGE, after=after):
                after = rows[-1]["id"]
                wanted = [(row["source"], row["message_id"]) for row in rows if row["message_id"]]
                self._found.refused += self._took([event_digest(*one) for one in wanted])


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _written(moment: datetime) -> str:
    return write_time(moment.astimezone(UTC).replace(tzinfo=None))
