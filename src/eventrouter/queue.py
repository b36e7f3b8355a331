"""arq, and all that is known of it: jobs that are nothing but a lane's turn, in a queue for each group of workers."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec
import structlog
from arq.connections import ArqRedis, RedisSettings
from arq.constants import health_check_key_suffix, in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.worker import Worker, func
from redis.asyncio.retry import Retry as RedisRetry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from .connections import pool_of, single_server
from .lane import Claim, Lane
from .slots import TURNS
from .turns import SWEEP_SECONDS, Turns
from .unrefused import Unrefused
from .worker_group import DEFAULT_GROUP, start_hint

log = structlog.get_logger("eventrouter.queue")

QUEUE = "er:queue"
"""arq's queue. Its keys live on one node; they may be lost: the sweep makes jobs anew."""
HEALTH = QUEUE + health_check_key_suffix
"""What `arq --check` looks for: there while a worker lives. All workers of a queue share it, and arq deletes it as one
ends."""
HEALTH_SECONDS = 15
NOBODY_SECONDS = 60.0
"""How often it is told that a group has no worker."""
POLL_SECONDS = 0.03
"""How often a worker asks arq for jobs: a compromise of pick-up time and idle CPU; busy lanes don't wait for it."""
JOB_SECONDS = 330.0
"""arq gives up a job after so long. Turns let others in after 60 s; the slowest attempt, two calls of 120 s, comes on
top of that, so that only a turn that hangs meets it."""
DRAIN_SECONDS = 20.0
"""How long turns may take to end after SIGTERM."""
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


def queue_of(group: str) -> str:
    """arq's queue of a group of workers; '' is the group that serves what no other does."""
    return f"{QUEUE}:{group}" if group else QUEUE


class Queue:
    """Hands claims to arq, each to the queue of the group that serves its lane."""

    def __init__(self, redis: ArqRedis, group_of: Callable[[str], str] = lambda _: "", group: str = "") -> None:
        """`group_of` tells the group of a lane by its name; `group` is that of this process."""
        self._redis = redis
        self._group_of = group_of
        self._group = group
        self._told: dict[str, float] = {}

    @classmethod
    async def connect(cls, url: str, group_of: Callable[[str], str] = lambda _: "", group: str = "") -> Queue:
        """A queue on the server at `url`. Raises `redis.RedisError` when it is away."""
        client = Client.of(url)
        await client.ping()
        return cls(client, group_of, group)

    def is_mine(self, lane: Lane) -> bool:
        """Whether workers of this process's group serve `lane`."""
        return self._group_of(lane.name) == self._group

    async def enqueue(self, claims: Sequence[Claim]) -> None:
        """Makes an arq job of each claim. Never raises for a server that is away: the sweep finds what is missing."""
        try:
            await asyncio.gather(*(self._enqueue(claim) for claim in claims))
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("turns could not be enqueued; the sweep will", error=str(error) or type(error).__name__)

    async def defer(self, claim: Claim) -> str:
        """As `enqueue`, and returns the id of the job, for `hasten`; '' when the server is away."""
        try:
            return await self._enqueue(claim)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("a turn could not be enqueued; the sweep will", error=str(error) or type(error).__name__)
            return ""

    async def hasten(self, lane: Lane, job: str) -> bool:
        """Lets a deferred job of `lane` come at once; False when it waits no more.

        Never raises for a server that is away: the job comes in its time.
        """
        queue, now = queue_of(self._group_of(lane.name)), int(time.time() * 1000)
        try:
            return bool(await self._redis.zadd(queue, {job: now}, xx=True, lt=True, ch=True))
        except (RedisError, OSError, TimeoutError):
            return True

    async def enqueue_again(self, claims: Sequence[Claim]) -> None:
        """As `enqueue`, for what the sweep found: not for groups without a worker, where jobs would only pile up.

        The lease of such a lane ends again in a few seconds. Raises `redis.RedisError`.
        """
        groups = {self._group_of(claim.lane.name) for claim in claims}
        lost = [group for group in groups if not await self._lives(group)]
        for group in lost:
            if time.monotonic() - self._told.get(group, -NOBODY_SECONDS) >= NOBODY_SECONDS:
                self._told[group] = time.monotonic()
                name, hint = group or DEFAULT_GROUP, start_hint(group)
                log.warning("a group has no worker: what it is to serve waits", group=name, hint=hint)
        for claim in claims:
            if claim.job:
                await self._forget(queue_of(self._group_of(claim.lane.name)), claim.job)
        await self.enqueue([claim._replace(job="") for claim in claims if self._group_of(claim.lane.name) not in lost])

    async def _lives(self, group: str) -> bool:
        """Whether a worker of `group` was alive in the last seconds."""
        return group == self._group or bool(await self._redis.exists(queue_of(group) + health_check_key_suffix))

    async def _enqueue(self, claim: Claim) -> str:
        """Returns the id of the job."""
        queue = queue_of(self._group_of(claim.lane.name))
        if claim.job:
            await self._forget(queue, claim.job)
        job = f"{claim.lane.name}:{claim.lane.shard}:{claim.token}:{random.getrandbits(32):08x}"
        await self._redis.enqueue_job(
            "turn",
            claim.lane.shard,
            claim.lane.name,
            claim.token,
            _job_id=job,
            _queue_name=queue,
            _defer_by=claim.delay or None,
        )
        return job

    async def _forget(self, queue: str, job: str) -> None:
        """Takes the job of a dead turn out of arq, which would hold it until its in-progress key ends."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.zrem(queue, job)
            pipeline.delete(*(prefix + job for prefix in (in_progress_key_prefix, job_key_prefix, retry_key_prefix)))
            await pipeline.execute()

    async def show_health(self, seconds: float) -> None:
        """Keeps what `arq --check` looks for alive for so long, or makes it anew: another worker may have ended."""
        ms, health = int(seconds * 1000), queue_of(self._group) + health_check_key_suffix
        if not await self._redis.pexpire(health, ms):
            await self._redis.set(health, "a worker is alive", px=ms)

    async def clear(self, groups: Iterable[str] = ()) -> None:
        """Forgets every job: for a start that knows that no worker is alive, and has the sweep make them anew."""
        for queue in map(queue_of, ("", *groups)):
            jobs = [job.decode() for job in await self._redis.zrange(queue, 0, -1)]
            for first in range(0, len(jobs), 500):
                await asyncio.gather(*(self._forget(queue, job) for job in jobs[first : first + 500]))

    async def close(self) -> None:
        """Closes its connections."""
        await self._redis.aclose(close_connection_pool=True)


async def turn_job(ctx: dict[str, Any], shard: int, lane: str, token: str) -> None:
    """The one arq job there is: a turn of a lane."""
    await ctx["turns"].run(Lane(shard, lane), token, ctx["job_id"])


def worker_settings(
    url: str,
    start: Callable[[], Awaitable[Turns]],
    stop: Callable[[], Awaitable[None]],
    *,
    shards: int,
    group: str = "",
) -> type:
    """The class that `arq` and `eventrouter work` run, for a worker of `group`.

    `start` connects and returns the turns, `stop` closes.
    """

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
                await Queue(ctx["redis"], group=group).show_health(2 * SWEEP_SECONDS)
        await stop()

    return type(
        "WorkerSettings",
        (),
        {
            "__doc__": "eventrouter's worker: run it by `arq eventrouter.WorkerSettings`.",
            "functions": [func(turn_job, name="turn", max_tries=1_000_000)],
            "redis_pool": Client.of(url, **PATIENCE),
            "redis_settings": RedisSettings(**single_server(url)),  # of `arq --check`
            "queue_name": queue_of(group),
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
