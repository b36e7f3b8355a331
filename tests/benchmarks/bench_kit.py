"""What benchmarks of the whole system share: the system as a user runs it, its load client and its sink."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil

KEY = "bench"
AUTH = base64.b64encode(f"{KEY}:".encode()).decode()

ROUTES = [
    {"name": "r1", "to": "first", "when": 'event == "Never Happens"'},
    {"name": "r2", "to": "first", "when": 'type == "track" and properties.total > 100000'},
    {"name": "r3", "to": "first", "when": 'context.locale == "tlh"'},
    {
        "name": "r4",
        "to": "first",
        "when": 'event == "Order Completed"',
        "set": {"properties.total_cents": "{{ (properties.total * 100) | int }}"},
    },
    {
        "name": "r5",
        "to": "first",
        "when": 'type == "track"',
        "map": {
            "messageId": "{{ messageId }}",
            "name": "{{ event }}",
            "who": "{{ anonymousId }}",
            "total": "{{ properties.total }}",
        },
    },
    {"name": "r6", "to": "second", "when": 'properties.category == "none"'},
    {"name": "r7", "to": "second", "when": 'type == "page" and properties.path is defined'},
    {"name": "r8", "to": "second", "when": 'userId is defined and traits.plan == "gold"'},
    {"name": "r9", "to": "second", "when": 'type == "identify"'},
    {"name": "r10", "to": "second", "drop": ["context.userAgent"]},
]


def make_rules(port: int, *, warehouse: str = "", size: int = 100) -> str:
    """Ten routes and two web servers; JSON is YAML."""
    destinations = {
        name: {
            "plugin": "webhook",
            "batch": {"size": size},
            "options": {"url": f"http://127.0.0.1:{port}/{name}", "allow_private": True},
        }
        for name in ("first", "second")
    }
    rules = {
        "version": 1,
        "sources": {"bench": {"write_key": KEY}},
        "warehouse": {"url": warehouse},
        "destinations": destinations,
        "routes": ROUTES,
    }
    return msgspec.json.encode(rules).decode()


SLOW_SECONDS = 8.0


class _Sink(asyncio.Protocol):
    """A web server that answers 200 and notes how many events came, and when the first one of each id did.

    Below /slow it takes its time to answer, until it is told to hurry.
    """

    counts: dict[str, int]
    times: dict[str, float]

    def __init__(self) -> None:
        self.buffer = bytearray()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.buffer[:end])
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            if len(self.buffer) < end + 4 + length:
                return
            body = bytes(self.buffer[end + 4 : end + 4 + length])
            del self.buffer[: end + 4 + length]
            path = head.split(b" ")[1].decode()
            _note(path, body)
            seconds = SLOW_SECONDS if path.startswith("/slow") and not _hurry.is_set() else 0
            asyncio.get_running_loop().call_later(seconds, self._answer)

    def _answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


def _note(path: str, body: bytes) -> None:
    now = time.time()
    value = msgspec.json.decode(body)
    events = value if isinstance(value, list) else [value]
    _shared[path] = _shared.get(path, 0) + len(events)
    if _times is not None and not path.startswith("/slow"):
        for event in events:
            _times[event.get("messageId") or event.get("id") or ""] = now


_shared: dict[str, int] = {}
_times: dict[str, float] | None = None
_hurry = threading.Event()


def _run_sink(port: int, pipe: Any, with_times: bool) -> None:
    global _times
    if with_times:
        _times = {}

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Sink, "127.0.0.1", port)
        async with server:
            while True:
                while not pipe.poll():
                    await asyncio.sleep(0.02)
                if pipe.recv() == "hurry":
                    _hurry.set()
                pipe.send((dict(_shared), dict(_times or {})))

    with contextlib.suppress(KeyboardInterrupt, EOFError):
        asyncio.run(main())


class Sink:
    """Runs the web server in a process of its own."""

    def __init__(self, *, with_times: bool = False) -> None:
        self.port = free_port()
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_run_sink, args=(self.port, theirs, with_times), daemon=True)
        self._process.start()

    def ask(self, what: str = "") -> tuple[dict[str, int], dict[str, float]]:
        """Events by path, and arrival times by message id. With `hurry` it is slow no more."""
        self._pipe.send(what)
        answer: tuple[dict[str, int], dict[str, float]] = self._pipe.recv()
        return answer

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()


class System:
    """An `eventrouter up` in a directory of its own."""

    def __init__(self, rules: str, *, workers: int = 1, environment: Mapping[str, str] | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="eventrouter-bench-"))
        (self.directory / "routes.yaml").write_text(rules)
        self.port = free_port()
        began = time.perf_counter()
        command = [sys.executable, "-m", "eventrouter", "up", "--port", str(self.port), "--workers", str(workers)]
        self._log = (self.directory / "log").open("wb")
        self.process = subprocess.Popen(
            command, cwd=self.directory, env=os.environ | (environment or {}), stdout=self._log, stderr=self._log
        )
        while True:
            if self.process.poll() is not None:
                raise SystemExit((self.directory / "log").read_text())
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                if b" 200 " in connection.recv(100):
                    break
            time.sleep(0.01)
        self.seconds_to_ready = time.perf_counter() - began

    def processes(self) -> dict[str, psutil.Process]:
        """Its processes by role."""
        roles = {"up": psutil.Process(self.process.pid)}
        for child in roles["up"].children(recursive=True):
            try:
                words = " ".join(child.cmdline())
            except psutil.Error:
                continue
            role = "valkey" if "valkey" in words.split(" ")[0] else "collector" if "collect" in words else "worker"
            roles[role if role not in roles else f"{role}{child.pid}"] = child
        return roles

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(40)
        self._log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def make_event(number: int) -> dict[str, Any]:
    """About 600 bytes, as a browser's SDK sends it."""
    return {
        "type": "track",
        "event": random.choice(("Order Completed", "Product Viewed", "Signed Up")),
        "messageId": str(uuid.uuid4()),
        "anonymousId": f"visitor-{random.randrange(5000)}",
        "timestamp": datetime.now(UTC).isoformat(),
        "properties": {
            "total": number % 500 + 0.5,
            "order_id": f"o{number}",
            "category": "shoes",
            "quantity": number % 7,
        },
        "context": {
            "page": {"url": "https://example.com/shop/item", "title": "An item", "referrer": "https://example.com/"},
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/142.0 Safari/537.36",
            "locale": "en-GB",
            "library": {"name": "analytics.js", "version": "2.11.1"},
        },
    }


def request(path: str, body: Any) -> bytes:
    data = msgspec.json.encode(body)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Basic {AUTH}\r\ncontent-length: {len(data)}\r\n\r\n"
    return head.encode() + data


async def send_all(port: int, requests: list[bytes], connections: int) -> list[float]:
    """Sends each request once its connection's last was answered; returns seconds per request."""
    queue = iter(requests)
    seconds: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for data in queue:
            began = time.perf_counter()
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head[:20], head
            await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
            seconds.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return seconds


class Sent(NamedTuple):
    """What was sent one by one."""

    at: dict[str, float]
    """When each message id was answered, as Unix time in seconds."""
    seconds: list[float]
    """How long each answer took."""

    def until(self, times: Mapping[str, float]) -> list[float]:
        """Seconds from the answer until `times`, without those of the first three seconds."""
        begin = min(self.at.values()) + 3
        return [times[key] - when for key, when in self.at.items() if when > begin and key in times]


async def send_steadily(port: int, seconds: int, rate: int) -> Sent:
    """Sends `rate` single events a second, by 16 connections."""
    sent = Sent({}, [])
    free = asyncio.Queue[Any]()
    for _ in range(16):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))

    async def one() -> None:
        event = make_event(1)
        reader, writer = await free.get()
        began = time.time()
        writer.write(request("/v1/track", event))
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
        sent.at[event["messageId"]] = time.time()
        sent.seconds.append(time.time() - began)
        free.put_nowait((reader, writer))

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(seconds * rate):
            await asyncio.sleep(max(began + number / rate - time.perf_counter(), 0))
            tasks.create_task(one())
    while not free.empty():
        _, writer = free.get_nowait()
        writer.close()
    return sent


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]
