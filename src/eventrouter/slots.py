"""The slots of a worker's turns: how many run at once, and which lane is next when all are taken."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass

from .lane import Lane

TURNS_PER_DESTINATION = 8
"""Turns of one destination at once in one worker; router and warehouse have slots of their own."""
TURNS = 192
"""Turns of all destinations at once in one worker."""
RESERVED = ("log", "warehouse")
WAIT_SECONDS = 0.3
"""When the lane that waits longest for a slot tries again, the next one after twice as long, and so on. All lanes of a
destination together cost a worker some twenty jobs a second then, however many they are."""
LONGEST_SECONDS = 6.0
"""How long that takes at most."""
LATE_SECONDS = 2.0
"""A lane that comes so much later than it was to is not waited for: another worker serves it by now."""
CALL_SECONDS = 0.3
"""How long a slot is kept for a lane that was called. Another worker may get it instead."""


@dataclass(slots=True)
class _Place:
    """A place in a line."""

    until: float
    """When it is given up, by `time.monotonic`."""
    job: str = ""
    """The deferred job with which the lane tries again; '' while that is not known."""
    called: bool = False
    """Whether a slot is kept for it."""


class Slots:
    """Where lanes find no slot they wait in line; who gives one back calls the first of them.

    Each worker has lines of its own. Where there are several, a lane may come to any of them the next time.
    """

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()
        self._lines: dict[str, dict[Lane, _Place]] = {}
        """By destination, those who have waited longest first."""

    def take(self, lane: Lane) -> float:
        """Takes a slot (0.0), or a place in line: in so many seconds the lane should try again."""
        if lane.name not in RESERVED:
            line = self._line(lane.name)
            if self._room(lane.name) <= sum(place.called for other, place in line.items() if other != lane):
                return self._wait(lane, line)
            line.pop(lane, None)
        self._running[lane.name] += 1
        return 0.0

    def _wait(self, lane: Lane, line: dict[Lane, _Place]) -> float:
        line.setdefault(lane, _Place(0.0))
        delay = min((list(line).index(lane) + 1) * WAIT_SECONDS, LONGEST_SECONDS) * random.uniform(0.8, 1.2)
        line[lane] = _Place(time.monotonic() + delay + LATE_SECONDS)
        self._lines[lane.name] = line
        return delay

    def deferred(self, lane: Lane, job: str) -> None:
        """Notes the job with which a lane that waits tries again."""
        if place := self._line(lane.name).get(lane):
            place.job = job

    def give_back(self, lane: Lane) -> tuple[Lane, str] | None:
        """Gives a slot back. Returns the lane for which it is kept now, and its job, which should come at once."""
        self._running[lane.name] -= 1
        return self._call(lane.name)

    def gone(self, lane: Lane) -> tuple[Lane, str] | None:
        """`lane` was called, but doesn't wait here any more. Returns the next one, as `give_back` does."""
        self._line(lane.name).pop(lane, None)
        return self._call(lane.name)

    def _call(self, name: str) -> tuple[Lane, str] | None:
        # Lanes of another destination wait for it when the worker has all the turns that it may have.
        for waiting in (self._line(one) for one in (name, *self._lines)):
            for lane, place in waiting.items():
                if not place.job or place.called:
                    continue
                if self._room(lane.name) <= sum(one.called for one in waiting.values()):
                    break
                place.called, place.until = True, time.monotonic() + CALL_SECONDS
                return lane, place.job
        return None

    def others_wait(self, lane: Lane) -> bool:
        """Whether other lanes wait for the slot that a turn of `lane` has."""
        full = lane.name not in RESERVED and self._others() >= TURNS
        return any(map(self._line, self._lines if full else [lane.name]))

    def _others(self) -> int:
        return self._running.total() - sum(self._running[name] for name in RESERVED)

    def _room(self, name: str) -> int:
        return min(TURNS_PER_DESTINATION - self._running[name], TURNS - self._others())

    def _line(self, name: str) -> dict[Lane, _Place]:
        """The lanes of a destination that wait, without those that are not waited for any more."""
        line = self._lines.get(name, {})
        now = time.monotonic()
        for lane in [lane for lane, place in line.items() if place.until <= now]:
            del line[lane]
        return line
