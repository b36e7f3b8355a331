"""How much of its limits each destination has used, so that it is told before deliveries are given up."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog
from redis.exceptions import RedisError

from .config import Config
from .config_destinations import part_of
from .config_model import RetryConfig
from .counters import Snapshot

log = structlog.get_logger("eventrouter.limits")

NEAR = 0.8
"""From this part of a limit on it is told."""
LOOK_SECONDS = 15.0
TELL_SECONDS = 600.0
"""How often it is told in the log while it lasts."""


class Used(NamedTuple):
    """Parts of a destination's limits: 0 nothing, 1 all."""

    backlog: float
    """Of `backlog`, in the shard where most waits; 0 for a destination that is not in the rules: nothing is routed to
    it."""
    max_age: float
    """Of `retry.max_age`, by the oldest delivery that waits."""

    def near(self) -> dict[str, float]:
        """The limits of which so much is used that it has to be told."""
        return {limit: part for limit, part in self._asdict().items() if part >= NEAR}


def used(config: Config, shards: int, snapshot: Snapshot) -> dict[str, Used]:
    """What each destination has used; the warehouse has no limits."""
    found = {}
    for name, lane in snapshot.lanes.items():
        if name in ("log", "warehouse"):
            continue
        one = config.destinations.get(name)
        room = part_of(one, shards) if one else 0
        retry = one.retry if one else RetryConfig()
        age = max(snapshot.now_ms - lane.oldest_ms, 0) / 1000 if lane.oldest_ms else 0.0
        backlog = lane.fullest / room if room else 0.0
        found[name] = Used(round(backlog, 3), round(age / max(retry.max_age, 0.001), 3))
    return found


class LimitsLog:
    """Tells in the log which destinations come near a limit: at once, then now and then."""

    def __init__(self, config: Callable[[], Config], shards: int) -> None:
        """`config` gives the rules in use."""
        self._config = config
        self._shards = shards
        self._told: dict[tuple[str, str], float] = {}

    def __call__(self, snapshot: Snapshot) -> None:
        """Takes a look."""
        now, found = time.monotonic(), used(self._config(), self._shards, snapshot)
        near = {(name, limit): part for name, one in found.items() for limit, part in one.near().items()}
        self._told = {key: at for key, at in self._told.items() if key in near}
        for key, part in near.items():
            if now - self._told.get(key, now - TELL_SECONDS) >= TELL_SECONDS:
                self._told[key] = now
                what = "A destination comes near a limit: more will be dead letters"
                log.warning(what, destination=key[0], limit=key[1], used=part)

    async def watch(self, look: Callable[[], Awaitable[Snapshot]]) -> None:
        """Looks now and then, until cancelled."""
        while True:
            with contextlib.suppress(RedisError, OSError, TimeoutError):  # nobody knows while Redis is away
                self(await look())
            await asyncio.sleep(LOOK_SECONDS)
