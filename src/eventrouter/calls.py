"""The calls of a destination that run at once, over all shards and workers: `concurrency`, where routes.yaml has it.

Of libraries for that, redis-rate-limiters and self-limiters can't renew a place, so that it has to be lent for as long
as the longest call; py-redis-semaphore renews each by itself, by the clock of its client. None fits a script, nor a
Cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from redis.exceptions import RedisError

from .elapsed import elapsed
from .lane import LEASE_MS
from .lanes import Lanes
from .step_arguments import new_token

FIRST_SECONDS = 0.02
"""When it is asked again for a place the first time; each time it takes twice as long."""
LONGEST_SECONDS = 0.25
"""How long that takes at most."""
NEXT_SECONDS = 0.05
"""How often it is asked while the next free place is kept for this worker."""
PATIENCE_SECONDS = 0.25
"""So long other workers may be faster; then the next free place is kept for this one."""
KEPT_MS = 500
"""For how long, when it does not ask again."""


class Calls:
    """The places of a destination, as one worker has them: `most` in all workers together.

    A place has a lease by the server's clock, which is renewed here while it is held: those of a worker that was killed
    are free within `LEASE_MS`.
    """

    def __init__(self, lanes: Lanes, destination: str, most: int) -> None:
        self._lanes = lanes
        key = f"er:{{dest:{destination}}}:calls"
        self._keys = [key, f"{key}:next"]
        self._most = most
        self._worker = new_token()
        self._held: dict[str, float] = {}
        """Places, and until when each is this worker's in any case, by `elapsed`."""
        self._returned: list[str] = []
        """Places that are to be given back."""
        self._line = asyncio.Lock()
        """Who has it asks; the others are behind it in line."""
        self._changed = asyncio.Event()
        """Set when a place was given back here."""
        self._waits_since: float | None = None
        """Since when this worker waits for a place that others have."""
        self._renewals: asyncio.Task[None] | None = None
        self._giving: asyncio.Task[None] | None = None

    async def take(self, seconds: float, gives_up: Callable[[], bool]) -> str:
        """A place; '' when there is none for so many seconds, or once `gives_up` says so.

        It is to be given back. Those who wait in this worker come one after the other, each with its seconds: were they
        counted from the beginning, the last ones in line would never have their turn. Raises what redis-py raises.
        """
        if gives_up():
            return ""  # who has given up does not stand in line
        async with self._line:
            until, pause = time.monotonic() + seconds, FIRST_SECONDS
            while not gives_up():
                self._changed.clear()
                place, is_next = await self._ask() if len(self._held) < self._most else ("", False)
                left = until - time.monotonic()
                if place or left <= 0:
                    return place
                wait = (NEXT_SECONDS if is_next else pause) * random.uniform(0.8, 1.2)
                pause = min(2 * pause, LONGEST_SECONDS)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(wait, left)):
                        await self._changed.wait()
        return ""

    async def _ask(self) -> tuple[str, bool]:
        """A place, or '' and whether the next free one is kept for this worker."""
        began, place = elapsed(), new_token()
        waits = self._waits_since is not None and time.monotonic() - self._waits_since >= PATIENCE_SECONDS
        try:
            answer = await self._step("take", place, self._most, self._worker, KEPT_MS if waits else 0)
        except BaseException:
            self.give_back(place)  # it may have been taken all the same
            raise
        if answer != 1:
            self._waits_since = self._waits_since or time.monotonic()
            return "", answer == 2
        self._waits_since = None
        self._held[place] = began + LEASE_MS / 1000
        if self._renewals is None or self._renewals.done():
            self._renewals = asyncio.create_task(self._renew_while_held())
        return place, False

    def is_held(self, place: str) -> bool:
        """Whether a place is still this worker's, and a call may begin: not after the process was frozen."""
        return elapsed() < self._held.get(place, 0.0)

    def give_back(self, place: str) -> None:
        """Gives a place back, soon. When Redis is away the end of its lease does."""
        self._held.pop(place, None)
        self._returned.append(place)
        if self._giving is None or self._giving.done():
            self._giving = asyncio.create_task(self._give_back())

    async def _give_back(self) -> None:
        while self._returned:
            places, self._returned = self._returned, []
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                await self._step("give", len(places), *places)
            self._changed.set()

    async def _renew_while_held(self) -> None:
        while self._held:
            await asyncio.sleep(LEASE_MS / 3000)
            began, places = elapsed(), list(self._held)
            if not places:
                return
            with contextlib.suppress(RedisError, OSError, TimeoutError):  # the next one may succeed
                await self._step("renew", len(places), *places)
                # What was over by then may have been somebody else's: its call is counted again, but no other begins.
                now, until = elapsed(), began + LEASE_MS / 1000
                self._held |= {place: until for place in places if now < self._held.get(place, 0.0)}
            for place in places:
                if place not in self._held:  # the renewal may have come after its end, and have it there again
                    self.give_back(place)

    async def _step(self, step: str, *args: Any) -> Any:
        return await self._lanes.run("calls", self._keys, [step, LEASE_MS, *args])

    async def close(self) -> None:
        """Returns once all is given back. No call is under way any more."""
        if self._renewals is not None:
            self._renewals.cancel()
        await asyncio.gather(*(task for task in (self._renewals, self._giving) if task), return_exceptions=True)


class Place:
    """An attempt's place among the calls at once: taken before its first call, given back at the end of `with`."""

    def __init__(self, calls: Calls | None) -> None:
        """Without `calls` there is no bound, and nothing is asked."""
        self._calls = calls
        self._id = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._calls is not None and self._id:
            self._calls.give_back(self._id)
            self._id = ""

    @property
    def is_taken(self) -> bool:
        """Whether nothing is to be waited for."""
        return self._calls is None or self._id != ""

    async def take(self, seconds: float, gives_up: Callable[[], bool]) -> bool:
        """Whether it is there; see `Calls.take`."""
        if self._calls is not None and not self._id:
            self._id = await self._calls.take(seconds, gives_up)
        return self.is_taken

    def is_held(self) -> bool:
        """Whether a call may still begin."""
        return self._calls is None or self._calls.is_held(self._id)
