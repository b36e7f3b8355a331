"""What a routed batch leads to: deliveries, records for the warehouse, dead letters, and the counters of all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Protocol

import msgspec

from .delivery import FORMAT, Delivery, encode
from .events import Event, StoredEvent, event_name, lane_key, order_key
from .lane import Append
from .log_entry import sources_in
from .records import AnyRecord, DeadLetter, EventRecord, pack
from .room import LETTER_BYTES
from .server_time import now_ms

PACK_RECORDS = 200
"""Records in one item of the warehouse's lane."""
PACK_BYTES = 512 * 1024
BACKLOG_FULL = "the destination's backlog is full"
MEMORY_SHORT = "Redis is short of memory, of which what waits for the destination takes more than its part"

_source = attrgetter("source")


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


class Moves:
    """Gathers what becomes of one batch, for the step that takes it from the log, and counts it."""

    def __init__(self, version: str, room: dict[str, int], cut: Collection[str] = ()) -> None:
        """`version` is that of the rules, `room` how many deliveries each destination may get.

        Those that are `cut` get none for want of memory.
        """
        self._version = version
        self._room = room
        self._cut = cut
        self._lanes: dict[str, list[tuple[str, int, bytes]]] = {}
        self.bytes = 0
        """Of the deliveries and dead letters, about."""
        self.letters: list[DeadLetter] = []
        self.records: list[AnyRecord] = []
        self.counts: Counter[str] = Counter()

    def count(self, events: Sequence[StoredEvent], kept: Sequence[StoredEvent], destinations: Iterable[str]) -> None:
        """Counts what the sums of the audit begin with; `kept` is what is left of `events` without duplicates.

        By source, and for each of the `destinations` that there are: events that are routed while it is there.
        """
        counts = self.counts
        counts["routed"] += len(kept)
        counts["duplicates"] += len(events) - len(kept)
        came, went = (Counter(map(_source, some)) for some in (events, kept))
        for source, number in came.items():
            counts[f"routed:{source}"] += went[source]
            counts[f"duplicates:{source}"] += number - went[source]
        for name in destinations:
            counts[f"events:{name}"] += len(kept)

    def count_unreadable(self, units: int, data: bytes, readable: Sequence[StoredEvent]) -> None:
        """Counts what nobody can read of an entry of so many `units`; by source where that stands in front still."""
        number = units - len(readable)
        self.counts["unreadable"] += number
        if number > 0:
            known = sources_in(data) - Counter(map(_source, readable))
            if known.total() <= number:
                self.counts.update({f"unreadable:{source}": lost for source, lost in known.items()})

    def add(self, events: Sequence[StoredEvent], routed: Routed) -> None:
        """The deliveries and dead letters of routed events, and the events themselves for the warehouse."""
        version = self._version
        since_ms = now_ms()
        keys = [lane_key(order_key(event.event)) for event in events]
        self.records += [
            EventRecord(source=event.source, event=event.event, person_id=_person(event.event), rules=version)
            for event in events
        ]
        for one in routed.deliveries:
            event = events[one.index]
            name = one.destination
            cut = name in self._cut
            if cut or self._room.get(name, 0) <= 0:
                self._letter(event, name, one.route, "backlog_full", MEMORY_SHORT if cut else BACKLOG_FULL)
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
                since_ms,
                version,
                False,
                one.data,
                event.traceparent,
            )
            data = encode(delivery)
            self.bytes += len(data)
            self._lanes.setdefault(name, []).append((keys[one.index], 1, data))
        for name, index, route, reason in routed.failed:
            self._letter(events[index], name, route, "template", reason)
        for (name, reason), number in routed.filtered.items():
            self.counts[f"filtered:{name}:{reason}"] += number

    def _letter(self, event: StoredEvent, destination: str, route: str, class_: str, reason: str) -> None:
        body = event.event
        self.bytes += LETTER_BYTES
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
                rules=self._version,
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
