"""Explains what the rules make of an event: which routes were looked at, and why a destination gets what it gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import msgspec

from . import paths
from .attempts import Bug
from .condition_parts import Part, divide
from .config_model import Config, DestinationConfig
from .destination import Message, Request
from .errors import DeliveryError, Reject
from .events import StoredEvent, idempotency_key, lane_key, order_key
from .expressions import TemplateError
from .masking import Mask, secrets_of
from .outcome import Outcome, outcome_of
from .route import CompiledRoute, Router
from .values import MISSING

CONSENT = ("context", "consent", "categoryPreferences")


class PartValue(NamedTuple):
    """A part of a route's `when` for this event."""

    text: str
    depth: int
    """How deep it lies in the condition, from 0."""
    joined: str
    """`and`, `or` or `not` when other parts follow that it is made of."""
    value: bool | str
    """True, false, or why it failed."""
    reads: Mapping[str, Any]
    """The values that a part without parts reads, by path; MISSING where there is none."""


class RouteLook(NamedTuple):
    """A route that was looked at for a destination."""

    route: str
    place: str
    """`routes.yaml:12`."""
    matches: bool
    why: str
    """Why it doesn't match when that isn't for its `when`: it is for other sources."""
    parts: tuple[PartValue, ...]


class Check(NamedTuple):
    """Something that an event passes, or doesn't, between a matching route and the destination."""

    what: str
    """`integrations`, `consent marketing`, `sample 10%`."""
    passed: bool
    reads: Mapping[str, Any]
    """The values that decide it, by path; MISSING where there is none.

    Those of a sample are the order key and the `percent` at which it lies, from 0 to 100: below the sample, it is in.
    """


class Explanation(NamedTuple):
    """What becomes of an event at one destination, and why."""

    destination: str
    plugin: str
    looks: tuple[RouteLook, ...]
    checks: tuple[Check, ...]
    outcome: Outcome
    requests: tuple[Request, ...]
    """What the plugin would send, secrets masked; empty when it doesn't say."""
    unsent: str
    """What the plugin does instead: it would refuse the payload, or fails. Empty when it does neither."""


class Explainer:
    """Explains events by the rules of `config`, as compiled in `router`. Nothing is sent.

    What variables brought into the rules is masked, also where an event has it.
    """

    def __init__(self, config: Config, router: Router) -> None:
        self._config = config
        self._router = router
        self._expressions = router.expressions
        self._mask = config.mask

    def explain(self, event: StoredEvent) -> Iterator[Explanation]:
        """An explanation for each destination, in the order of the file."""
        for name, destination in self._config.destinations.items():
            looks: list[RouteLook] = []
            checks: tuple[Check, ...] = ()
            for route in self._router.routes:
                if name in route.config.to and destination.enabled:
                    look = self._look(route, event)
                    looks.append(look)
                    if look.matches:
                        checks = tuple(_checks(route, destination, event))
                        break
                    if look.parts and isinstance(look.parts[0].value, str):
                        break  # which route is the first match can't be known
            outcome = outcome_of(self._router, event, name)
            requests, unsent = ((), "") if outcome.payload is MISSING else _asked(destination, event, outcome)
            yield self._masked(Explanation(name, destination.plugin, tuple(looks), checks, outcome, requests, unsent))

    def _masked(self, found: Explanation) -> Explanation:
        """Without what variables brought into the rules."""
        mask, inside = self._mask, partial(self._mask.inside, keys=True)
        looks = [
            look._replace(
                route=mask(look.route),
                why=mask(look.why),
                parts=tuple(
                    part._replace(text=mask(part.text), value=inside(part.value), reads=inside(part.reads))
                    for part in look.parts
                ),
            )
            for look in found.looks
        ]
        checks = [check._replace(what=mask(check.what), reads=inside(check.reads)) for check in found.checks]
        outcome = found.outcome
        outcome = outcome._replace(
            payload=inside(outcome.payload), reason=mask(outcome.reason), route=mask(outcome.route)
        )
        requests = [
            msgspec.structs.replace(one, url=mask(one.url), headers=inside(dict(one.headers)), body=mask(one.body))
            for one in found.requests
        ]
        unsent = mask(found.unsent)
        return found._replace(
            looks=tuple(looks), checks=tuple(checks), outcome=outcome, requests=tuple(requests), unsent=unsent
        )

    def _look(self, route: CompiledRoute, event: StoredEvent) -> RouteLook:
        config = route.config
        place = f"{config.path}:{config.line}"
        if config.from_ is not None and event.source not in config.from_:
            return RouteLook(route.name, place, False, f"it is for {', '.join(config.from_)}", ())
        if config.when is None:
            return RouteLook(route.name, place, True, "", ())
        parts = tuple(self._values(divide(config.when), event, 0))
        return RouteLook(route.name, place, parts[0].value is True, "", parts)

    def _values(self, part: Part, event: StoredEvent, depth: int) -> Iterator[PartValue]:
        try:
            value: bool | str = self._expressions.condition(part.text)(event.event, event.source)
        except TemplateError as error:
            value = str(error).removeprefix("`when` ")
        read = {} if part.parts else self._read(part.text, event)
        yield PartValue(part.text, depth, part.joined, value, read)
        for inner in part.parts:
            yield from self._values(inner, event, depth + 1)

    def _read(self, text: str, event: StoredEvent) -> dict[str, Any]:
        """What a part reads, by path."""
        found = {}
        for path in self._expressions.reads(text):
            found[".".join(path)] = event.source if path == ("source",) else paths.find(event.event, path)
        return found


def _checks(route: CompiledRoute, destination: DestinationConfig, event: StoredEvent) -> Iterator[Check]:
    """What comes after a match, in its order, up to what isn't passed."""
    if route.skip is not None:
        return
    for check in _all_checks(route, destination, event):
        yield check
        if not check.passed:
            return


def _all_checks(route: CompiledRoute, destination: DestinationConfig, event: StoredEvent) -> Iterator[Check]:
    body = event.event
    integrations = body.get("integrations")
    if type(integrations) is dict and integrations:
        names = (destination.name, destination.plugin, "All")
        name = next((name for name in names if integrations.get(name) is not None), "All")
        choice = integrations.get(name, MISSING)
        yield Check("integrations", choice is not False, {f"integrations.{name}": choice})
    for category in route.consent[destination.name]:
        given = paths.find(body, (*CONSENT, category))
        yield Check(f"consent {category}", given is True, {".".join((*CONSENT, category)): given})
    if route.sample is not None:
        key = "anonymousId" if body.get("anonymousId") else "userId"
        reads = {key: order_key(body), "percent": round(route.position(order_key(body)) * 100, 4)}
        yield Check(f"sample {route.sample * 100:g}%", route.takes(order_key(body)), reads)


def _asked(destination: DestinationConfig, event: StoredEvent, outcome: Outcome) -> tuple[tuple[Request, ...], str]:
    """The requests that the plugin would make, or why it shows none; without secrets."""
    mask = Mask(secrets_of(destination.options))
    try:
        return tuple(_requests(destination, event, outcome, mask)), ""
    except DeliveryError as error:
        return (), f"would {'refuse it' if isinstance(error, Reject) else 'try it again later'}: {mask(error.reason)}"
    except (Exception, SystemExit) as error:  # a bug of the plugin
        return (), f"can't tell what it would send: {mask(str(Bug(error)))}"


def _requests(destination: DestinationConfig, event: StoredEvent, outcome: Outcome, mask: Mask) -> Iterator[Request]:
    body = event.event
    options: Any = destination.options
    message = Message(
        id=idempotency_key(event.source, event.message_id, destination.name),
        payload=outcome.payload,
        message_id=event.message_id,
        source=event.source,
        type=str(body.get("type") or ""),
        order_key=lane_key(order_key(body)),
        timestamp=str(body.get("timestamp") or ""),
    )
    plugin = destination.cls(options, destination=destination.name, batch_size=destination.batch_size)
    for one in plugin.requests([message]):
        headers = {name: mask(value) for name, value in one.headers.items()}
        yield msgspec.structs.replace(one, url=mask(one.url), headers=headers, body=mask(one.body))
