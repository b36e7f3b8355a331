"""Puts a process to sleep that is amid something, for so long that another one goes on with that."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
from chaos_system import System
from redis.asyncio import Redis
from redis.exceptions import RedisError

from eventrouter.settings import socket_path

SHARDS = 4
SLEEP_SECONDS = 12.0
"""Longer than every lease, and than the watchdog waits: what a sleeper had in hand is another's when it wakes up."""
BUSY_SECONDS = 0.3
"""How long it is watched who has most to do."""
SETTLED_SECONDS = 2.0
"""After so long a process does no longer start."""
PATIENCE_SECONDS = 3.0
"""How long it is waited for a moment in which there is something to be routed."""


async def until(data: Path, holds: Callable[[Redis], Awaitable[bool]], seconds: float) -> None:
    """Returns when something holds in the Valkey of a data directory, or after so long."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with contextlib.suppress(RedisError, OSError):
            async with Redis(unix_socket_path=str(socket_path(data))) as redis:
                while time.monotonic() < ends:
                    if await holds(redis):
                        return
                    await asyncio.sleep(0.003)
        await asyncio.sleep(0.05)


async def sleep(system: System, kind: str) -> None:
    """Freezes that one of a kind which has most to do, while it has to; see `System.all_awake`."""
    system.sleepers += 1
    try:
        with contextlib.suppress(psutil.Error):
            index = await _busiest(system, kind)
            if kind == "worker":
                await until(system.data, _is_routing, PATIENCE_SECONDS)
            await system.freeze(kind, SLEEP_SECONDS, index)
    finally:
        system.sleepers -= 1


async def _is_routing(redis: Redis) -> bool:
    """Whether some turn of the router has read what it has not settled yet."""
    async with redis.pipeline(transaction=False) as pipeline:
        for shard in range(SHARDS):
            pipeline.hget(f"er:{{{shard}}}:lane:log:turn", "waiting")
        return any(int(waiting or 0) for waiting in await pipeline.execute())


async def _busiest(system: System, kind: str) -> int:
    """Which of those that are not frozen has most to do; it is waited until one has started long ago."""
    ends = time.monotonic() + SETTLED_SECONDS
    while True:
        used = {process.pid: _used(process) for process in system.find(kind) if process.pid not in system.frozen}
        await asyncio.sleep(BUSY_SECONDS)
        settled = time.time() - SETTLED_SECONDS
        awake = [process for process in system.find(kind) if process.pid not in system.frozen]
        busy = [
            _used(process) - used[process.pid] if process.pid in used and process.create_time() < settled else 0.0
            for process in awake
        ]
        if any(busy) or time.monotonic() > ends:
            return busy.index(max(busy)) if busy else 0


def _used(process: psutil.Process) -> float:
    """Seconds of processor time."""
    return float(sum(process.cpu_times()[:2]))
