"""Looks on: what becomes of events, as it happens. Reads only, and what it can't follow is counted."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from .counters import Snapshot, by_destination
from .events import StoredEvent
from .onlookers import CHANNEL, KEY, KEY_SECONDS, Row, Shown, What, decode
from .outcome_log import DEAD, DELIVERED, RETRY, Outcome, key_of, read_outcomes
from .outcome_log import decode as decode_outcomes

POLL_SECONDS = 0.25
RENEW_SECONDS = 3.0
STATE_SECONDS = 2.0
"""How often it is looked whether a destination has another state."""
PAGE = 200
"""Entries of the outcome log, for each shard, that are read at once."""
MOST_SHOWN = 1000
"""Messages of processes that are taken at once."""
KNOWN = 20_000
"""Events that are remembered, so that what becomes of them can be told apart."""
PATIENCE_SECONDS = 2.0
"""How long what became of an event waits for the event: processes may overtake one another."""

WHAT: dict[str, What] = {DELIVERED: "delivered", RETRY: "retried", DEAD: "dead"}


class Tail:
    """Iterates over lists of rows, some of them empty, for ever."""

    def __init__(self, redis: Redis, shards: int, look: Callable[[], Any], since_ms: int | None = None) -> None:
        """`look` reads a snapshot. Outcomes begin at `since_ms`, as far as they are kept, else now."""
        self._redis = redis
        self._shards = shards
        self._look = look
        self._since_ms = since_ms
        self._last: dict[int, str] = {}
        """The id of the last entry of each shard's outcome log."""
        self._later: list[Row] = []
        """Outcomes that are shown next time: what processes tell comes a little later than these can be read."""
        self._counts: dict[str, tuple[int, int]] = {}
        self._states: dict[str, tuple[str, str]] = {}
        self._state_at = self._renewed_at = -STATE_SECONDS
        self.processes: set[str] = set()
        """Those that have told that they show what they do, as `worker:HOST:PID`."""
        self.skipped = 0
        """Rows that a process could not show, or that were lost on the way."""
        self.skipped_bytes = 0
        """Bytes of the outcome log that were gone before they could be read."""
        self.problem = ""
        """Why nothing is seen, while Redis is away."""

    async def __aiter__(self) -> AsyncIterator[list[Row]]:
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(CHANNEL)
                    while True:
                        rows = await self._rows(pubsub)
                        self.problem = ""
                        yield rows
            except (RedisError, OSError, TimeoutError) as error:
                self.problem = str(error) or type(error).__name__
                yield []
                await asyncio.sleep(1.0)

    async def _rows(self, pubsub: Any) -> list[Row]:
        now = time.monotonic()
        if now - self._renewed_at >= RENEW_SECONDS:
            self._renewed_at = now
            await self._redis.set(KEY, "", px=int(KEY_SECONDS * 1000))
        rows = [] if self._last else await self._begin()
        message, taken = await pubsub.get_message(ignore_subscribe_messages=True, timeout=POLL_SECONDS), 0
        while message is not None:
            if (shown := decode(message["data"])) is not None:
                rows += self._take(shown)
            taken += 1
            message = None
            if taken < MOST_SHOWN:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=0.0)
        rows, self._later = [*rows, *self._later], await self._outcomes()
        if now - self._state_at >= STATE_SECONDS:
            self._state_at = now
            rows += self._states_of(await self._look())
        rows.sort(key=lambda row: row.at_ms)
        return rows

    def _take(self, shown: Shown) -> list[Row]:
        before = self._counts.get(shown.process)
        self._counts[shown.process] = shown.shown, shown.skipped
        self.processes.add(shown.process)
        if before is not None:
            lost = shown.shown - before[0] - len(shown.rows)
            self.skipped += max(lost, 0) + max(shown.skipped - before[1], 0)
        return shown.rows

    async def _begin(self) -> list[Row]:
        """Where each outcome log ends; what it holds since then."""
        rows: list[Row] = []
        for shard in range(self._shards):
            newest = await self._redis.xrevrange(key_of(shard), count=1)
            self._last[shard] = newest[0][0].decode() if newest else "0-0"
            if self._since_ms is None:
                continue
            async for page in read_outcomes(self._redis, shard):
                found = [one for data in page for one in decode_outcomes(data)]
                rows += [_row(one) for one in found if one.at_ms >= self._since_ms]
                if found and min(one.at_ms for one in found) < self._since_ms:
                    break
        return rows

    async def _outcomes(self) -> list[Row]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for shard, last in self._last.items():
                pipeline.xread({key_of(shard): last}, count=PAGE)
            answers = await pipeline.execute()
        rows: list[Row] = []
        for shard, streams in zip(self._last, answers, strict=True):
            for _, entries in streams or ():
                begins, ended = (int(id_.split("-")[0]) for id_ in (entries[0][0].decode(), self._last[shard]))
                gap = begins - ended - len(entries[0][1][b"d"]) - 40  # ids count bytes
                self.skipped_bytes += gap if ended and gap > 0 else 0
                self._last[shard] = entries[-1][0].decode()
                rows += [_row(one) for _, fields in entries for one in decode_outcomes(fields[b"d"])]
        return rows

    def _states_of(self, snapshot: Snapshot) -> list[Row]:
        """The destinations whose state is another than before, and at first those that are not well."""
        rows = []
        for name in snapshot.lanes:
            if name == "log":
                continue
            found = by_destination(snapshot, name)
            state, before = (found["state"], found["reason"]), self._states.get(name, ("ok", ""))
            self._states[name] = state
            if state[0] != before[0]:
                reason = ": ".join(filter(None, state))
                rows.append(Row(snapshot.now_ms, "state", destination=name, reason=reason))
        return rows


def _row(one: Outcome) -> Row:
    return Row(
        one.at_ms,
        WHAT.get(one.outcome, "retried"),
        one.source,
        message_id=one.message_id,
        destination=one.destination,
        reason=one.reason,
        class_=one.class_,
    )


class _Known(msgspec.Struct):
    type: str
    name: str | None
    matches: bool
    is_final: bool
    """Whether it was asked of the event as it was routed: enrichments may have added what makes it match."""


class Wanted:
    """Which rows are wanted. What became of an event is, when the event is; it is asked once it has come."""

    def __init__(
        self,
        *,
        sources: Collection[str] = (),
        types: Collection[str] = (),
        names: Collection[str] = (),
        destinations: Collection[str] = (),
        whats: Collection[str] = (),
        condition: Callable[[StoredEvent], bool] | None = None,
    ) -> None:
        """Empty: all of them. `whats` are kinds of rows, `names` those of events."""
        self._sources, self._types, self._names = sources, types, names
        self._destinations, self._whats = destinations, whats
        self._condition = condition
        self._asks = bool(types or names or condition)
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._held: deque[tuple[float, Row]] = deque()
        self.unknown = 0
        """Rows that were left out since their event was never seen: it came before."""

    def take(self, rows: Sequence[Row], now: float) -> Iterator[Row]:
        """Those to be shown now, in order; some are held until their event has come. `now` is in seconds."""
        held, self._held = self._held, deque()
        for row in rows:
            yield from self._judge(row, now + PATIENCE_SECONDS)
        for until, row in held:
            if until > now:
                yield from self._judge(row, until)
            elif (row.source, row.message_id) not in self._known:
                self.unknown += 1

    def _judge(self, row: Row, until: float) -> Iterator[Row]:
        if row.event is not None and row.what in ("accepted", "routed"):
            self._learn(row)
        key = row.source, row.message_id
        known = self._known.get(key)
        if known is not None:
            row.type, row.name = row.type or known.type, row.name or known.name
        if row.what == "routed":
            filtered = {"at_ms": row.at_ms, "what": "filtered", "event": None, "to": [], "filtered": {}}
            for destination, reason in row.filtered.items():
                part = msgspec.structs.replace(row, **filtered, destination=destination, reason=reason)
                yield from self._judge(part, until)
        if not self._fits(row):
            return
        if not self._asks or (known is not None and known.matches):
            yield row
        elif row.what not in ("rejected", "state", "accepted") and (known is None or not known.is_final):
            self._held.append((until, row))

    def _learn(self, row: Row) -> None:
        key = row.source, row.message_id
        before = self._known.get(key)
        matches = (before is not None and before.matches) or (
            (not self._types or row.type in self._types)
            and (not self._names or row.name in self._names)
            and (self._condition is None or self._condition(StoredEvent(row.source, row.event)))
        )
        self._known[key] = _Known(row.type, row.name, matches, row.what == "routed")
        self._known.move_to_end(key)
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)

    def _fits(self, row: Row) -> bool:
        """By what the row itself tells."""
        return (
            (not self._whats or row.what in self._whats)
            and (not self._destinations or row.destination in self._destinations)
            and (not self._sources or row.source in self._sources)
        )
