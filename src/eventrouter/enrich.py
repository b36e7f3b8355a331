"""The router's turn at a shard's log: drop duplicates, enrich, route, and move on to the lanes in one atomic step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from .enrichments import Enrichments
from .errors import Retry
from .events import StoredEvent, event_digest
from .lane import Claim, Item, Removal, Seen
from .lanes import Lanes, Turn
from .lease import Lease
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
BATCH_EVENTS = 1000
"""Events that are routed at once, about."""
NEWER_SECONDS = 30.0
"""How long a log waits whose next entry is for a newer version."""
READ_BYTES = 4_000_000
"""What one read takes at most, about."""
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
    ) -> None:
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
        self._read_bytes = READ_BYTES

    async def run(self) -> Claim | None:
        """Serves the log until it is empty (None) or another turn has to go on (its claim).

        Returns None too when another turn took over. Whatever else it raises, the sweep repairs.
        """
        async with Lease(self._turn):
            return await self._serve()
        return None

    async def _serve(self) -> Claim | None:
        ends = time.monotonic() + TURN_SECONDS
        lingered = False
        while not self._stopping.is_set() and time.monotonic() < ends:
            batch = await self._turn.read(units=BATCH_EVENTS, size=self._read_bytes, give_back=lingered)
            if batch.status == "idle":
                return None
            if batch.items:
                try:
                    await self._route(batch.items)
                except Retry as away:
                    wait = away.after if away.after is not None else 1.0
                    await tell(self._turn, str(away), wait)
                    return await self._turn.give_up(wait)
                lingered = False
            else:
                await self._turn.wait(batch.last_id, LINGER_SECONDS)
                lingered = True
        return await self._turn.give_up()

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
        self._read_bytes = sum(len(item.data) for item in items) * 2 if len(items) < len(entries) else READ_BYTES
        spans = self._traced(self._shard, events) if self._traced is not None else None
        fresh: dict[bytes, StoredEvent] = {}
        for digest, known, event in zip(digests, seen, events, strict=False):
            if not known:
                fresh.setdefault(digest, event)
        kept, records, failures = await self._enrichments.run(self._shard, list(fresh.values()))
        room = {
            name: max(max(rules.backlogs[name] // self._shards, 1) - there, 0)
            for name, there in zip(destinations, waiting, strict=True)
        }
        moves = Moves(rules.version, room, cut)
        mismatches = rules.mismatches()
        moves.add(kept, rules.route(kept))
        moves.records += [*records, *_refusals(self._shard, items, entries)]
        moves.counts["mismatches"] += rules.mismatches() - mismatches
        if sum(item.units for item in items) != len(events):
            for item, entry in zip(items, entries, strict=False):
                moves.count_unreadable(item.units, item.data, _readable([entry]))
        moves.counts.update(failures)
        moves.count(events, kept, destinations)
        claims, _ = await self._turn.settle(
            [Removal(item, "log_out") for item in items],
            appends=moves.appends(),
            counts=+moves.counts,
            outcomes=dead_entries(now_ms(), moves.letters) if moves.letters and self._lanes.outcome_bytes else (),
            seen=Seen(list(fresh), int(rules.window * 1000), max(rules.dedup_bytes // BYTES_PER_ID // self._shards, 4)),
            keep=bool(records),
        )
        if claims:
            await self._enqueue(claims)
        if self._turn.kept:  # else the records come once more, with a later batch
            await self._enrichments.settled(self._shard)
        if spans is not None:
            spans.end(kept)
        if self._onlookers is not None and self._onlookers.present:
            self._onlookers.routed(events, kept, rules.route)
        if self._dropped is not None:
            for record in moves.letters:
                self._dropped(record)


Entry = Sequence[StoredEvent | UnreadableError]


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


def _readable(entries: Sequence[Entry]) -> list[StoredEvent]:
    return [one for one in chain(*entries) if isinstance(one, StoredEvent)]


def _refusals(shard: int, items: Sequence[Item], entries: Sequence[Entry]) -> list[RejectedEvent]:
    """What can't be read of `items`, for the warehouse."""
    return [
        refusal(one, f"{shard}:log", item.id, part)
        for item, entry in zip(items, entries, strict=False)
        for part, one in enumerate(entry)
        if isinstance(one, UnreadableError)
    ]
