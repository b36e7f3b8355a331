"""Real workers on a server whose memory is full: it takes little more than it has, and drains by itself."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from http_sink import Sink
from outside_valkey import OutsideValkey
from system import System, until

from eventrouter.settings import socket_path
from eventrouter.testing import Answer

DEAD = [f"d{number}" for number in range(8)]
RULES = f"""
version: 1
sources:
  website: {{ write_key: key-website }}
collect: {{ spool: {{ max_bytes: 0 }} }}
destinations:
{
    "".join(
        f'''
  {name}: {{ plugin: webhook, options: {{ url: "${{SINK}}/full/{name}", allow_private: true }},
            retry: {{ initial: 100ms, max_interval: 1s }} }}'''
        for name in DEAD
    )
}
routes:
  - {{ name: everything to all, to: [{", ".join(DEAD)}] }}
"""
MEMORY = {"EVENTROUTER_MAXMEMORY": "64MB"}
REQUESTS, EVENTS, PAD = 50, 15, "x" * 29_000


class Full:
    """A system, and its server's memory as seen while it is filled."""

    def __init__(self, system: System, server: redis.Redis) -> None:
        self.system = system
        self.server = server
        self.most = 0.0

    def used(self) -> float:
        """Percent of maxmemory, as the server counts it."""
        info: Any = self.server.info("memory")
        used = float((info["used_memory"] - info["mem_not_counted_for_evict"]) * 100 / info["maxmemory"])
        self.most = max(self.most, used)
        return used

    def restart_with(self, maxmemory: str) -> None:
        """Stops the system and starts it with a server that has so much, embedded or not."""
        assert self.system.stop() == 0
        self.system.environment["EVENTROUTER_MAXMEMORY"] = maxmemory
        if "EVENTROUTER_REDIS_URL" in self.system.environment:
            self.server.config_set("maxmemory", maxmemory)
        self.system.start()

    def fill(self) -> int:
        """Sends until the server has had no room for a request; the number of events that were accepted."""
        accepted = request = 0
        refused = False
        while request < REQUESTS or not refused:
            assert request < 10 * REQUESTS, f"never full: {self.most:.0f} %"
            request += 1
            batch = [
                {"type": "track", "userId": f"u{request}-{one}", "event": "Filled", "properties": {"pad": PAD}}
                for one in range(EVENTS)
            ]
            reply = self.system.post("/v1/batch", {"batch": batch})
            self.used()
            if reply.status == 200:
                accepted += EVENTS
            else:
                assert reply.error == (503, "unavailable")
                refused = True
                time.sleep(0.1)
        return accepted

    def waiting(self, *names: str) -> int:
        """What waits in these lanes."""
        keys = [f"er:{{{shard}}}:lane:{name}:turn" for shard in range(4) for name in names]
        self.used()
        return sum(int(self.server.hget(key, "waiting") or 0) for key in keys)  # type: ignore[arg-type]

    def until_drained(self, *names: str) -> None:
        """Waits until nothing is left in these lanes."""
        until(lambda: self.waiting(*names) == 0, lambda: f"{self.used():.0f} %: {self.system.log[-3000:]}", every=0.1)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps every other writer of the database out."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def workers(system: System) -> list[int]:
    """The process ids of its workers."""
    assert system._process is not None
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    rows = [line.split(None, 2) for line in listed]
    return [int(pid) for pid, parent, args in rows if int(parent) == system._process.pid and args.endswith(" work")]


@pytest.fixture(params=["embedded", pytest.param("outside", marks=pytest.mark.long)])
def full(request: pytest.FixtureRequest, start: Any, tmp_path: Path, sink: Sink) -> Iterator[Full]:
    """A system of 64 MB with eight destinations that are away, on the embedded server or on one of the user's own."""
    for name in DEAD:
        sink.always(f"/full/{name}", Answer(503))
    if request.param == "embedded":
        system = start(RULES, MEMORY)
        with redis.Redis(unix_socket_path=str(socket_path(system.data))) as server:
            yield Full(system, server)
        return
    directory = tmp_path / "outside"
    directory.mkdir()
    with OutsideValkey(directory, maxmemory="64mb", appendfsync="no") as outside:
        system = start(RULES, {"EVENTROUTER_REDIS_URL": outside.url})
        with redis.Redis.from_url(outside.url) as server:
            yield Full(system, server)
        system.stop()


def test_a_full_server_drains_once_the_warehouse_is_back(full, sink):
    with locked(full.system.data / "warehouse.sqlite3"):
        accepted = full.fill()
    full.until_drained("log", "warehouse")
    assert full.most < 110  # routing ends at about 85 %, give or take a turn of each shard: here some 4 MB each
    check(full, sink, accepted)


def test_workers_that_start_on_a_server_with_more_than_its_memory_drain_it(full, sink):
    with locked(full.system.data / "warehouse.sqlite3"):
        accepted = full.fill()
        old = workers(full.system)
        for worker in old:
            os.kill(worker, signal.SIGSTOP)
        full.server.config_set("maxmemory", int(full.server.info("memory")["used_memory"] * 0.9))
        for worker in old:
            os.kill(worker, signal.SIGKILL)
        until(lambda: set(workers(full.system)) - set(old))
        assert full.used() > 100
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            full.server.set("key", "value")
    full.until_drained("log", "warehouse")
    check(full, sink, accepted)


def test_a_system_that_starts_with_less_memory_than_the_server_has_drains_it(full, sink):
    full.restart_with("128MB")
    with locked(full.system.data / "warehouse.sqlite3"):
        accepted = full.fill()
        until(lambda: full.used() > 60)
        full.restart_with("64MB")
        assert full.used() > 100
    full.until_drained("log", "warehouse")
    check(full, sink, accepted)


def check(full: Full, sink: Sink, accepted: int) -> None:
    """Every event is in the warehouse; destinations that come back get each that is not a dead letter."""
    [found] = full.system.sql("SELECT count(*) AS events FROM events")
    assert found["events"] >= accepted  # what was answered with 503 may have been kept in part
    for name in DEAD:
        sink.always(f"/full/{name}", None)
    full.until_drained("warehouse", *DEAD)
    destinations = full.system.status()["destinations"]
    for name in DEAD:
        row = destinations[name]
        assert found["events"] == row["delivered"] + row["dead"].get("backlog_full", 0), row
        assert row["delivered"] > 0
    assert full.used() < 30
