"""The turns of a worker: begun when the queue says so, kept within bounds, and the sweep that repairs lost ones."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from redis.exceptions import RedisError, ResponseError

from .lane import LEASE_MS, Claim, FencedError, Lane
from .lanes import Lanes, Turn
from .slots import Slots
from .turn_failures import FAILED_SECONDS, tell

if TYPE_CHECKING:
    from .queue import Queue

log = structlog.get_logger("eventrouter.turns")

SWEEP_SECONDS = 1.0
HEALTH_SECONDS = 16.0
"""How long a worker counts as alive after each sweep."""
TELL_SECONDS = 30.0
"""How often it is told that the sweep waits for Redis."""
SWEEP_TURNS = 100
"""How many turns of a shard one sweep makes anew; more of them wait for the next."""
MISPLACED_SECONDS = 0.3
"""When the workers of another group get a lane that is theirs: who sent it here may learn of new rules later."""
MISPLACED_LONGEST = 5.0
"""How long that takes at most: each time that the lane comes back here it takes twice as long."""


class Served(Protocol):
    """What a worker does with a turn: serves it and returns the claim of the next one, or None.

    It should end soon once the worker is `stopping`, and before long while `others_wait` for its slot.
    """

    def __call__(
        self, turn: Turn, stopping: asyncio.Event, others_wait: Callable[[], bool]
    ) -> Awaitable[Claim | None]: ...


class Turns:
    """The turns of one worker: begins them, keeps their number within bounds, and sweeps for lost ones."""

    def __init__(self, lanes: Lanes, shards: int, queue: Queue, serve: Served) -> None:
        self._lanes = lanes
        self._shards = shards
        self._queue = queue
        self._serve = serve
        self._slots = Slots()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._misplaced: dict[Lane, float] = {}
        """By lanes of other groups that came here: in how many seconds those get them, when they come here again."""
        self.stopping = asyncio.Event()

    def cancel(self) -> None:
        """Breaks off every turn; the sweep of another worker takes their lanes up."""
        for task in self._tasks:
            task.cancel()

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self, lane: Lane, token: str, job: str) -> None:
        """What an arq job does. Never raises: what fails is logged, and the sweep repairs it."""
        if self.stopping.is_set():
            await self._queue.enqueue([Claim(lane, token)])
            return
        task = asyncio.current_task()
        assert task is not None
        self._keep(task)
        turn: Turn | None = None
        try:
            turn = await self._lanes.begin(lane, token, job)
            if turn is None:
                return
            claim = await self._run(turn)
            if claim is not None:
                await self._queue.enqueue([claim])
        except (RedisError, OSError, TimeoutError, FencedError) as error:
            if turn is not None and isinstance(error, ResponseError):
                # A step that the server refuses would be refused again at once.
                await tell(turn, f"Redis refuses a step: {error}", FAILED_SECONDS)
                await self._hand_over(turn, FAILED_SECONDS)
                return
            log.warning("a turn was broken off", lane=lane.name, shard=lane.shard, error=str(error))
            if turn is not None and not isinstance(error, FencedError):
                await self._hand_over(turn, 0.0)

    async def _hand_over(self, turn: Turn, delay: float) -> None:
        """Ends a turn that was broken off as soon as Redis is back, which is sooner than its lease would end."""
        ends = time.monotonic() + LEASE_MS / 1000
        while time.monotonic() < ends:
            await asyncio.sleep(random.uniform(0.1, 0.3))
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                try:
                    claim = await turn.give_up(delay)
                except FencedError:
                    return
                await self._queue.enqueue([claim])
                return

    async def _pass_on(self, turn: Turn) -> Claim:
        """Ends a turn that belongs to another group, which may think that it belongs here.

        As a turn of its own, not as the job that came: two groups that disagree would keep every copy of that alive.
        """
        delay = self._misplaced.get(turn.lane, MISPLACED_SECONDS)
        self._misplaced[turn.lane] = min(2 * delay, MISPLACED_LONGEST)
        return await turn.give_up(delay)

    async def _run(self, turn: Turn) -> Claim | None:
        if not self._queue.is_mine(turn.lane):
            return await self._pass_on(turn)
        lane = turn.lane
        self._misplaced.pop(lane, None)
        if (delay := self._slots.take(lane)) > 0:
            self._slots.deferred(lane, await self._queue.defer(await turn.give_up(delay)))
            return None
        try:
            return await self._serve(turn, self.stopping, partial(self._slots.others_wait, lane))
        except (RedisError, OSError, TimeoutError, FencedError):
            raise
        except Exception as error:
            await tell(turn, f"{type(error).__name__}: {error}", FAILED_SECONDS, error)
            return await turn.give_up(FAILED_SECONDS)
        finally:
            if (following := self._slots.give_back(lane)) is not None:
                self._keep(asyncio.create_task(self._call(*following)))

    async def _call(self, lane: Lane, job: str) -> None:
        """Lets a lane that waits for a slot have it, or the next one when it waits elsewhere by now."""
        following: tuple[Lane, str] | None = (lane, job)
        while following is not None and not await self._queue.hasten(*following):
            following = self._slots.gone(following[0])

    async def sweep_forever(self) -> None:
        """Looks for dead turns and due lanes about once a second, until cancelled."""
        told = -TELL_SECONDS
        while True:
            # Each by itself: the node of some shards may be away.
            work = (self._queue.show_health(HEALTH_SECONDS), *map(self._sweep, range(self._shards)))
            _, *waits = found = await asyncio.gather(*work, return_exceptions=True)
            for error in [one for one in found if isinstance(one, BaseException)]:
                if not isinstance(error, (RedisError, OSError, TimeoutError)):
                    raise error
                if time.monotonic() - told >= TELL_SECONDS:
                    told = time.monotonic()
                    log.warning("the sweep waits for Redis", error=str(error) or type(error).__name__)
            wait = min([SWEEP_SECONDS, *(one for one in waits if isinstance(one, float))])
            await asyncio.sleep(max(wait, 0.02) * random.uniform(0.9, 1.1))

    async def _sweep(self, shard: int) -> float:
        """Seconds until something may be found again."""
        claims, soonest = await self._lanes.sweep(shard, most=SWEEP_TURNS)
        if claims:
            await self._queue.enqueue_again(claims)
        return soonest if soonest >= 0 else SWEEP_SECONDS
