"""Connections to the Redis or Valkey in use: how they are made, bounded and checked."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.exceptions import AuthenticationError, BusyLoadingError, OutOfMemoryError, RedisError

from .errors import StartError
from .server_check import check_server
from .settings import Settings

log = structlog.get_logger("eventrouter.connections")

FORMAT = 1
"""The version of our keys in Redis."""
META = "er:meta"
SOCKET_SECONDS = 15.0
"""A command that takes longer has failed; blocking reads wait for a second."""


class AwayError(StartError):
    """The server does not answer."""


def clients(url: str) -> tuple[Redis, Redis]:
    """Two clients: one for steps (64 connections at most, later callers wait), one for blocking reads (1,000 at most).

    Neither repeats a command by itself: a step whose outcome is unknown must not run twice.
    """
    steps = BlockingConnectionPool.from_url(
        url, max_connections=64, timeout=20, socket_timeout=SOCKET_SECONDS, socket_connect_timeout=5
    )
    blocking = ConnectionPool.from_url(
        url, max_connections=1000, socket_timeout=SOCKET_SECONDS, socket_connect_timeout=5
    )
    for pool in (steps, blocking):
        pool.connection_class = _cancellable(pool.connection_class)
    return Redis(connection_pool=steps), Redis(connection_pool=blocking)


def _cancellable(base: type[Any]) -> type[Any]:
    """A connection whose commands can be cancelled at any moment.

    redis-py bounds the time to send by `asyncio.wait_for`, which in Python 3.11 swallows a cancellation that comes just
    as the command is sent: the task would go on for ever, and a worker not end.
    """

    class Connection(base):  # type: ignore[misc]
        socket_timeout: float | None

        async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            timeout, self.socket_timeout = self.socket_timeout, None
            try:
                async with asyncio.timeout(timeout):
                    await super().send_packed_command(command, check_health)
            finally:
                self.socket_timeout = timeout

    return Connection


async def wait_for_server(redis: Redis, settings: Settings, seconds: float) -> None:
    """Returns when the server answers and fits; raises `StartError` when it doesn't within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            await redis.ping()
            break
        except AuthenticationError:
            raise StartError(
                f"the Redis at {settings.shown_server_url} refused the password",
                hint="correct EVENTROUTER_REDIS_URL (redis://user:password@host:port/0)",
            ) from None
        except (RedisError, OSError, TimeoutError) as error:
            # A server that is loading its data is there, and says so; it is waited for.
            if time.monotonic() > deadline and not isinstance(error, BusyLoadingError):
                raise AwayError(
                    f"the Redis at {settings.shown_server_url} is not reachable",
                    hint="`eventrouter up` starts the embedded server"
                    if settings.embedded
                    else "start it, or correct EVENTROUTER_REDIS_URL",
                ) from None
            await asyncio.sleep(0.05)
    if not settings.embedded:
        for warning in await check_server(redis):
            log.warning(warning)
    await _check_meta(redis, settings)


async def _check_meta(redis: Redis, settings: Settings) -> None:
    """The number of shards is stored at the first start: the order of a key's events depends on it."""
    stored: Any = redis.hmget(META, ["shards", "format"])  # typed as if it might be no coroutine
    shards, stored_format = await stored
    if shards is None or stored_format is None:
        # Not at every start: a full server refuses to write, and has to be drained nevertheless.
        try:
            async with redis.pipeline(transaction=True) as pipeline:
                pipeline.hsetnx(META, "shards", str(settings.shards))
                pipeline.hsetnx(META, "format", str(FORMAT))
                pipeline.hmget(META, ["shards", "format"])
                _, _, (shards, stored_format) = await pipeline.execute()
        except OutOfMemoryError:
            raise StartError(
                f"the memory of the Redis at {settings.shown_server_url} is full of other things",
                hint="give it a larger maxmemory, or eventrouter a Redis of its own",
            ) from None
    if int(shards) != settings.shards:
        raise StartError(
            f"this event log has {int(shards)} shards, not {settings.shards}",
            hint=f"set EVENTROUTER_SHARDS={int(shards)}; the number is fixed at the first start, since a key's order"
            " depends on it. For another number start with an empty data directory or Redis database",
        )
    if int(stored_format) != FORMAT:
        raise StartError(
            f"this event log has format {int(stored_format)}, this version reads {FORMAT}",
            hint="start the version that wrote it, or one between",
        )
