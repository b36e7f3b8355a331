"""Connections to one Redis or Valkey server: bounded, and such that a command can be broken off at any moment."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import BlockingConnectionPool, ConnectionPool
from redis.asyncio.cluster import ClusterParser
from redis.asyncio.connection import SSLConnection, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

SOCKET_SECONDS = 15.0
"""A command that takes longer has failed; blocking reads wait for a second."""
CONNECT_SECONDS = 5.0
STEPS, READS = 64, 1000
"""How many connections there are at most for steps, where later callers wait, and for reads that block."""


def pool_options(url: str) -> dict[str, Any]:
    """What redis-py makes of a URL, with our bounds. Raises `ValueError`.

    With TLS a server's certificate has to be for its name, unless the URL says `ssl_check_hostname=false`.
    """
    options: dict[str, Any] = {"socket_timeout": SOCKET_SECONDS, "socket_connect_timeout": CONNECT_SECONDS}
    options["parser_class"] = ClusterParser  # it knows some errors more
    given = dict(parse_url(url))
    if given.get("connection_class") is SSLConnection:
        options["ssl_check_hostname"] = True
    return options | given


def make_pool(options: dict[str, Any], *, reads: bool = False) -> ConnectionPool:
    """A pool for steps, or for `reads` that block."""
    options = dict(options)
    options["connection_class"] = cancellable(options.get("connection_class", ConnectionPool().connection_class))
    if reads:
        return ConnectionPool(**{"max_connections": READS, **options})
    return BlockingConnectionPool(**{"max_connections": STEPS, "timeout": 20, **options})


def cancellable(base: type[Any]) -> type[Any]:
    """A connection whose commands can be cancelled at any moment, and that leaves a server that was demoted.

    redis-py bounds the time to send by `asyncio.wait_for`, which in Python 3.11 swallows a cancellation that comes just
    as the command is sent: the task would go on for ever, and a worker not end.
    """

    class Connection(base):  # type: ignore[misc]
        socket_timeout: float | None

        async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            if not self.is_connected:
                await self.connect()  # by its own bounds, and as patiently as it may
            timeout, self.socket_timeout = self.socket_timeout, None
            try:
                async with asyncio.timeout(timeout):
                    await super().send_packed_command(command, check_health)
            except TimeoutError:
                raise RedisTimeoutError("Timeout writing to socket") from None
            finally:
                self.socket_timeout = timeout

        async def read_response(self, *args: Any, **options: Any) -> Any:
            try:
                return await super().read_response(*args, **options)
            except ReadOnlyError:
                # Its name or the Sentinels lead to another one by now.
                await self.disconnect()
                raise RedisConnectionError("the server has become a replica") from None

    return Connection
