"""arq, and all that is known of it: jobs that are nothing but a lane's turn, and the sweep that repairs lost ones."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec
import structlog
from arq.connections import ArqRedis, RedisSettings
from arq.constants import health_check_key_suffix, in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.worker import Worker, func
from redis.asyncio.retry import Retry as RedisRetry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from .connections import pool_of, single_server
from .lane import LEASE_MS, Claim, FencedError, Lane
from .lanes import Lanes, Turn
from .turn_failures import FAILED_SECONDS, tell
from .unrefused import Unrefused

log = structlog.get_logger("eventrouter.queue")

QUEUE = "er:queue"
"""arq's queue. Its keys live on one node; they may be lost: the sweep makes jobs anew."""
HEALTH = QUEUE + health_check_key_suffix
"""What `arq --check` looks for: there while a worker lives. All workers share it, and arq deletes it as one ends."""
HEALTH_SECONDS = 15
POLL_SECONDS = 0.03
"""How often a worker asks arq for jobs: a compromise of pick-up time and idle CPU; busy lanes don't wait for it."""
SWEEP_SECONDS = 1.0
TELL_SECONDS = 30.0
"""How often it is told that the sweep waits for Redis."""
SWEEP_TURNS = 100
"""How many turns of a shard one sweep makes anew; more of them wait for the next."""
JOB_SECONDS = 330.0
"""arq gives up a job after so long. Turns let others in after 60 s; the slowest attempt, two calls of 120 s, comes on
top of that, so that only a turn that hangs meets it."""
DRAIN_SECONDS = 20.0
"""How long turns may take to end after SIGTERM."""
TURNS_PER_DESTINATION = 8
"""Turns of one destination at once in one worker; router and warehouse have slots of their own."""
TURNS = 192
"""Turns of all destinations at once in one worker."""
RESERVED = ("log", "warehouse")


class Served(Protocol):
    """What a worker does with a turn: serves it and returns the claim of the next one, or None."""

    def __call__(self, turn: Turn, stopping: asyncio.Event) -> Awaitable[Claim | None]: ...


PATIENCE: dict[str, Any] = {
    "retry": RedisRetry(ExponentialBackoff(cap=1.0, base=0.05), 60),
    # OSError: a refused connection is none of redis-py's own errors while it connects.
    "retry_on_error": [RedisConnectionError, RedisTimeoutError, OSError],
    "retry_on_timeout": True,
}
"""What makes a worker wait for a restarting server instead of ending."""


class Client(Unrefused, ArqRedis):  # type: ignore[misc]  # redis-py's own mix-ins differ in `command_info`
    """arq's client. A full server refuses none of its writes, small and few: without jobs nothing would drain it."""

    @classmethod
    def of(cls, url: str, **options: Any) -> Client:
        """One for the server at `url`, no Cluster; connects when it is used."""
        client = cls(pool_of(url, reads=True, **options))
        client.job_serializer, client.job_deserializer = msgspec.json.encode, msgspec.json.decode
        return client


class Queue:
    """Hands claims to arq."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis

    @classmethod
    async def connect(cls, url: str) -> Queue:
        """A queue on the server at `url`. Raises `redis.RedisError` when it is away."""
        client = Client.of(url)
        await client.ping()
        return cls(client)

    async def enqueue(self, claims: Sequence[Claim]) -> None:
        """Makes an arq job of each claim. Never raises for a server that is away: the sweep finds what is missing."""
        try:
            await asyncio.gather(*(self._enqueue(claim) for claim in claims))
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("turns could not be enqueued; the sweep will", error=str(error) or type(error).__name__)

    async def _enqueue(self, claim: Claim) -> None:
        if claim.job:
            await self._forget(claim.job)
        nonce = f"{random.getrandbits(32):08x}"
        await self._redis.enqueue_job(
            "turn",
            claim.lane.shard,
            claim.lane.name,
            claim.token,
            _job_id=f"{claim.lane.name}:{claim.lane.shard}:{claim.token}:{nonce}",
            _queue_name=QUEUE,
            _defer_by=claim.delay or None,
        )

    async def _forget(self, job: str) -> None:
        """Takes the job of a dead turn out of arq, which would hold it until its in-progress key ends."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.zrem(QUEUE, job)
            pipeline.delete(*(prefix + job for prefix in (in_progress_key_prefix, job_key_prefix, retry_key_prefix)))
            await pipeline.execute()

    async def show_health(self, seconds: float) -> None:
        """Keeps what `arq --check` looks for alive for so long, or makes it anew: another worker may have ended."""
        ms = int(seconds * 1000)
        if not await self._redis.pexpire(HEALTH, ms):
            await self._redis.set(HEALTH, "a worker is alive", px=ms)

    async def clear(self) -> None:
        """Forgets every job: for a start that knows that no worker is alive, and has the sweep make them anew."""
        jobs = [job.decode() for job in await self._redis.zrange(QUEUE, 0, -1)]
        for first in range(0, len(jobs), 500):
            await asyncio.gather(*(self._forget(job) for job in jobs[first : first + 500]))

    async def close(self) -> None:
        """Closes its connections."""
        await self._redis.aclose(close_connection_pool=True)


class Turns:
    """The turns of one worker: begins them, keeps their number within bounds, and sweeps for lost ones."""

    def __init__(self, lanes: Lanes, shards: int, queue: Queue, serve: Served) -> None:
        self._lanes = lanes
        self._shards = shards
        self._queue = queue
        self._serve = serve
        self._running: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.stopping = asyncio.Event()

    def cancel(self) -> None:
        """Breaks off every turn; the sweep of another worker takes their lanes up."""
        for task in self._tasks:
            task.cancel()

    async def run(self, lane: Lane, token: str, job: str) -> None:
        """What an arq job does. Never raises: what fails is logged, and the sweep repairs it."""
        if self.stopping.is_set():
            await self._queue.enqueue([Claim(lane, token)])
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
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

    async def _run(self, turn: Turn) -> Claim | None:
        name = turn.lane.name
        others = self._running.total() - sum(self._running[reserved] for reserved in RESERVED)
        if name not in RESERVED and (self._running[name] >= TURNS_PER_DESTINATION or others >= TURNS):
            return await turn.give_up(random.uniform(0.1, 0.3))
        self._running[name] += 1
        try:
            return await self._serve(turn, self.stopping)
        except (RedisError, OSError, TimeoutError, FencedError):
            raise
        except Exception as error:
            await tell(turn, f"{type(error).__name__}: {error}", FAILED_SECONDS, error)
            return await turn.give_up(FAILED_SECONDS)
        finally:
            self._running[name] -= 1

    async def sweep_forever(self) -> None:
        """Looks for dead turns and due lanes about once a second, until cancelled."""
        told = -TELL_SECONDS
        while True:
            # Each by itself: the node of some shards may be away.
            work = (self._queue.show_health(HEALTH_SECONDS + 1), *map(self._sweep, range(self._shards)))
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
            await self._queue.enqueue(claims)
        return soonest if soonest >= 0 else SWEEP_SECONDS


async def turn_job(ctx: dict[str, Any], shard: int, lane: str, token: str) -> None:
    """The one arq job there is: a turn of a lane."""
    await ctx["turns"].run(Lane(shard, lane), token, ctx["job_id"])


def worker_settings(
    url: str, start: Callable[[], Awaitable[Turns]], stop: Callable[[], Awaitable[None]], *, shards: int
) -> type:
    """The class that `arq` and `eventrouter work` run. `start` connects and returns the turns, `stop` closes."""

    async def on_startup(ctx: dict[str, Any]) -> None:
        turns = await start()
        ctx["turns"] = turns
        ctx["sweep"] = asyncio.create_task(turns.sweep_forever())
        _drain_on_signal(turns, ctx["redis"])

    async def on_shutdown(ctx: dict[str, Any]) -> None:
        if sweep := ctx.get("sweep"):  # not there when a signal came during the start
            sweep.cancel()
            await asyncio.gather(sweep, return_exceptions=True)
            # arq has just deleted it. Any other worker's sweep makes it last.
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                await Queue(ctx["redis"]).show_health(2 * SWEEP_SECONDS)
        await stop()

    return type(
        "WorkerSettings",
        (),
        {
            "__doc__": "eventrouter's worker: run it by `arq eventrouter.WorkerSettings`.",
            "functions": [func(turn_job, name="turn", max_tries=1_000_000)],
            "redis_pool": Client.of(url, **PATIENCE),
            "redis_settings": RedisSettings(**single_server(url)),  # of `arq --check`
            "queue_name": QUEUE,
            "on_startup": on_startup,
            "on_shutdown": on_shutdown,
            "max_jobs": TURNS + 2 * shards + 16,
            "queue_read_limit": 2000,
            "poll_delay": POLL_SECONDS,
            "job_timeout": JOB_SECONDS,
            "keep_result": 0,
            "health_check_interval": HEALTH_SECONDS,
            "job_completion_wait": DRAIN_SECONDS,
            "job_serializer": msgspec.json.encode,
            "job_deserializer": msgspec.json.decode,
            "log_results": False,
        },
    )


def run_worker(settings: type) -> None:
    """Runs a worker until SIGTERM or SIGINT; its turns end first. On uvloop, which halves the cost of a round trip."""
    import uvloop

    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    kwargs = {name: value for name, value in vars(settings).items() if not name.startswith("__")}
    Worker(**kwargs).run()


def _drain_on_signal(turns: Turns, redis: ArqRedis) -> None:
    """On SIGTERM: picks no more jobs, and lets every turn hand its lane over after the attempt in hand, within bounds.

    arq's own handler would wait for turns that have no reason to end, then cancel them in mid-attempt. Its `redis`
    waits for a server that is away; from then on it gives up soon.
    """
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()

    def stop() -> None:
        turns.stopping.set()
        redis.set_retry(RedisRetry(ExponentialBackoff(cap=1.0, base=0.05), 3))
        loop.call_later(DRAIN_SECONDS, turns.cancel)
        if main is not None:
            main.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
