"""Pausing a destination: while it lasts nothing is sent, and what comes for it waits, in every shard, over restarts."""

from __future__ import annotations

import asyncio

from .health import FRESH_SECONDS, health_key
from .lane import Lane
from .lanes import Lanes
from .steps import too_few

REASON_LENGTH = 200


async def pause(lanes: Lanes, destination: str, reason: str = "") -> None:
    """Pauses `destination`; when this returns, no attempt begins any more. Those under way end, and are settled.

    Paused once more it is paused since the first time, for the last reason. Raises `redis.RedisError`,
    and `UnavailableError` where a failover could undo it, for want of replicas.
    """
    await _note(lanes, destination, "pause", reason[:REASON_LENGTH])
    await asyncio.sleep(FRESH_SECONDS)


async def resume(lanes: Lanes, destination: str, shards: int) -> None:
    """Ends a pause; what waits is tried at once, as fast as the destination takes it. Raises `redis.RedisError`."""
    await _note(lanes, destination, "resume")
    # A turn that was told of the pause is begun still, or waits already: either is woken.
    for shard in range(shards):
        await lanes.run("wake", [Lane(shard, destination).key], [])


async def _note(lanes: Lanes, destination: str, *words: str) -> None:
    _, is_kept = await lanes.run_kept("health", [health_key(destination)], words)
    if not is_kept:
        raise too_few(lanes.replicas)
