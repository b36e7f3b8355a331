"""What became of one event at each destination: by what is known of it, else by what follows from the rules.

What became of a delivery is known while it waits or is a dead letter, and from the outcome log for a while. Beyond that
it follows: each event is, for each destination, delivered, waiting, filtered, dead, discarded or forgotten (the audit
shows that it is). So what waits nowhere and is no dead letter was delivered, unless the rules that routed it filter it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import msgspec

from .config import Config
from .counters import Snapshot
from .delivery import InHand
from .events import StoredEvent
from .outcome import outcome_of
from .outcome_log import DEAD, DELIVERED, Outcome
from .route import Router
from .status import UNSERVED, row_of
from .times import EPOCH, write_time
from .values import MISSING

State = Literal["waiting", "delivered", "filtered", "dead", "discarded", "unknown"]


class Fate(msgspec.Struct):
    """What became of an event at one destination."""

    destination: str
    state: State
    reason: str = ""
    """Why it waits, is filtered or dead; how it is known that it was delivered; what is unknown."""
    class_: str = msgspec.field(name="class", default="")
    """Of a dead letter."""
    at: str | None = None
    """When it was delivered or died, as far as it is known (ISO 8601)."""
    attempts: int | None = None
    status: int | None = None
    next_try_at: str | None = None
    """When a parked delivery is due."""
    history: list[Outcome] = []
    """What the outcome log still knows, the oldest first."""


@dataclass(slots=True)
class Traced:
    """What was found of one event."""

    whole: StoredEvent
    shard: int
    rules: str
    """The version of the rules that routed it."""
    waiting: dict[str, tuple[InHand, str | None]] = field(default_factory=dict)
    """By destination: the delivery in the lane, and when it is due if it is parked."""
    letters: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """By destination: its row of `dead_letters`."""
    outcomes: list[Outcome] = field(default_factory=list)
    unseen: set[str] = field(default_factory=set)
    """Destinations in whose lane it may wait without having been seen."""


class Fates:
    """Tells fates by the rules in use."""

    def __init__(self, router: Router, config: Config, snapshot: Snapshot | None) -> None:
        """`config` are the rules of `router`; `snapshot` says why destinations wait, None while Redis is away."""
        self._router = router
        self._config = config
        self._snapshot = snapshot

    def of(self, traced: Traced) -> list[Fate]:
        """One for each destination of the rules, and for each other one that is known of."""
        names = [*self._router.destinations, *traced.waiting, *traced.letters]
        names += [one.destination for one in traced.outcomes]
        return [self._of(traced, name) for name in dict.fromkeys(names)]

    def _of(self, traced: Traced, name: str) -> Fate:
        history = [one for one in traced.outcomes if one.destination == name]
        fate = self._known(traced, name, history) or self._derived(traced, name)
        fate.history = history
        return fate

    def _known(self, traced: Traced, name: str, history: list[Outcome]) -> Fate | None:
        if name in traced.waiting:
            return self._waiting(name, *traced.waiting[name])
        letter, last = traced.letters.get(name, {}), history[-1] if history else None
        if last is not None and last.outcome == DELIVERED and _time(last.at_ms) > str(letter.get("last_at", "")):
            return Fate(name, "delivered", at=_time(last.at_ms), attempts=last.attempts)
        if letter and not letter.get("replayed_at"):
            return Fate(
                name,
                "dead",
                letter["reason"],
                letter["class"],
                letter["last_at"],
                letter["attempts"],
                letter.get("status"),
            )
        dealt_with = str(letter.get("outcome") or "")
        if dealt_with == "discarded":
            return Fate(name, "discarded", letter["reason"], letter["class"], letter["replayed_at"])
        if dealt_with.startswith("filtered: "):
            return Fate(name, "filtered", dealt_with.removeprefix("filtered: "), at=letter["replayed_at"])
        if last is not None and last.outcome == DEAD:
            return Fate(name, "dead", last.reason, last.class_, _time(last.at_ms), last.attempts, last.status)
        if letter:
            return self._eliminated(traced, name, "sent again as a dead letter")
        return None

    def _waiting(self, name: str, hand: InHand, due: str | None) -> Fate:
        reason = hand.tries.reason
        row = row_of(self._config, self._snapshot, name) if self._snapshot is not None else {"state": "ok"}
        if row["state"].endswith(UNSERVED):
            due = None
        if row["state"] != "ok" and not due:
            reason = ": ".join(filter(None, (row["state"], row["reason"])))
        return Fate(
            name,
            "waiting",
            reason or "for its turn",
            attempts=hand.messages[0].attempt - 1,
            next_try_at=due,
        )

    def _derived(self, traced: Traced, name: str) -> Fate:
        if name not in self._router.destinations:
            return Fate(name, "unknown", "it is not in routes.yaml any more")
        made = outcome_of(self._router, traced.whole, name)
        what = f"delivered by “{made.route}”" if made.payload is not MISSING else f"filtered: {made.reason}"
        if traced.rules != self._config.version:
            then = f"it was routed by the rules {traced.rules or 'of then'}, and not by these"
            return Fate(name, "unknown", f"{then}, by which it is {what}")
        if made.failed:
            return Fate(name, "dead", f"{made.reason} (“{made.route}”)", "template")
        if made.payload is MISSING:
            return Fate(name, "filtered", made.reason)
        return self._eliminated(traced, name, f"sent by “{made.route}”")

    def _eliminated(self, traced: Traced, name: str, why: str) -> Fate:
        if name in traced.unseen:
            return Fate(name, "unknown", f"{why}: delivered, or waiting where it was not looked")
        return Fate(name, "delivered", f"{why}, and neither waiting nor dead")


def _time(ms: int) -> str:
    return write_time(EPOCH + timedelta(milliseconds=ms))
