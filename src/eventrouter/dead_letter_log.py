"""Tells of dead letters as they come: plugins of each, the log of each destination and class now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from .records import DeadLetter

log = structlog.get_logger("eventrouter.dead_letters")

QUIET_SECONDS = 10.0
"""After a line about a destination's dead letters of a class the next one comes no sooner, and tells their number."""
REASON_LENGTH = 200


class _Burst:
    """The dead letters of one destination and class since the last line about them."""

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.timer = timer
        self.number = 0
        self.last: DeadLetter | None = None


class DeadLetterLog:
    """Called with each dead letter once it is kept, within an event loop; never raises. `close` tells the last ones."""

    def __init__(self, hook: Callable[..., None] | None = None, *, seconds: float = QUIET_SECONDS) -> None:
        """`hook` gets each one, with the arguments of the hook `event_dropped`."""
        self._hook = hook
        self._seconds = seconds
        self._bursts: dict[tuple[str, str], _Burst] = {}

    def __call__(self, letter: DeadLetter) -> None:
        """Takes one dead letter."""
        if self._hook is not None:
            self._hook(
                source=letter.source,
                message_id=letter.message_id,
                destination=letter.destination,
                reason=letter.reason,
            )
        burst = self._bursts.get((letter.destination, letter.class_))
        if burst is not None:
            burst.number += 1
            burst.last = letter
            return
        self._bursts[letter.destination, letter.class_] = _Burst(self._later(letter.destination, letter.class_))
        _tell("A delivery is a dead letter", letter, message_id=letter.message_id)

    def close(self) -> None:
        """Tells at once of what has not been told."""
        bursts, self._bursts = self._bursts, {}
        for burst in bursts.values():
            burst.timer.cancel()
            _tell_burst(burst)

    def _later(self, destination: str, class_: str) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._seconds, self._end, destination, class_)

    def _end(self, destination: str, class_: str) -> None:
        burst = self._bursts.pop((destination, class_))
        if burst.number:
            _tell_burst(burst)
            self._bursts[destination, class_] = _Burst(self._later(destination, class_))


def _tell_burst(burst: _Burst) -> None:
    if burst.last is not None:
        _tell("More deliveries are dead letters", burst.last, number=burst.number)


def _tell(what: str, letter: DeadLetter, **more: Any) -> None:
    reason = letter.reason[:REASON_LENGTH]
    log.warning(what, destination=letter.destination, **{"class": letter.class_}, **more, reason=reason)
