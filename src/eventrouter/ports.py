"""A TCP port from outside, without an HTTP library: taken for a server to come, and asked whether one answers."""

from __future__ import annotations

import asyncio
import errno
import socket

from .errors import StartError

BACKLOG = 2048
"""How many connections may wait to be taken by the server."""


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens on `host` (a name or an address) and `port` (0: any that is free).

    It may be handed to child processes: `up` holds it, so that connections made while the collector starts again wait
    instead of being refused. Raises `StartError`.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise StartError(
            f"{host} is not an address of this machine: {getattr(error, 'strerror', None) or error}",
            hint="use 127.0.0.1, 0.0.0.0 or a host name",
        ) from None
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _start_error(host, port, error) from None
    listener.setblocking(False)
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


def _start_error(host: str, port: int, error: OSError) -> StartError:
    if error.errno == errno.EADDRINUSE:
        return StartError(
            f"port {port} of {host} is in use",
            hint=f"stop what listens on port {port}, or choose another one with --port (EVENTROUTER_PORT)",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return StartError(f"this user may not listen on port {port}", hint="choose a port above 1023 with --port")
    if error.errno == errno.EADDRNOTAVAIL:
        return StartError(f"{host} is not an address of this machine", hint="use 127.0.0.1 or 0.0.0.0 with --host")
    return StartError(
        f"cannot listen on port {port} of {host}: {error.strerror}", hint="choose another --port or --host"
    )
