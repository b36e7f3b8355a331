"""How many events a source may send: a bucket that fills at a steady rate.

Of libraries, aiolimiter can only wait (and never for more than the bucket holds), limits counts in windows and can't
tell how long to wait; both take longer than this, which is asked for each request.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Limiter:
    """Lets `rate` events through per second, in the long run, with a burst of one second (one event at least).

    A request is let through as long as anything is in the bucket, whole and whatever its size, and those after it wait
    until what it took too much has flowed in again: so a large batch passes like any other, and none pass as a part.
    Not for several threads.
    """

    __slots__ = ("_at", "_burst", "_left", "_now", "_rate")

    def __init__(self, rate: float, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._now = now
        self._burst = max(rate, 1.0)
        self._left = self._burst
        self._at = now()

    def take(self, count: int) -> float:
        """0.0: `count` events may pass, and have been taken. Else the seconds after which it is worth another try."""
        now = self._now()
        left = min(self._left + (now - self._at) * self._rate, self._burst)
        self._at = now
        if left < 1.0:
            self._left = left
            return (1.0 - left) / self._rate
        self._left = left - count
        return 0.0
