"""The rate at which a destination is sent messages (`rate_limit`), and the attempts of a turn that keep to it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from .calls import Place
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
    """Keeps the attempts of a turn to a rate, and to the places for calls at once; one of them asks at a time."""

    def __init__(self, throttle: Callable[[int], Awaitable[float]] | None) -> None:
        """Without a `throttle` there is no rate."""
        self._throttle = throttle
        self._lock = asyncio.Lock()
        self._places: list[Place] = []
        """Those of the attempts that are under way."""
        self.delay = 0.0
        """Seconds until it is worth asking again, after `wait` gave up."""

    async def wait(self, messages: int, until: float | None, gives_up: Callable[[], bool], place: Place) -> bool:
        """Whether so many messages may be sent now; `place` is taken then.

        Waits until then (monotonic; None: for `PACE_SECONDS`), but not when it is known to take longer, nor when
        `gives_up` says so. For the place it waits `PACE_SECONDS` at most, once it is the first in line, and for as
        long as another attempt of the turn has one: the turn can't end before that does.
        """
        if self._throttle is None and place.is_taken:
            return True
        async with self._lock:
            # The place comes first: what was taken of the rate can't be given back, and who has a place but has to wait
            # for the rate keeps nobody from sending.
            if not await self._place(place, gives_up):
                return False
            if self._throttle is None:
                return True
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

    async def _place(self, place: Place, gives_up: Callable[[], bool]) -> bool:
        while not await place.take(PACE_SECONDS, gives_up):
            if gives_up():
                return False
            if not any(one.is_taken for one in self._places):
                self.delay = random.uniform(0.5, 1.0) * PACE_SECONDS
                return False
        self._places = [place, *(one for one in self._places if one.is_taken and one is not place)]
        return True
