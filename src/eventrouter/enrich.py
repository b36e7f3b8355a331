"""The router's turn at a shard's log: drop duplicates, enrich, route, and move on to the lanes in one atomic step."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import msgspec

from .delivery import FORMAT, Delivery, encode
from .enrichments import Enrichments
from .errors import Retry
from .events import Event, StoredEvent, event_digest, event_name, lane_key, order_key
from .lane import Append, Claim, Item, Removal, Seen
from .lanes import Lanes, Turn
from .lease import Lease
from .log_entry import decode_each
from .records import AnyRecord, DeadLetter, EventRecord, RejectedEvent, pack
from .room import room as room_for
from .stored import NewerFormatError, UnreadableError
from .turn_failures import tell
from .unreadable import refusal

LINGER_SECONDS = 1.0
"""How long a turn waits at an empty log before it gives the claim back."""
TURN_SECONDS = 60.0
"""After so long a turn lets others in."""
BATCH_EVENTS = 1000
"""Events that are routed at once, about."""
PACK_RECORDS = 200
"""Records in one item of the warehouse's lane."""
PACK_BYTES = 512 * 1024
NEWER_SECONDS = 30.0
"""How long a log waits whose next entry is for a newer version."""
READ_BYTES = 4_000_000
"""What one read takes at most, about."""
BYTES_PER_ID = 54
"""What a remembered id costs in Valkey."""


class RoutedDelivery(Protocol):
    """One delivery as the rules made it; `index` is the event's position in the batch."""

    @property
    def destination(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def data(self) -> msgspec.Raw:
        """The payload as JSON."""

    @property
    def route(self) -> str: ...


class Routed(Protocol):
    """What the rules made of a batch."""

    @property
    def deliveries(self) -> Sequence[RoutedDelivery]: ...
    @property
    def failed(self) -> Sequence[tuple[str, int, str, str]]:
        """(destination, position in the batch, route, reason)."""

    @property
    def filtered(self) -> Mapping[tuple[str, str], int]:
        """How many events by (destination, reason)."""


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
    ) -> None:
        self._turn = turn
        self._lanes = lanes
        self._shards = shards
        self._rules = rules
        self._enrichments = enrichments
        self._enqueue = enqueue
        self._stopping = stopping
        self._dropped = dropped
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
        fresh: dict[bytes, StoredEvent] = {}
        for digest, known, event in zip(digests, seen, events, strict=False):
            if not known:
                fresh.setdefault(digest, event)
        kept, records, failures = await self._enrichments.run(self._shard, list(fresh.values()))
        room = {
            name: max(max(rules.backlogs[name] // self._shards, 1) - there, 0)
            for name, there in zip(destinations, waiting, strict=True)
            if name not in cut
        }
        step = _Step(rules, room)
        mismatches = rules.mismatches()
        step.add(kept, rules.route(kept))
        step.counts["mismatches"] += rules.mismatches() - mismatches
        step.records += [*records, *_refusals(self._shard, items, entries)]
        step.counts["unreadable"] += sum(item.units for item in items) - len(events)
        step.counts.update(failures)
        step.counts["routed"] += len(kept)
        step.counts["duplicates"] += len(events) - len(kept)
        claims, _ = await self._turn.settle(
            [Removal(item, "log_out") for item in items],
            appends=step.appends(),
            counts=+step.counts,
            seen=Seen(list(fresh), int(rules.window * 1000), max(rules.dedup_bytes // BYTES_PER_ID // self._shards, 4)),
        )
        if claims:
            await self._enqueue(claims)
        await self._enrichments.settled(self._shard)
        if self._dropped is not None:
            for record in step.letters:
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


class _Step:
    """Gathers what one batch leads to."""

    def __init__(self, rules: Rules, room: dict[str, int]) -> None:
        self._rules = rules
        self._room = room
        self._lanes: dict[str, list[tuple[str, int, bytes]]] = {}
        self.letters: list[DeadLetter] = []
        self.records: list[AnyRecord] = []
        self.counts: Counter[str] = Counter()

    def add(self, events: Sequence[StoredEvent], routed: Routed) -> None:
        """The deliveries and dead letters of routed events, and the events themselves for the warehouse."""
        version = self._rules.version
        now_ms = int(time.time() * 1000)
        keys = [lane_key(order_key(event.event)) for event in events]
        self.records += [
            EventRecord(source=event.source, event=event.event, person_id=_person(event.event), rules=version)
            for event in events
        ]
        for one in routed.deliveries:
            event = events[one.index]
            name = one.destination
            if self._room.get(name, 0) <= 0:
                self._letter(event, name, one.route, "backlog_full", "the destination's backlog is full")
                continue
            self._room[name] -= 1
            body = event.event
            delivery = Delivery(
                FORMAT,
                body["messageId"],
                event.source,
                body["type"],
                event_name(body),
                one.route,
                body["timestamp"],
                now_ms,
                version,
                False,
                one.data,
            )
            self._lanes.setdefault(name, []).append((keys[one.index], 1, encode(delivery)))
        for name, index, route, reason in routed.failed:
            self._letter(events[index], name, route, "template", reason)
        for (name, reason), number in routed.filtered.items():
            self.counts[f"filtered:{name}:{reason}"] += number

    def _letter(self, event: StoredEvent, destination: str, route: str, class_: str, reason: str) -> None:
        body = event.event
        self.letters.append(
            DeadLetter(
                source=event.source,
                message_id=body["messageId"],
                destination=destination,
                route=route,
                class_=class_,
                reason=reason,
                attempts=0,
                first_at=body["receivedAt"],
                last_at=body["receivedAt"],
                event_type=body["type"],
                event_name=event_name(body),
                rules=self._rules.version,
            )
        )
        self.counts[f"to:{destination}"] += 1
        self.counts[f"dead:{destination}:{class_}"] += 1

    def appends(self) -> list[Append]:
        """What to append to the shard's lanes."""
        appends = [Append(name, items, f"to:{name}") for name, items in self._lanes.items()]
        packs: list[tuple[str, int, bytes]] = []
        records = [*self.records, *self.letters]
        for first in range(0, len(records), PACK_RECORDS):
            _pack(records[first : first + PACK_RECORDS], packs)
        if packs:
            appends.append(Append("warehouse", packs, "to:warehouse"))
        return appends


def _person(event: Event) -> str | None:
    person = event.get("person_id")
    return person if type(person) is str else None


def _pack(records: list[AnyRecord], packs: list[tuple[str, int, bytes]]) -> None:
    """Packs, halved where they grow too large."""
    data = pack(records)
    if len(data) > PACK_BYTES and len(records) > 1:
        middle = len(records) // 2
        _pack(records[:middle], packs)
        _pack(records[middle:], packs)
    else:
        packs.append(("", len(records), data))
