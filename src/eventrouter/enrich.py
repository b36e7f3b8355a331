"""The router's turn at a shard's log: drop duplicates, enrich, route, and move on to the lanes in one atomic step."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol

from .enrichments import Enrichments
from .errors import Retry
from .events import StoredEvent, event_digest
from .lane import Claim, Item, Removal, Seen
from .lanes import Lanes, Turn
from .lease import TurnLease
from .log_entry import decode_each
from .moves import Moves, Routed
from .onlookers import Onlookers
from .outcome_log import dead_entries
from .records import DeadLetter, RejectedEvent
from .room import room as room_for
from .server_time import now_ms
from .stored import NewerFormatError, UnreadableError
from .turn_failures import tell
from .unreadable import refusal

LINGER_SECONDS = 1.0
"""How long a turn waits at an empty log before it gives the claim back."""
TURN_SECONDS = 60.0
"""After so long a turn lets others in."""
SHARED_SECONDS = 5.0
"""The same, while turns wait for a place: another worker may have one."""
PLACES = 8
"""How many turns of a worker have events in hand at once."""
BATCH_EVENTS = 1000
"""Events that are routed at once, about."""
NEWER_SECONDS = 30.0
"""How long a log waits whose next entry is for a newer version."""
READ_BYTES = 4_000_000
"""What one read takes at most, about."""
ROUTED_BYTES = 16_000_000
"""What a batch appends to the lanes, about: where an event goes to many of them, less is read."""
SETTLED_BYTES = 4_000_000
"""What one settlement appends, about; twice as much at most, if a single entry of the log doesn't make more."""
BYTES_PER_ID = 54
"""What a remembered id costs in Valkey."""


@dataclass(slots=True)
class Rules:
    """The rules in force: what a batch is routed with. Swapped as a whole, between batches."""

    version: str
    route: Callable[[Sequence[StoredEvent]], Routed]
    backlogs: Mapping[str, int]
    """For each destination how many of its deliveries may wait, over all shards."""
    window: float
    """Seconds that ids are remembered."""
    dedup_bytes: int
    """Memory for remembered ids, over all shards."""
    mismatches: Callable[[], int] = int
    """How often conditions met values of the wrong types, so far."""


class Spans(Protocol):
    """The spans of a batch, where there are traces."""

    def end(self, kept: Sequence[StoredEvent]) -> None:
        """The batch is settled; `kept` is what is left of it without duplicates."""


Entry = Sequence[StoredEvent | UnreadableError]


@dataclass(slots=True)
class _Batch:
    """What was read, without what is for a newer version."""

    items: Sequence[Item]
    entries: Sequence[Entry]
    """What each item holds."""
    digests: list[bytes]
    """Of the events that are no duplicates."""
    ends: Sequence[int]
    """How many of these there are before the first item, up to the end of the first, of the second, and so on."""
    kept: Sequence[StoredEvent] = ()
    """They themselves, enriched."""


class RouterTurn:
    """One turn of one shard's log. `run` serves it; a turn is used once."""

    def __init__(
        self,
        turn: Turn,
        lanes: Lanes,
        shards: int,
        rules: Callable[[], Rules],
        enrichments: Enrichments,
        enqueue: Callable[[Sequence[Claim]], Awaitable[None]],
        stopping: asyncio.Event,
        dropped: Callable[[DeadLetter], None] | None = None,
        onlookers: Onlookers | None = None,
        traced: Callable[[int, Sequence[StoredEvent]], Spans] | None = None,
        places: asyncio.Semaphore | None = None,
    ) -> None:
        """`places` are those of the worker: who waits for events has none."""
        self._turn = turn
        self._lanes = lanes
        self._shards = shards
        self._rules = rules
        self._enrichments = enrichments
        self._enqueue = enqueue
        self._stopping = stopping
        self._dropped = dropped
        self._onlookers = onlookers
        self._traced = traced
        self._shard = turn.lane.shard
        self._places = places or asyncio.Semaphore()
        self._most = READ_BYTES
        """What is read at most, for want of memory."""
        self._growth = 0.0
        """How many bytes were appended for each of the log, of late."""

    async def run(self) -> Claim | None:
        """Serves the log until it is empty (None) or another turn has to go on (its claim).

        Returns None too when another turn took over. Whatever else it raises, the sweep repairs.
        """
        async with TurnLease(self._turn):
            return await self._serve()
        return None

    async def _serve(self) -> Claim | None:
        began = time.monotonic()
        lingered = False
        while not self._stopping.is_set() and time.monotonic() - began < self._seconds():
            async with self._places:
                if self._stopping.is_set():
                    break
                batch = await self._turn.read(units=BATCH_EVENTS, size=self._read_bytes(), give_back=lingered)
                if batch.status == "idle":
                    return None
                if batch.items:
                    try:
                        await self._route(batch.items)
                    except Retry as away:
                        wait = away.after if away.after is not None else 1.0
                        await tell(self._turn, str(away), wait)
                        return await self._turn.give_up(wait)
            lingered = not batch.items
            if lingered:
                await self._turn.wait(batch.last_id, LINGER_SECONDS)
        return await self._turn.give_up()

    def _seconds(self) -> float:
        return SHARED_SECONDS if self._places.locked() else TURN_SECONDS

    def _read_bytes(self) -> int:
        growth = self._growth or 1 + len(self._rules().backlogs)
        return min(self._most, READ_BYTES, int(ROUTED_BYTES / growth))

    async def _route(self, items: Sequence[Item]) -> None:
        rules = self._rules()
        entries = _entries(items)
        events = _readable(entries)
        digests = [event_digest(event.source, event.event["messageId"]) for event in events]
        destinations = list(rules.backlogs)
        seen, waiting, memory = await self._lanes.look(self._shard, digests, destinations)
        number, cut = room_for(memory, self._shards, destinations, items)
        if not number:
            used = memory.used * 100 // memory.limit
            raise Retry(f"the server's memory is {used} % full; the warehouse has to drain first", after=1.0)
        items = items[: min(number, len(entries))]
        if len(items) < len(entries):
            events = _readable(entries[:number])
        # While memory is short, nothing is read that then has to be left.
        self._most = sum(len(item.data) for item in items) * 2 if len(items) < len(entries) else READ_BYTES
        entries = entries[: len(items)]
        spans = self._traced(self._shard, events) if self._traced is not None else None
        fresh: dict[bytes, StoredEvent] = {}
        ends = [0]
        looked = zip(digests, seen, events, strict=False)
        for entry in entries:
            for digest, known, event in islice(looked, len(_readable([entry]))):
                if not known:
                    fresh.setdefault(digest, event)
            ends.append(len(fresh))
        batch = _Batch(items, entries, list(fresh), ends)
        batch.kept, records, failures = await self._enrichments.run(self._shard, list(fresh.values()))
        room = {
            name: max(max(rules.backlogs[name] // self._shards, 1) - there, 0)
            for name, there in zip(destinations, waiting, strict=True)
        }
        first, kept = 0, True
        while first < len(items):
            moves = Moves(rules.version, room, cut)
            moves.records += records
            moves.counts.update(failures)
            last = self._fill(moves, rules, batch, first)
            await self._settle(moves, rules, batch, first, last, keep=bool(records))
            kept = kept and self._turn.kept
            first, records, failures = last, [], Counter()
        if kept:  # else the records come once more, with a later batch
            await self._enrichments.settled(self._shard)
        if spans is not None:
            spans.end(batch.kept)
        if self._onlookers is not None and self._onlookers.present:
            self._onlookers.routed(events, batch.kept, rules.route)

    def _fill(self, moves: Moves, rules: Rules, batch: _Batch, first: int) -> int:
        """Routes the items from `first` on, until that is enough for a settlement; returns where it goes on.

        Each time only as much as could not become too much if every event went to every destination.
        """
        last, size = first, 0
        mismatches = rules.mismatches()
        while last < len(batch.items) and moves.bytes + size < SETTLED_BYTES:
            most = SETTLED_BYTES / max(self._growth, 1 + len(rules.backlogs))
            end = _fitting(batch.items, last, most)
            read, before = sum(len(item.data) for item in batch.items[last:end]), moves.bytes
            part = batch.kept[batch.ends[last] : batch.ends[end]]
            moves.add(part, rules.route(part))
            self._growth = 1 + (moves.bytes - before) / max(read, 1)
            last, size = end, size + read
        moves.counts["mismatches"] += rules.mismatches() - mismatches
        return last

    async def _settle(self, moves: Moves, rules: Rules, batch: _Batch, first: int, last: int, *, keep: bool) -> None:
        """Takes the items from `first` to before `last` out of the log, and appends what they lead to."""
        items, entries = batch.items[first:last], batch.entries[first:last]
        events = _readable(entries)
        new = slice(batch.ends[first], batch.ends[last])
        moves.records += _refusals(self._shard, items, entries)
        if sum(item.units for item in items) != len(events):
            for item, entry in zip(items, entries, strict=True):
                moves.count_unreadable(item.units, item.data, _readable([entry]))
        moves.count(events, batch.kept[new], list(rules.backlogs))
        claims, _ = await self._turn.settle(
            [Removal(item, "log_out") for item in items],
            appends=moves.appends(),
            counts=+moves.counts,
            outcomes=dead_entries(now_ms(), moves.letters) if moves.letters and self._lanes.outcome_bytes else (),
            seen=Seen(
                batch.digests[new],
                int(rules.window * 1000),
                max(rules.dedup_bytes // BYTES_PER_ID // self._shards, 4),
            ),
            keep=keep,
        )
        if claims:
            await self._enqueue(claims)
        if self._dropped is not None:
            for record in moves.letters:
                self._dropped(record)


def _entries(items: Sequence[Item]) -> list[Entry]:
    """What each item holds, up to one for a newer version. Raises `Retry` when that is the first."""
    entries: list[Entry] = []
    for item in items:
        try:
            entries.append(decode_each(item.data))
        except UnreadableError as error:
            entries.append([error])
        except NewerFormatError as error:
            if not entries:
                raise Retry(str(error), after=NEWER_SECONDS) from error
            break
    return entries


def _fitting(items: Sequence[Item], first: int, most: float) -> int:
    """The end of the items from `first` on that have `most` bytes together; one at least."""
    size = 0
    for number in range(first, len(items)):
        size += len(items[number].data)
        if size > most and number > first:
            return number
    return len(items)


def _readable(entries: Sequence[Entry]) -> list[StoredEvent]:
    return [one for one in chain(*entries) if isinstance(one, StoredEvent)]


def _refusals(shard: int, items: Sequence[Item], entries: Sequence[Entry]) -> list[RejectedEvent]:
    """What can't be read of `items`, for the warehouse."""
    return [
        refusal(one, f"{shard}:log", item.id, part)
        for item, entry in zip(items, entries, strict=True)
        for part, one in enumerate(entry)
        if isinstance(one, UnreadableError)
    ]
