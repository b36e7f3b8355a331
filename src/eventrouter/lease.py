"""Leases: kept by renewing them while the work lasts, and asked before anything leaves the house."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import structlog
from redis.exceptions import RedisError

from .elapsed import elapsed
from .lane import LEASE_MS, FencedError
from .lanes import Turn

log = structlog.get_logger("eventrouter.lease")


class Lease:
    """Is renewed every third of it while the body of `async with` runs."""

    def __init__(self, renew: Callable[[], Awaitable[None]], began: float) -> None:
        """`renew` raises `FencedError` when it is somebody else's; it counts from `began`, by `elapsed`."""
        self._renew_it = renew
        self._until = began + LEASE_MS / 1000
        self._renewals: asyncio.Task[None] | None = None
        self.lost = False
        """Whether it is known that somebody else has it."""

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        await self.stop()
        return False

    def start(self) -> None:
        """From now on it is renewed."""
        self._renewals = asyncio.create_task(self._renew_for_ever())

    async def stop(self) -> None:
        """It is renewed no more."""
        if self._renewals is not None:
            self._renewals.cancel()
            await asyncio.gather(self._renewals, return_exceptions=True)

    async def is_held(self) -> bool:
        """Whether it is still ours, so that something may be sent.

        When the last renewal is a lease ago (the process was frozen, the machine slept, or Redis is away) it asks; no
        answer means no.
        """
        if elapsed() >= self._until and not self.lost:
            await self._renew()
        return not self.lost and elapsed() < self._until

    async def _renew_for_ever(self) -> None:
        while not self.lost:
            await asyncio.sleep(LEASE_MS / 3000)
            await self._renew()

    async def _renew(self) -> None:
        began = elapsed()
        try:
            with contextlib.suppress(RedisError, OSError, TimeoutError):  # the next one may succeed
                await self._renew_it()
                self._until = began + LEASE_MS / 1000
        except FencedError:
            self.lost = True


class TurnLease(Lease):
    """The lease of a turn.

    `FencedError` ends the body and goes no further: what was in hand is another turn's. All else passes.
    """

    def __init__(self, turn: Turn) -> None:
        super().__init__(turn.renew, turn.began)
        self._lane = turn.lane

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        await self.stop()
        if not isinstance(error, FencedError):
            return False
        log.warning("a turn was taken over", lane=self._lane.name, shard=self._lane.shard)
        return True
