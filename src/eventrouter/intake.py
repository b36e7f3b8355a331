"""A collector's way to the event log: how it starts while the server is there or away, and whether it takes events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from redis.exceptions import RedisError

from .config import Config
from .connections import AwayError
from .errors import EventRouterError, StartError, UnavailableError
from .lanes import Lanes
from .log import EventLog
from .settings import Settings
from .spool import Spool, SpoolState

log = structlog.get_logger("eventrouter.intake")

SERVER_SECONDS = 3.0
"""How long a start waits for the server before it takes events without: `up` starts both at once."""
PING_SECONDS = 2.0
REACH_SECONDS = 5.0
"""How long one look for the server may take."""


class Intake:
    """The way of one collector. `start` before use; the event log closes the spool."""

    def __init__(
        self,
        event_log: EventLog,
        lanes: Lanes,
        connect: Callable[[float], Awaitable[None]],
        settings: Settings,
        config: Config,
    ) -> None:
        """`connect` waits for the server so many seconds, checks it, and raises `AwayError` or another `StartError`."""
        self._event_log = event_log
        self._lanes = lanes
        self._shards = settings.shards
        self._connect = connect
        self._directory = settings.data_dir.resolve() / "spool"
        self._max_bytes = config.collect.spool_max_bytes
        self.version = config.version
        """Of the rules in use."""
        self._is_connected = False

    async def start(self) -> None:
        """Connects. With a spool, a server that is away is no obstacle: events are kept there until it is back.

        Raises `StartError` for a server that is there and can't be used, and without a spool for one that is away.
        """
        spool = await self._open_spool()
        if spool is None:
            await self._connect(10.0)
            self._is_connected = True
            return
        away = ""
        try:
            async with asyncio.timeout(SERVER_SECONDS + 1):
                await self._connect(SERVER_SECONDS)
                self._is_connected = True
        except (TimeoutError, RedisError, OSError):
            away = "the server does not answer, or is loading its data"
        except EventRouterError as error:
            if isinstance(error, StartError) and not isinstance(error, AwayError):
                await spool.close()
                raise
            away = f"{error}; {error.hint}"
        self._event_log.use(spool, self._reach)
        if away:
            self._event_log.spool_from_now(away)

    async def _open_spool(self) -> Spool | None:
        if not self._max_bytes:
            return None
        spool = Spool(self._directory, self._max_bytes)
        try:
            await spool.open()
        except StartError as error:
            log.error(
                "there is no spool: while the event log is away, requests get 503", reason=str(error), hint=error.hint
            )
            return None
        return spool

    async def _reach(self) -> None:
        """Returns when the server can be written to."""
        try:
            async with asyncio.timeout(REACH_SECONDS):
                if self._is_connected:
                    await self._lanes.reach(self._shards)
                else:
                    await self._connect(0.0)
                    self._is_connected = True
        except TimeoutError:
            raise UnavailableError("the server does not answer, or is loading its data") from None

    async def ready(self) -> dict[str, Any]:
        """Whether events would be taken: `{"ready": bool, …}`, for `/ready`."""
        is_spooling = bool(self._event_log.reason)
        found: dict[str, Any] = {"event_log": "ok", "spooling": is_spooling, "rules": self.version}
        if not is_spooling and await self._answers():
            return {"ready": True, **found}
        found["event_log"] = "away"
        state = self.state()
        if state is None:
            return {"ready": False, **found}
        age = round(state.oldest_seconds, 1)
        spool = {"bytes": state.bytes, "events": state.events, "oldest_seconds": age}
        return {"ready": state.can_keep, **found, "spool": spool}

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self._lanes.redis.ping()
        except (RedisError, OSError, TimeoutError):
            return False
        return True

    def state(self) -> SpoolState | None:
        """The spool's numbers; None without one."""
        spool = self._event_log.spool
        return spool.state() if spool is not None else None
