"""Who is there: collectors and workers tell with which rules they work, so that an operator sees all of them."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

KEY = "er:processes"
TELL_SECONDS = 2.0
GONE_SECONDS = 6.0
"""After so long a silence a process is gone: it was killed, or can't reach Redis."""


class Process(msgspec.Struct):
    """A collector or a worker."""

    kind: str
    """`collector` or `worker`."""
    host: str
    pid: int
    rules: str
    """The version of the rules that it uses."""
    problem: str = ""
    """Why the rules file is not in use as it is."""
    seen_ms: int = 0
    """When it told this, by the server's clock."""
    run: str = ""
    """Tells it from another one: in containers host and process id are often the same."""
    stores: str = ""
    """Where a worker has its databases: see `stores`."""
    group: str = ""
    """The group of a worker; '' is the default one."""

    @property
    def name(self) -> str:
        """The same as long as it runs."""
        return f"{self.kind}:{self.host}:{self.pid}:{self.run}"


_TELL = """#!lua flags=allow-oom
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], 3600)
"""
"""A full server takes it, too: a worker that can't start would not drain it."""

RUN = secrets.token_hex(4)


def this_process(kind: str, rules: str, problem: str = "", stores: str = "", group: str = "") -> Process:
    """What this process has to tell."""
    return Process(kind, socket.gethostname(), os.getpid(), rules, problem, run=RUN, stores=stores, group=group)


async def tell(redis: Redis, process: Process) -> None:
    """Tells of a process; to be repeated every few seconds. Raises `redis.RedisError`."""
    seconds, micros = await redis.time()
    process.seen_ms = seconds * 1000 + micros // 1000
    await redis.eval(_TELL, 1, KEY, process.name, msgspec.json.encode(process).decode())  # type: ignore[misc]


async def leave(redis: Redis, process: Process) -> None:
    """The process ends. Raises `redis.RedisError`."""
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.hdel(KEY, process.name)
        await pipeline.execute()


async def processes(redis: Redis) -> list[Process]:
    """Those that are there, by kind; those that were killed are forgotten. Raises `redis.RedisError`."""
    found: list[Process] = []
    gone: list[Any] = []
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.time()
        pipeline.hgetall(KEY)
        (seconds, micros), rows = await pipeline.execute()
    for name, row in rows.items():
        try:
            process = msgspec.json.decode(row, type=Process)
        except msgspec.MsgspecError:  # of another version
            continue
        # Its clock may have been set back since.
        if abs(seconds * 1000 + micros // 1000 - process.seen_ms) > GONE_SECONDS * 1000:
            gone.append(name)
        else:
            found.append(process)
    if gone:
        with contextlib.suppress(RedisError):  # a full disk or memory: they are left out next time as well
            async with redis.pipeline(transaction=False) as pipeline:
                pipeline.hdel(KEY, *gone)
                await pipeline.execute()
    return sorted(found, key=lambda one: (one.kind, one.host, one.pid))
