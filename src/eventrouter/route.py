"""The router: for each event and destination a delivery, a failure, or a reason why nothing is sent."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from . import paths
from .config import Config, DestinationConfig, RouteConfig
from .digest import digest_with
from .events import Event, StoredEvent, order_key
from .expressions import MISSING, Condition, Expressions, Template, TemplateError, reason
from .route_index import Group, RouteIndex

MAX_REASON = 500
MAX_PAYLOAD = 1_000_000
"""The most bytes of a payload as JSON. One that has at most twice the bytes of its event may be larger."""

_NO_JSON = "the payload can't be written as JSON"
_NOTHING = msgspec.Raw()
_encode = msgspec.json.Encoder().encode


class RoutedDelivery(msgspec.Struct, gc=False):
    """One event bound for one destination.

    Deliveries of one event by one route share their payload, and a payload shares with the event (and its deliveries)
    whatever the route did not change: payloads are to be read, never to be changed.
    """

    destination: str
    index: int
    """The position of the event in the batch."""
    payload: Any
    route: str
    data: msgspec.Raw
    """The payload as JSON: encoded once, also when it goes to several destinations."""


Failure = tuple[str, int, str, str]
"""A condition or template that failed at run time: (destination, position in the batch, route, reason).

The delivery becomes a dead letter of the class `template`.
"""


@dataclass(slots=True)
class Routed:
    """What became of a batch: for each event and each destination exactly one delivery, failure or filtering."""

    deliveries: list[RoutedDelivery] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    filtered: dict[tuple[str, str], int] = field(default_factory=dict)
    """How many events by (destination, reason): no_route, disabled, integrations, consent, sample, or a route's own."""

    def _filter(self, destination: str, why: str, count: int = 1) -> None:
        key = (destination, why)
        self.filtered[key] = self.filtered.get(key, 0) + count


class CompiledRoute:
    """A route ready to run: `when` is None for an unconditional one, `build` makes the payload."""

    __slots__ = ("build", "condition", "config", "consent", "name", "sample", "skip", "when")

    def __init__(self, config: RouteConfig, expressions: Expressions, consents: Mapping[str, Collection[str]]) -> None:
        self.config = config
        self.name = config.name
        self.condition: Condition | None = None if config.when is None else expressions.condition(config.when)
        constant = self.condition.constant if self.condition else True
        self.when: Callable[[Event, str], Any] | None = None
        if self.condition is not None and constant is not True:
            self.when = self.condition.test
        self.consent = {name: tuple(dict.fromkeys([*consents[name], *config.consent])) for name in config.to}
        self.sample = config.sample
        self.skip = config.skip
        self.build = _builder(config, expressions)

    def takes(self, key: str) -> bool:
        """Whether the sample has the order key in it: the same answer for one key and one route, always."""
        if self.sample is None:
            return True
        return self._number(key) < self.sample * 2**64

    def position(self, key: str) -> float:
        """Where the order key lies from 0 to 1: a larger sample than that has it in it."""
        return self._number(key) / 2**64

    def _number(self, key: str) -> int:
        text = f"{self.name}\0{key}".encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


class Router:
    """Applies the routes of one configuration. Pure: no clock, no I/O, and events stay as they are."""

    def __init__(self, config: Config, filters: Mapping[str, Callable[..., Any]] | None = None) -> None:
        """`filters` are the plugins' template filters. Raises `ExpressionError` when a route doesn't compile."""
        self.expressions = Expressions(filters, variables=config.vars)
        """Knows the filters and the variables of these rules."""
        self._destinations = config.destinations
        self._enabled = [name for name, destination in config.destinations.items() if destination.enabled]
        consents = {name: destination.consent for name, destination in config.destinations.items()}
        self.routes = [CompiledRoute(route, self.expressions, consents) for route in config.routes]
        self._index = RouteIndex(self.routes, self._enabled)

    @property
    def destinations(self) -> Mapping[str, DestinationConfig]:
        """All destinations of the rules, by name."""
        return self._destinations

    def only(self, destinations: Collection[str]) -> Router:
        """A router that knows of no other destinations; it shares all that is compiled."""
        made = copy.copy(self)
        made._destinations = {name: self._destinations[name] for name in self._destinations if name in destinations}
        made._enabled = [name for name in self._enabled if name in destinations]
        made._index = RouteIndex(made.routes, made._enabled)
        return made

    @property
    def mismatches(self) -> int:
        """How often conditions met values of the wrong types, since the start."""
        return self.expressions.mismatches

    def route(self, events: Sequence[StoredEvent], destinations: Collection[str] | None = None) -> Routed:
        """Routes a batch. `destinations` narrows it to some of them (a replay); the others are not in the result."""
        routed = Routed()
        handled = dict.fromkeys(self._enabled, 0)
        for index, stored in enumerate(events):
            for group in self._index.groups(stored.event, stored.source):
                names = group.destinations
                if destinations is not None:
                    names = [name for name in names if name in destinations]
                    if not names:
                        continue
                self._apply(routed, index, stored, group, names, handled)
        for name in self._destinations:
            if destinations is not None and name not in destinations:
                continue
            if name not in handled:
                if events:
                    routed._filter(name, "disabled", len(events))
            elif handled[name] < len(events):
                routed._filter(name, "no_route", len(events) - handled[name])
        return routed

    def _apply(
        self,
        routed: Routed,
        index: int,
        stored: StoredEvent,
        group: Group,
        names: Sequence[str],
        handled: dict[str, int],
    ) -> None:
        """Finds the first route of the group that matches and does what it says for each of `names`."""
        event, source = stored.event, stored.source
        for route in group.routes:
            when = route.when
            if when is not None:
                try:
                    if not when(event, source):
                        continue
                except Exception as error:  # which route is the first match can't be known
                    why = f"`when` {reason(error)}"[:MAX_REASON]
                    routed.failed.extend((name, index, route.name, why) for name in names)
                    break
            self._send(routed, index, event, source, route, names)
            break
        else:
            return
        for name in names:
            handled[name] += 1

    def _send(
        self, routed: Routed, index: int, event: Event, source: str, route: CompiledRoute, names: Sequence[str]
    ) -> None:
        if route.skip is not None:
            for name in names:
                routed._filter(name, route.skip)
            return
        integrations = event.get("integrations")
        taken = None if route.sample is not None else True
        payload: Any = MISSING
        data = _NOTHING
        failure = ""
        for name in names:
            if integrations and not _integrated(integrations, self._destinations[name]):
                routed._filter(name, "integrations")
                continue
            consent = route.consent[name]
            if consent and not _consented(event, consent):
                routed._filter(name, "consent")
                continue
            if taken is None:
                taken = route.takes(order_key(event))
            if not taken:
                routed._filter(name, "sample")
                continue
            if payload is MISSING and not failure:
                try:
                    payload = route.build(event, source)
                    encoded = _encode(payload)
                    if len(encoded) > MAX_PAYLOAD and len(encoded) > 2 * len(_encode(event)):
                        failure = f"the payload has {len(encoded):,} bytes as JSON, more than {MAX_PAYLOAD:,}"
                    else:
                        data = msgspec.Raw(encoded)
                except Exception as error:
                    failure = reason(error) if payload is MISSING else f"{_NO_JSON}: {type(error).__name__}"
                    failure = failure[:MAX_REASON]
            if failure:
                routed.failed.append((name, index, route.name, failure))
            else:
                routed.deliveries.append(RoutedDelivery(name, index, payload, route.name, data))


def _integrated(integrations: Any, destination: DestinationConfig) -> bool:
    """Segment's `integrations`: by the destination's name, else its plugin's, else `All`; on by default."""
    if type(integrations) is not dict:
        return True
    for name in (destination.name, destination.plugin, "All"):
        choice = integrations.get(name)
        if choice is not None:
            return choice is not False
    return True


def _consented(event: Event, categories: Sequence[str]) -> bool:
    """Whether `context.consent.categoryPreferences` is true for every category; absent means no."""
    preferences = paths.find(event, ("context", "consent", "categoryPreferences"))
    return type(preferences) is dict and all(preferences.get(category) is True for category in categories)


def _builder(config: RouteConfig, expressions: Expressions) -> Callable[[Event, str], Any]:
    """What makes a route's payload: map, or rename → set → hash → keep → drop."""
    if config.map is not None:
        return _mapped(expressions.template(config.map, "map"))
    steps: list[Callable[[Any], Any]] = []
    for old, new in config.rename.items():
        steps.append(_renaming(paths.parse(old), paths.parse(new)))
    fields, tree = None, paths.tree_of([paths.parse(path) for path in config.set])
    if config.set:
        fields = expressions.fields(config.set, "set")
    later: list[Callable[[Any], Any]] = []
    if config.hash is not None:
        hashed, digest = (
            paths.tree_of([paths.parse(path) for path in config.hash.fields]),
            digest_with(config.hash.salt),
        )
        later.append(lambda value: paths.change(value, hashed, digest))
    if config.keep is not None:
        kept = paths.tree_of([paths.parse(path) for path in config.keep])
        later.append(lambda value: paths.keep(value, kept))
    if config.drop:
        dropped = paths.tree_of([paths.parse(path) for path in config.drop])
        later.append(lambda value: paths.drop(value, dropped))

    def build(event: Event, source: str) -> Any:
        value: Any = event
        for step in steps:
            value = step(value)
        if fields is not None:
            value = paths.put(value, tree, fields(event, source))
        for step in later:
            value = step(value)
        return dict(event) if value is event else value

    return build


def _mapped(template: Template) -> Callable[[Event, str], Any]:
    def build(event: Event, source: str) -> Any:
        payload = template(event, source)
        if payload is MISSING:
            raise TemplateError("`map` has a missing part, so that there is no payload")
        return payload

    return build


def _renaming(old: paths.Path, new: paths.Path) -> Callable[[Any], Any]:
    return lambda value: paths.rename(value, old, new)
