"""The rate at which a destination is sent messages (`rate_limit`)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from .destination import RateLimit
from .lanes import Lanes

PACE_SECONDS = 1.0
"""How long an attempt waits within its turn; for what takes longer the turn ends, and others have its place."""


class Throttle:
    """Says when so many messages may be sent; all workers share the rate."""

    def __init__(self, lanes: Lanes, destination: str, rate: RateLimit) -> None:
        self._lanes = lanes
        self._interval = max(int(rate.per_seconds * 1_000_000 / rate.count), 1)
        self._burst = rate.count
        # A corrected rate begins anew: the debt of the old one may be hours.
        self._key = f"er:{{dest:{destination}}}:rate:{self._burst}:{self._interval}"

    async def __call__(self, messages: int) -> float:
        """0.0 when they may be sent now, and count as sent; else the seconds after which to ask again."""
        return int(await self._lanes.run("rate", [self._key], [messages, self._interval, self._burst])) / 1000


class Pace:
    """Keeps the attempts of a turn to a rate; one of them asks at a time."""

    def __init__(self, throttle: Callable[[int], Awaitable[float]] | None) -> None:
        """Without a `throttle` nothing waits."""
        self._throttle = throttle
        self._lock = asyncio.Lock()
        self.delay = 0.0
        """Seconds until it is worth asking again, after `wait` gave up."""

    async def wait(self, messages: int, until: float | None, gives_up: Callable[[], bool]) -> bool:
        """Whether so many messages may be sent now.

        Waits until then (monotonic; None: for `PACE_SECONDS`), but not when it is known to take longer, nor when
        `gives_up` says so.
        """
        if self._throttle is None:
            return True
        async with self._lock:
            until = until or time.monotonic() + PACE_SECONDS
            while not gives_up():
                wait = await self._throttle(messages)
                if wait <= 0:
                    return True
                if time.monotonic() + wait > until:
                    self.delay = wait + random.uniform(0.0, 0.05)  # other lanes wait for the same moment
                    return False
                await asyncio.sleep(min(wait, 0.5))
        return False
