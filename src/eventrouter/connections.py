"""Connections to the Redis or Valkey in use: how they are made, bounded and checked."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import AuthenticationError, BusyLoadingError, OutOfMemoryError, RedisError

from .cluster import Cluster
from .errors import StartError
from .sentinel import make_sentinel_pool
from .server_check import check_server
from .server_pool import make_pool, pool_options
from .server_time import note, own_ms
from .server_url import ServerUrl
from .settings import URL_HINT, Settings

log = structlog.get_logger("eventrouter.connections")

FORMAT = 1
"""The version of our keys in Redis."""
META = "er:meta"


class AwayError(StartError):
    """The server does not answer."""


def clients(url: str) -> tuple[Redis, Redis]:
    """Two clients: one for steps (64 connections at most, later callers wait), one for blocking reads (1,000 at most).

    Neither repeats a command by itself: a step whose outcome is unknown must not run twice. Raises `StartError`.
    """
    return client(url), client(url, reads=True)


def client(url: str, *, reads: bool = False) -> Redis:
    """A client for steps, or for `reads` that block. Raises `StartError` for a URL that can't be used."""
    try:
        where = ServerUrl.parse(url)
        if where.kind == "cluster":
            options = pool_options(where.plain)
            make_pool(options).make_connection()  # type: ignore[no-untyped-call]
            return Cluster(
                where.nodes, lambda node: make_pool({**options, "host": node[0], "port": node[1]}, reads=reads)
            )
        return Redis(connection_pool=pool_of(url, reads=reads))
    except (ValueError, TypeError) as error:
        raise StartError(f"EVENTROUTER_REDIS_URL {error}", hint=URL_HINT) from None


def pool_of(url: str, *, reads: bool = False, **more: Any) -> ConnectionPool:
    """The connections to one server, or to the one that Sentinels name; `more` are options of theirs.

    Raises `ValueError`, and `TypeError` for an option that there isn't.
    """
    where = ServerUrl.parse(url)
    if where.kind == "sentinel":
        pool = make_sentinel_pool(where, reads=reads, **more)
    else:
        pool = make_pool(pool_options(where.plain) | more, reads=reads)
    pool.make_connection()  # type: ignore[no-untyped-call]  # an option that there isn't is told now
    return pool


def single_server(url: str) -> dict[str, Any]:
    """The server at `url`, no Cluster, in the words of arq's `RedisSettings`."""
    where = ServerUrl.parse(url)
    options = pool_options(where.plain)
    words = ("port", "username", "password", *(name for name in options if name.startswith("ssl_")))
    return {name: options[name] for name in words if name in options} | {
        "host": list(where.nodes) or options.get("host", "localhost"),
        "database": options.get("db", 0),
        "unix_socket_path": options.get("path"),
        "ssl": where.plain.startswith("rediss:"),
        "sentinel": where.kind == "sentinel",
        "sentinel_master": where.service,
    }


async def wait_for_server(redis: Redis, settings: Settings, seconds: float, *, silent: float | None = None) -> None:
    """Returns when the server answers and fits; raises `StartError` when it doesn't within `seconds`.

    One that says that it is busy is waited for, however long. One that takes the connection and says nothing has
    `silent` seconds for its first answer, by default as many as any command.
    """
    deadline = time.monotonic() + seconds
    told = False
    while True:
        try:
            async with asyncio.timeout(silent):
                await redis.ping()
            warnings = [] if settings.embedded else await _check(redis, settings)
            await _check_meta(redis, settings)
            break
        except AuthenticationError:
            raise StartError(
                f"the Redis at {settings.shown_server_url} refused the password",
                hint="correct EVENTROUTER_REDIS_URL (redis://user:password@host:port/0)",
            ) from None
        except (RedisError, OSError, TimeoutError) as error:
            if time.monotonic() > deadline:
                if not is_busy(error):
                    raise _away(error, settings) from None
                if not told:
                    log.warning("waiting for the server", url=settings.shown_server_url, reason=str(error))
                told = True
            await asyncio.sleep(0.05)
    for warning in dict.fromkeys(warnings):
        log.warning(warning)


def is_busy(error: BaseException) -> bool:
    """Whether the server is there, and says that it is loading its data or runs a script."""
    return isinstance(error, BusyLoadingError) or str(error).startswith("BUSY ")


def _away(error: BaseException, settings: Settings) -> AwayError:
    where = f"the Redis at {settings.shown_server_url}"
    if isinstance(error, TimeoutError):
        see = "the log of `eventrouter up`" if settings.embedded else "its log"
        return AwayError(
            f"{where} takes connections, but does not answer",
            hint=f"it is stopped, or waits for its disk: see {see}, and start it again if it does not recover",
        )
    told = str(error).partition(" : ")[0].rstrip(".")
    why = "" if settings.embedded or not told else f" ({told})"
    return AwayError(
        f"{where} is not reachable{why}",
        hint="`eventrouter up` starts the embedded server; where it runs, its log says what is wrong"
        if settings.embedded
        else "start it, or correct EVENTROUTER_REDIS_URL",
    )


async def _check(redis: Redis, settings: Settings) -> list[str]:
    """Warnings about the servers in use."""
    asked = own_ms()
    seconds, micros = await redis.time()
    note(seconds * 1000 + micros / 1000, asked)
    if not isinstance(redis, Cluster):
        return await check_server(redis, replicas=settings.replicas)
    masters = await redis.masters()
    return [one for node in masters for one in await check_server(node, is_cluster=True, replicas=settings.replicas)]


async def _check_meta(redis: Redis, settings: Settings) -> None:
    """The number of shards is stored at the first start: the order of a key's events depends on it."""
    stored: Any = redis.hmget(META, ["shards", "format"])  # typed as if it might be no coroutine
    shards, stored_format = await stored
    if shards is None or stored_format is None:
        # Not at every start: a full server refuses to write, and has to be drained nevertheless.
        try:
            async with redis.pipeline(transaction=False) as pipeline:
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
