"""What tests of jobs and turns share."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from eventrouter.queue import queue_of


class Serve:
    """Serves turns; keeps what it served."""

    def __init__(self, claim=None, error=None) -> None:
        self.claim = claim
        self.error = error
        self.turns = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, turn, stopping, others_wait):
        self.turns.append(turn.lane)
        await self.gate.wait()
        if self.error:
            raise self.error
        if self.claim is not None:
            return await turn.give_up(self.claim)
        for item in (await turn.read()).items:
            assert item
        return None


async def jobs(redis: Redis, group: str = "") -> list[str]:
    """The ids of the jobs of a group, in the order of their times."""
    return [job.decode() for job in await redis.zrange(queue_of(group), 0, -1)]


async def until(condition, seconds=5.0):
    """Waits for a condition."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
