"""The rate at which a destination is sent messages (`rate_limit`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .destination import RateLimit
from .lanes import Lanes


class Throttle:
    """Waits until so many messages may be sent; all workers share the rate."""

    def __init__(self, lanes: Lanes, destination: str, rate: RateLimit) -> None:
        self._lanes = lanes
        self._key = f"er:{{dest:{destination}}}:rate"
        self._interval = max(int(rate.per_seconds * 1_000_000 / rate.count), 1)
        self._burst = rate.count

    async def __call__(self, messages: int, gives_up: Callable[[], bool] = lambda: False) -> bool:
        """True when they may be sent now; False when `gives_up` said so before."""
        wanted = [messages, self._interval, self._burst]
        while not gives_up():
            wait = int(await self._lanes.run("rate", [self._key], wanted)) / 1000
            if wait <= 0:
                return True
            await asyncio.sleep(min(wait, 0.5))
        return False
