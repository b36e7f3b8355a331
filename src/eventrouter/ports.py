"""A TCP port from outside, without an HTTP library: taken for a server to come, and asked whether one answers."""

from __future__ import annotations

import asyncio
import errno
import socket

from .errors import StartError

WAITING = 2048
"""How many connections may wait to be accepted."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket that can be handed to a child. Raises `StartError` that says what is in the way.

    `up` holds it, so that connections made while the collector starts again wait instead of being refused.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise StartError(f"there is no address {host!r}: {error}", hint="give another one with --host") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(WAITING)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"port {port} of {host} is in use",
                hint="choose another with --port (or EVENTROUTER_PORT), or end what listens there",
            ) from None
        if isinstance(error, PermissionError):
            raise StartError(f"this user may not listen on port {port}", hint="choose one above 1023") from None
        raise StartError(
            f"cannot listen on port {port} of {host}: {error.strerror}", hint="give another address with --host"
        ) from None
    return listener


async def is_answering(host: str, port: int, path: str = "/ready") -> bool:
    """Whether GET `path` there is answered with 200 within a second."""
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                return (await reader.readline()).split()[1:2] == [b"200"]
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
