"""TLS in front of a server that has none: certificates for a test, and a port that takes TLS and leads to it."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from pathlib import Path

from gate import copy
from system import free_port


class Certificate:
    """A certificate of our own for `name`, which is its own authority; made by the `openssl` of this machine."""

    def __init__(self, directory: Path, name: str) -> None:
        self.path, self.key = directory / f"{name}.pem", directory / f"{name}.key"
        new = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}")
        files = ("-keyout", str(self.key), "-out", str(self.path), "-addext", f"subjectAltName=DNS:{name}")
        subprocess.run([*new, *files], check=True, capture_output=True)


class TlsGate:
    """`with TlsGate(port, certificate) as gate:` leads TLS at `gate.port` to the plain `port`, both on loopback."""

    def __init__(self, port: int, certificate: Certificate) -> None:
        self._there = port
        self._certificate = certificate
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> TlsGate:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self) -> asyncio.Server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate.path, self._certificate.key)
        return await asyncio.start_server(self._lead, "127.0.0.1", self.port, ssl=context)

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._there)
        try:
            await asyncio.gather(copy(reader, there_writer), copy(there_reader, writer))
        finally:
            self._tasks.discard(task)
            for one in (writer, there_writer):
                one.transport.abort()
