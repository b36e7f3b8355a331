"""A gate before a server: a TCP port on loopback that leads to it while the gate is open."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any
from urllib.parse import parse_qs, urlsplit

from system import free_port


class Gate:
    """`with Gate(path) as gate:` leads `gate.port` to the unix socket `path`. `close` breaks every connection off."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Gate:
        self._thread.start()
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def open(self) -> None:
        """Lets connections in."""
        self._do(self._open())

    def close(self) -> None:
        """Refuses connections, as a server that is down does, and breaks off those that are there."""
        self._do(self._close())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._lead, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.05)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(self._path)
        self._writers |= {writer, there_writer}
        try:
            await asyncio.gather(copy(reader, there_writer), copy(there_reader, writer))
        finally:
            self._writers -= {writer, there_writer}


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hands on what comes until there is no more, or a side is gone."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def gate_to_postgres(url: str) -> tuple[Gate, str]:
    """A gate to the PostgreSQL of `url` (one with a unix socket), and the URL through it."""
    parts = urlsplit(url)
    directory = parse_qs(parts.query)["host"][0]
    gate = Gate(f"{directory}/.s.PGSQL.5432")
    return gate, f"postgresql://postgres@127.0.0.1:{gate.port}{parts.path}"
