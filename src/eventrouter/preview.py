"""What a change of the rules does to real events: which deliveries appear, vanish or change, and what would fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from .differences import Difference, differences
from .events import StoredEvent
from .outcome import Outcome, outcome_of
from .route import CompiledRoute, Failure, Routed, RoutedDelivery, Router
from .values import MISSING

APPEAR, VANISH, CHANGE, FAIL = KINDS = ("appear", "vanish", "change", "fail")
"""What deliveries may do: they fail when a template does that did not before."""

SLICE = 10
"""Events that are compared at once: with many destinations each has many payloads."""

Key = tuple[str, str, str]
"""(destination, route, what): the route that sends it then; of a delivery that vanishes, the one that does now."""


class Example(NamedTuple):
    """An event at which the rules differ."""

    event: StoredEvent
    now: Outcome
    then: Outcome

    def differences(self) -> Iterator[Difference]:
        """How the payload differs; a payload that is only now, or only then, as a whole."""
        yield from _differences(self.now.payload, self.then.payload) if self._both else self._one()

    @property
    def _both(self) -> bool:
        return self.now.payload is not MISSING and self.then.payload is not MISSING

    def _one(self) -> Iterator[Difference]:
        if self.now.payload is not MISSING or self.then.payload is not MISSING:
            yield Difference("", self.now.payload, self.then.payload)


class Preview:
    """Compares the rules of two routers; `add` batches of events, then read what was found."""

    def __init__(self, now: Router, then: Router, *, examples: int = 3) -> None:
        """Of each kind of difference the first `examples` are kept."""
        names = list(dict.fromkeys([*now.destinations, *then.destinations]))
        self.destinations = [name for name in names if rules_for(now, name) != rules_for(then, name)]
        """Those for which the rules differ; what the others get needs no look."""
        self.same = [name for name in names if name not in self.destinations]
        """Those for which they don't."""
        self.events = 0
        self.received = ("", "")
        """When the first and the last of the events came; empty without any."""
        self.delivered: Counter[tuple[str, str]] = Counter()
        """How many deliveries there are, by (destination, `now` or `then`)."""
        self.changes: Counter[Key] = Counter()
        self.examples: dict[Key, list[Example]] = {}
        self.failures: Counter[tuple[str, str, str]] = Counter()
        """Why templates fail that did not before, by (destination, route, reason)."""
        self._routers = (now.only(self.destinations), then.only(self.destinations))
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
        for begin in range(0, len(events), SLICE):
            self._add(events[begin : begin + SLICE])

    def _add(self, events: Sequence[StoredEvent]) -> None:
        both = [router.route(events) for router in self._routers]
        for side, routed in zip(("now", "then"), both, strict=True):
            for name, number in Counter(one.destination for one in routed.deliveries).items():
                self.delivered[name, side] += number
        now, then = map(_by_place, both)
        unlike = _Unlike()
        for place in now | then:
            self._compare(events[place[1]], place[0], now.get(place), then.get(place), unlike)

    def _compare(
        self, event: StoredEvent, destination: str, now: _Found | None, then: _Found | None, unlike: _Unlike
    ) -> None:
        if isinstance(then, tuple):
            if not isinstance(now, tuple):
                _, _, route, reason = then
                self.failures[destination, route, reason] += 1
                self._note((destination, route, FAIL), event)
        elif now is None or isinstance(now, tuple):
            if then is not None:
                self._note((destination, then.route, APPEAR), event)
        elif then is None:
            self._note((destination, now.route, VANISH), event)
        elif unlike(now, then):
            self._note((destination, then.route, CHANGE), event)

    def _note(self, key: Key, event: StoredEvent) -> None:
        self.changes[key] += 1
        kept = self.examples.setdefault(key, [])
        if len(kept) < self._most:
            now, then = (_outcome(router, event, key[0]) for router in self._routers)
            kept.append(Example(event, now, then))


def rules_for(router: Router, destination: str) -> Any:
    """What decides the deliveries of a destination, however it is written: where it is equal, all of them are."""
    config = router.destinations.get(destination)
    rules = []
    for route in router.routes if config is not None and config.enabled else ():
        constant = True if route.condition is None else route.condition.constant
        if destination in route.config.to and constant is not False:
            sources = None if route.config.from_ is None else set(route.config.from_)
            when = None if constant or route.condition is None else route.condition.same
            # nothing is sent, whatever the reason of `skip`
            rules.append((sources, when, None if route.skip is not None else _made(router, route, destination)))
            if sources is None and when is None:
                break
    return (config.plugin, rules) if config is not None and rules else None


def _made(router: Router, route: CompiledRoute, destination: str) -> tuple[Any, ...]:
    """What a route makes of the events that match it."""
    config = route.config
    sample = None if route.sample is None else (route.sample, route.name)
    templates = None if config.map is None else router.expressions.same(config.map), router.expressions.same(config.set)
    steps = list(config.rename.items()), config.hash, config.keep, config.drop
    return (set(route.consent[destination]), sample, templates, steps)


_Found = RoutedDelivery | Failure


def _by_place(routed: Routed) -> dict[tuple[str, int], _Found]:
    """Deliveries and failures by destination and position of the event."""
    found: dict[tuple[str, int], _Found] = {(one.destination, one.index): one for one in routed.deliveries}
    for failure in routed.failed:
        found[failure[0], failure[1]] = failure
    return found


class _Unlike:
    """Whether two payloads differ as they are sent, whatever the order of their keys: true is not 1, nor is 1.0.

    The destinations of a route share its payload, so they share the answer.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], bool] = {}

    def __call__(self, now: RoutedDelivery, then: RoutedDelivery) -> bool:
        key = (id(now.payload), id(then.payload))
        found = self._known.get(key)
        if found is None:
            found = now.data != then.data and any(_differences(now.payload, then.payload))
            self._known[key] = found
        return found


def _differences(now: Any, then: Any) -> Iterator[Difference]:
    return differences(now, then, exact=True, written=True)


def _outcome(router: Router, event: StoredEvent, destination: str) -> Outcome:
    if destination not in router.destinations:
        return Outcome(MISSING, "it is not in the rules")
    return outcome_of(router, event, destination)
