"""What can be known about a TCP port from outside, without an HTTP library."""

from __future__ import annotations

import asyncio
import errno
import socket

from .errors import StartError


def check_port(host: str, port: int) -> None:
    """Raises `StartError` when nobody could listen there now."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise StartError(f"there is no address {host!r}: {error.strerror}", hint="see --host") from None
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            if isinstance(error, PermissionError):
                hint = "ports below 1024 are for root: choose another with --port"
            else:
                hint = "choose another with --port (or EVENTROUTER_PORT), or end what listens there"
            what = "is in use" if error.errno == errno.EADDRINUSE else f"can't be used: {error.strerror}"
            raise StartError(f"port {port} of {host} {what}", hint=hint) from None


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
