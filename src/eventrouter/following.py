"""Keeps the rules of a running process those of the file, and tells others which they are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from .config import Config
from .presence import TELL_SECONDS, leave, tell, this_process
from .rules_file import RulesFile


class Following:
    """Runs beside a collector or a worker: `start`, and `stop` before its connections are closed."""

    def __init__(
        self,
        kind: str,
        rules: RulesFile,
        redis: Redis,
        take_over: Callable[[Config], Awaitable[None]],
        stores: str = "",
        group: str = "",
    ) -> None:
        """`kind` is `collector` or `worker`, which has `stores` and a `group`; `take_over` puts new rules in use."""
        self._kind = kind
        self._more = (stores, group)
        self._rules = rules
        self._redis = redis
        self._take_over = take_over
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins."""
        self._tasks = [asyncio.create_task(self._rules.follow(self._take_over)), asyncio.create_task(self._tell())]

    async def _tell(self) -> None:
        while True:
            with contextlib.suppress(RedisError, OSError, TimeoutError):  # nobody sees it while Redis is away
                rules = self._rules
                await tell(self._redis, this_process(self._kind, rules.config.version, rules.problem, *self._more))
            await asyncio.sleep(TELL_SECONDS)

    async def stop(self) -> None:
        """Ends; may be called twice."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if tasks:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await leave(self._redis, this_process(self._kind, ""))
