"""What a change of the rules does to real events: which deliveries appear, vanish or change, and what would fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from .differences import Difference, differences
from .events import StoredEvent
from .outcome import Outcome, outcome_of
from .route import Routed, Router
from .values import MISSING

APPEAR, VANISH, CHANGE, FAIL = KINDS = ("appear", "vanish", "change", "fail")
"""What deliveries may do: they fail when a template does that did not before."""

Key = tuple[str, str, str]
"""(destination, route, what): the route that sends it then; of a delivery that vanishes, the one that does now."""


class Example(NamedTuple):
    """An event at which the rules differ."""

    event: StoredEvent
    now: Outcome
    then: Outcome

    def differences(self) -> Iterator[Difference]:
        """How the payload differs; a payload that is only now, or only then, as a whole."""
        both = differences(self.now.payload, self.then.payload, exact=True, written=True)
        yield from both if self._both else self._one()

    @property
    def _both(self) -> bool:
        return self.now.payload is not MISSING and self.then.payload is not MISSING

    def _one(self) -> Iterator[Difference]:
        if self.now.payload is not MISSING or self.then.payload is not MISSING:
            yield Difference("", self.now.payload, self.then.payload)


class Preview:
    """Compares the rules of two routers; `add` batches of events, then read what was found."""

    def __init__(self, now: Router, then: Router, destinations: Iterable[str], *, examples: int = 3) -> None:
        """`destinations` of either; of each kind of difference the first `examples` are kept."""
        self.events = 0
        self.received = ("", "")
        """When the first and the last of the events came; empty without any."""
        self.delivered: Counter[tuple[str, str]] = Counter()
        """How many deliveries there are, by (destination, `now` or `then`)."""
        self.changes: Counter[Key] = Counter()
        self.examples: dict[Key, list[Example]] = {}
        self.failures: Counter[tuple[str, str, str]] = Counter()
        """Why templates fail that did not before, by (destination, route, reason)."""
        self._routers = (now, then)
        self.destinations = list(destinations)
        self._most = examples

    @property
    def changed(self) -> bool:
        """Whether any delivery would appear, vanish, change or fail."""
        return bool(self.changes)

    def count(self, destination: str, kind: str) -> int:
        """How many deliveries of a destination appear, vanish, change or fail."""
        return sum(number for key, number in self.changes.items() if (key[0], key[2]) == (destination, kind))

    def add(self, events: Sequence[StoredEvent]) -> None:
        """Compares what becomes of some events."""
        self.events += len(events)
        times = [*filter(None, self.received), *(str(event.event["receivedAt"]) for event in events)]
        self.received = (min(times, default=""), max(times, default=""))
        now, then = (_found(router.route(events)) for router in self._routers)
        for side, found in (("now", now), ("then", then)):
            self.delivered.update(
                (destination, side) for destination, index in found if not found[destination, index][2]
            )
        for place in sorted(now.keys() | then.keys(), key=lambda each: (each[1], each[0])):
            if place[0] in self.destinations:
                self._compare(events[place[1]], place[0], now.get(place), then.get(place))

    def _compare(self, event: StoredEvent, destination: str, now: _Found | None, then: _Found | None) -> None:
        if then is not None and then[2]:
            if now is not None and now[2]:
                return
            self.failures[destination, then[0], then[2]] += 1
            self._note((destination, then[0], FAIL), event)
        elif now is None or now[2]:
            if then is not None:
                self._note((destination, then[0], APPEAR), event)
        elif then is None:
            self._note((destination, now[0], VANISH), event)
        elif now[1] != then[1] and _content(now[1]) != _content(then[1]):
            self._note((destination, then[0], CHANGE), event)

    def _note(self, key: Key, event: StoredEvent) -> None:
        self.changes[key] += 1
        kept = self.examples.setdefault(key, [])
        if len(kept) < self._most:
            now, then = (_outcome(router, event, key[0]) for router in self._routers)
            kept.append(Example(event, now, then))


_Found = tuple[str, bytes, str]
"""A route's name, the payload as it is sent, and why its template failed (else empty)."""


def _found(routed: Routed) -> dict[tuple[str, int], _Found]:
    found: dict[tuple[str, int], _Found] = {
        (one.destination, one.index): (one.route, bytes(one.data), "") for one in routed.deliveries
    }
    for destination, index, route, reason in routed.failed:
        found[destination, index] = (route, b"", reason)
    return found


def _content(data: bytes) -> bytes:
    """What a payload holds, whatever the order of its keys: true is not 1, and 1 is not 1.0, as for whom it is sent."""
    return msgspec.json.encode(msgspec.json.decode(data), order="sorted")


def _outcome(router: Router, event: StoredEvent, destination: str) -> Outcome:
    if destination not in router.destinations:
        return Outcome(MISSING, "it is not in the rules")
    return outcome_of(router, event, destination)
