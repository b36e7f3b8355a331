"""What becomes of one event at one destination, for everything that shows it to a person."""

from __future__ import annotations

from typing import Any, NamedTuple

from .events import StoredEvent
from .route import Router
from .values import MISSING


class Outcome(NamedTuple):
    """A delivery, or why there is none."""

    payload: Any
    """MISSING when the destination gets nothing."""
    reason: str = ""
    """Why it gets nothing: no_route, consent, sample, …, a route's own reason, or why its template failed."""
    route: str = ""
    """The name of the route that made the payload, or failed."""
    failed: bool = False
    """Whether it is a dead letter of the class `template`, rather than filtered."""


def outcome_of(router: Router, event: StoredEvent, destination: str) -> Outcome:
    """What the rules of `router` make of an event at one destination of theirs."""
    routed = router.route([event], [destination])
    for delivery in routed.deliveries:
        return Outcome(delivery.payload, route=delivery.route)
    for _, _, route, why in routed.failed:
        return Outcome(MISSING, why, route, failed=True)
    return Outcome(MISSING, next(why for _, why in routed.filtered))
