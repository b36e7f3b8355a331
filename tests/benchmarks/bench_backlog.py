"""Measures a backlog: `python tests/benchmarks/bench_backlog.py [--deliveries 1000000]`.

A destination that takes 8 s for an answer gets a million deliveries behind. Does that slow another one down, does the
memory of the processes stay flat, and how fast does it drain once the destination is well?
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from urllib.request import urlopen

import msgspec
from bench_kit import KEY, Sent, Sink, System, make_event, quantile, request, send_all, send_steadily
from figures import Figures

FAST, SLOW = "fast", "slow"
ROUNDS, SECONDS, RATE = 3, 15, 200


def make_rules(port: int, deliveries: int) -> str:
    """Every event goes to both, one by one to that whose latency is measured."""
    options = {name: {"url": f"http://127.0.0.1:{port}/{name}", "allow_private": True} for name in (FAST, SLOW)}
    rules = {
        "version": 1,
        "sources": {"bench": {"write_key": KEY}},
        "destinations": {
            FAST: {"plugin": "webhook", "options": options[FAST]},
            SLOW: {
                "plugin": "webhook",
                "batch": {"size": 100},
                "concurrency": 4,
                "options": options[SLOW],
                "backlog": 2 * deliveries + 10_000,
            },
        },
        "routes": [
            {"name": "slow", "to": SLOW},
            {"name": "fast", "to": FAST, "when": 'type == "track" and context.locale == "en-GB"'},
        ],
    }
    return msgspec.json.encode(rules).decode()


class Run:
    """A system with its sink, and the question of how it fares."""

    def __init__(self, deliveries: int) -> None:
        self.sink = Sink(with_times=True)
        self.system = System(make_rules(self.sink.port, deliveries), environment={"EVENTROUTER_MAXMEMORY": "8GB"})

    def waiting(self, lane: str) -> int:
        """Units that wait in a lane, by /metrics."""
        with urlopen(f"http://127.0.0.1:{self.system.port}/metrics") as answer:
            name = f'eventrouter_waiting{{lane="{lane}"}} '
            lines = answer.read().decode().splitlines()
        return next(int(float(line.removeprefix(name))) for line in lines if line.startswith(name))

    def latency(self) -> tuple[float, float]:
        """From accepted to the other destination, p50 and p99 in ms: the medians of some rounds."""
        rounds = []
        for _ in range(ROUNDS):
            sent: Sent = asyncio.run(send_steadily(self.system.port, SECONDS, RATE))
            time.sleep(1)
            rounds.append(sorted(sent.until(self.sink.ask()[1])))
        p50, p99 = (statistics.median(quantile(one, share) for one in rounds) * 1000 for share in (0.5, 0.99))
        return p50, p99

    def memory(self) -> dict[str, float]:
        """Resident memory of the Python processes, in MB."""
        return {
            role: process.memory_info().rss / 2**20
            for role, process in self.system.processes().items()
            if role in ("collector", "worker")
        }

    def fill(self, deliveries: int) -> float:
        """Sends until so many wait for the slow destination, and for nobody else; returns the seconds that it took."""
        began = time.perf_counter()
        while (missing := deliveries - self.waiting(SLOW)) > 0:
            count = min(max(missing // 500, 1), 40)
            batches = [request("/v1/batch", {"batch": [batch_event(i) for i in range(500)]}) for _ in range(count)]
            asyncio.run(send_all(self.system.port, batches, 8))
            while self.waiting("log") > 5_000:
                time.sleep(0.1)
        while any(self.waiting(lane) for lane in ("log", "warehouse")):
            time.sleep(0.2)
        return time.perf_counter() - began

    def drain(self) -> tuple[float, dict[str, float]]:
        """Lets the slow destination be quick; its deliveries/s, and the most memory that was used."""
        waiting, most = self.waiting(SLOW), self.memory()
        self.sink.ask("hurry")
        began = time.perf_counter()
        while self.waiting(SLOW):
            time.sleep(0.5)
            most = {role: max(most[role], used) for role, used in self.memory().items()}
        return waiting / (time.perf_counter() - began), most


def batch_event(number: int) -> dict[str, object]:
    """An event that only the slow destination wants."""
    event = make_event(number)
    event["context"]["locale"] = "de-DE"
    return event


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deliveries", type=int, default=1_000_000)
    options = parser.parse_args()
    random.seed(1)
    with Figures("backlog") as figures:
        run = Run(options.deliveries)
        try:
            p50, p99 = run.latency()
            empty = run.memory()
            figures.row("latency without a backlog, p50", p50, "ms")
            figures.row("latency without a backlog, p99", p99, "ms")
            seconds = run.fill(options.deliveries)
            full = run.memory()
            behind50, behind99 = run.latency()
            what = f"{run.waiting(SLOW):,} waiting"
            figures.note(f"{what}, after {seconds:.0f} s")
            figures.row("latency beside the backlog, p50", behind50, "ms")
            figures.row("latency beside the backlog, p99", behind99, "ms")
            figures.row("  p50, beside / without", behind50 / p50, "x", "< 1.2x")
            figures.row("  p99, beside / without", behind99 / p99, "x", "< 1.2x")
            rate, most = run.drain()
            figures.row("the backlog drains", rate, "deliveries/s")
            for role in empty:
                figures.row(f"memory of the {role}, before", empty[role], "MB")
                figures.row(f"memory of the {role}, full", full[role], "MB", "flat")
                figures.row(f"memory of the {role}, most while it drains", most[role], "MB", "flat")
        finally:
            run.system.stop()
            run.sink.stop()


if __name__ == "__main__":
    main()
