"""The server that Sentinels name: each connection asks them where it is, so that all of them follow a failover."""

from __future__ import annotations

from typing import Any

from redis.asyncio import BlockingConnectionPool, ConnectionPool
from redis.asyncio.connection import SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff

from .server_pool import READS, STEPS, cancellable, pool_options
from .server_url import ServerUrl

ASK_SECONDS = 1.0
"""How long one Sentinel may take to answer; then the next is asked."""


def _asking(base: type[Any]) -> type[Any]:
    """A connection that asks the Sentinels before each try to connect; redis-py would try the same address for long."""

    class Connection(base):  # type: ignore[misc]
        retry: Retry

        async def connect_to(self, address: tuple[str, int]) -> None:
            patient, self.retry = self.retry, Retry(NoBackoff(), 0)
            try:
                await super().connect_to(address)
            finally:
                self.retry = patient

    return Connection


class _Pool(SentinelConnectionPool):
    """Closes the connections to the Sentinels with its own."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        if inuse_connections:
            for one in self.sentinel_manager.sentinels:
                await one.aclose(close_connection_pool=True)


class _WaitingPool(_Pool, BlockingConnectionPool):
    """The same, where later callers wait for a connection."""


def make_sentinel_pool(url: ServerUrl, *, reads: bool = False, **more: Any) -> ConnectionPool:
    """A pool for steps, or for `reads` that block; `more` are options of its connections. Raises `ValueError`."""
    options = pool_options(url.plain)
    del options["host"], options["port"]
    kind = options.pop("connection_class", None)
    is_tls = isinstance(kind, type) and issubclass(kind, SSLConnection)
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    own: dict[str, Any] = {"socket_timeout": ASK_SECONDS, "socket_connect_timeout": ASK_SECONDS, "ssl": is_tls}
    manager = Sentinel(url.nodes, sentinel_kwargs=own | tls | url.sentinel_options)  # type: ignore[no-untyped-call]
    options["connection_class"] = cancellable(
        _asking(SentinelManagedSSLConnection if is_tls else SentinelManagedConnection)
    )
    options |= more
    made: type[Any] = _Pool if reads else _WaitingPool
    bounds = {"max_connections": READS} if reads else {"max_connections": STEPS, "timeout": 20}
    pool: ConnectionPool = made(url.service, manager, **bounds | options)
    return pool
