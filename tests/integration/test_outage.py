"""Redis goes away under load: no client notices, and afterwards each event is there once, in its order."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from http_sink import Sink
from outside_valkey import OutsideValkey
from redis import Redis
from system import Reply, System, until

RULES = """
version: 1
sources: { website: { write_key: key-website } }
collect: { spool: { max_bytes: "${SPOOL:-1GB}" } }
destinations:
  all:
    plugin: webhook
    batch: { size: 50 }
    retry: { initial: 50ms, max_interval: 500ms }
    options: { url: "${SINK}${SINK_PATH}", allow_private: true }
routes:
  - { to: all }
"""
CLIENTS = 4


class Load:
    """Clients that each send numbered events of one order key, one request after the other. `with Load(system):`."""

    def __init__(self, system: System, name: str) -> None:
        self._system = system
        self._name = name
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(f"{name}-{n}",)) for n in range(CLIENTS)]
        self.sent: dict[str, int] = {}
        self.refused: list[Reply] = []
        self.slowest = 0.0

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def total(self) -> int:
        return sum(self.sent.values())

    def _client(self, key: str) -> None:
        number = 0
        while not self._stop.is_set():
            batch = [
                {"type": "track", "event": self._name, "anonymousId": key, "messageId": f"{key}/{n}"}
                | {"properties": {"n": n}}
                for n in range(number, number + 5)
            ]
            started = time.monotonic()
            reply = self._post({"batch": batch})
            self.slowest = max(self.slowest, time.monotonic() - started)
            if reply is not None and reply.status == 200:
                number += 5
                self.sent[key] = number
            elif reply is not None:
                self.refused.append(reply)
            time.sleep(0.03)

    def _post(self, body: Any) -> Reply | None:
        """None: the collector died under it; the client sends again."""
        with contextlib.suppress(OSError):
            return self._system.post("/v1/batch", body)
        return None


def arrivals(sink: Sink, path: str) -> dict[str, list[int]]:
    """What the destination took, by order key, without repeats."""
    found: dict[str, dict[int, None]] = {}
    for hit in sink.taken(path):
        for event in hit.json:
            found.setdefault(event["anonymousId"], {})[event["properties"]["n"]] = None
    return {key: list(numbers) for key, numbers in found.items()}


def check(system: System, sink: Sink, name: str, path: str, sent: dict[str, int]) -> None:
    """Each event once in the warehouse, and per key in order at the destination."""
    total = sum(sent.values())
    rows = system.rows(total, "SELECT id FROM events WHERE payload ->> '$.event' = ?", name)
    assert {row["id"] for row in rows} == {f"{key}/{n}" for key, count in sent.items() for n in range(count)}
    until(lambda: sum(map(len, arrivals(sink, path).values())) == total, every=0.5)
    assert arrivals(sink, path) == {key: list(range(count)) for key, count in sent.items()}


def embedded_server(system: System) -> int:
    return int((system.data / "valkey" / "server.lock").read_text().split()[0])


def spooling(system: System) -> bool:
    return bool(system.get("/ready").json.get("spooling"))


def test_an_embedded_server_that_is_killed_goes_unnoticed(start: Callable[..., System], sink: Sink) -> None:
    system = start(RULES, {"SINK_PATH": "/killed"})
    with Load(system, "Killed") as load:
        for _ in range(3):
            time.sleep(1)
            os.kill(embedded_server(system), signal.SIGKILL)
        time.sleep(2)
    assert not load.refused
    assert load.total > 500
    check(system, sink, "Killed", "/killed", load.sent)
    assert system.count("spool_spooled_total") > 0
    system.until_count(0, "spool_events")
    assert "Traceback" not in system.log


def test_a_server_that_freezes_is_waited_for_by_nobody(start: Callable[..., System], sink: Sink) -> None:
    system = start(RULES, {"SINK_PATH": "/frozen"})
    with Load(system, "Frozen") as load:
        time.sleep(1)
        server = embedded_server(system)
        os.kill(server, signal.SIGSTOP)
        try:
            until(lambda: spooling(system))
            before = load.total
            time.sleep(9)
            assert load.total > before + 500
            ready = system.get("/ready")
            assert (ready.status, ready.json["event_log"]) == (200, "away")
            assert ready.json["spool"]["events"] > 0
            assert ready.json["spool"]["oldest_seconds"] > 5
        finally:
            os.kill(server, signal.SIGCONT)
        until(lambda: not spooling(system))
        time.sleep(1)
    assert not load.refused
    assert load.slowest < 8
    check(system, sink, "Frozen", "/frozen", load.sent)
    assert system.stop() == 0
    assert "Traceback" not in system.log


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OutsideValkey]:
    """A server of the user's own."""
    directory = tmp_path / "valkey"
    directory.mkdir()
    with OutsideValkey(directory) as running:
        yield running


def test_a_long_outage_with_a_collector_that_is_killed_in_it(
    server: OutsideValkey, start: Callable[..., System], sink: Sink
) -> None:
    system = start(RULES, {"SINK_PATH": "/long", "EVENTROUTER_REDIS_URL": server.url})
    with Load(system, "Long") as load:
        time.sleep(1)
        server.stop()
        until(lambda: spooling(system))
        time.sleep(3)
        collector = int((system.data / "children.lock").read_text().split()[0])
        os.kill(collector, signal.SIGKILL)
        until(lambda: spooling(system))
        assert system.get("/ready").json["spool"]["events"] > 100
        assert system.count("up") == 0
        time.sleep(2)
        server.start()
        until(lambda: not spooling(system))
        time.sleep(1)
    assert not load.refused
    check(system, sink, "Long", "/long", load.sent)
    log = system.log
    assert log.count("events go to the spool") == 2
    assert log.count("the spool is drained") == 1
    assert "s3cret" not in log


def test_everything_starts_while_the_server_is_away(
    server: OutsideValkey, start: Callable[..., System], sink: Sink
) -> None:
    system = start(RULES, {"SINK_PATH": "/early", "EVENTROUTER_REDIS_URL": server.url})
    assert system.stop() == 0
    server.stop()
    system.start()
    for n in range(20):
        system.track("Early", "early-0", messageId=f"early-0/{n}", properties={"n": n})
    started = time.monotonic()
    assert system.stop() == 0
    assert time.monotonic() - started < 10
    server.start()
    system.start()
    system.track("Early", "early-0", messageId="early-0/20", properties={"n": 20})
    check(system, sink, "Early", "/early", {"early-0": 21})


def test_a_full_spool_is_a_503_that_ends(server: OutsideValkey, start: Callable[..., System], sink: Sink) -> None:
    environment = {"SINK_PATH": "/full", "EVENTROUTER_REDIS_URL": server.url, "SPOOL": "1MB"}
    system = start(RULES, environment)
    server.stop()
    taken = 0
    while True:
        batch = [
            {"type": "track", "event": "Full", "anonymousId": "full", "messageId": f"full/{taken + n}"}
            | {"properties": {"n": taken + n, "pad": "x" * 1000}}
            for n in range(20)
        ]
        reply = system.post("/v1/batch", {"batch": batch})
        if reply.status != 200:
            break
        taken += 20
    assert 500 < taken < 1000
    assert reply.error == (503, "unavailable")
    assert int(reply.headers["retry-after"]) >= 1
    assert system.count("spool_bytes") <= 2**20
    assert system.get("/health").status == 200
    server.start()
    until(lambda: system.post("/v1/batch", {"batch": batch}).status == 200)
    check(system, sink, "Full", "/full", {"full": taken + 20})
    assert system.log.count("the spool is full") == 1


def test_a_server_whose_memory_is_full_is_an_outage_too(sink: Sink, tmp_path: Path) -> None:
    directory = tmp_path / "valkey"
    directory.mkdir()
    with OutsideValkey(directory, maxmemory="8mb") as server:
        environment = {"SINK": sink.url, "SINK_PATH": "/memory", "EVENTROUTER_REDIS_URL": server.url}
        with System(tmp_path, RULES, environment, command="collect") as system:
            sent = 0
            while not spooling(system):
                system.send(*({"type": "track", "event": "Memory", "anonymousId": f"m{n % 7}"} for n in range(500)))
                sent += 500
            for _ in range(10):
                system.send(*({"type": "track", "event": "Memory", "anonymousId": f"m{n % 7}"} for n in range(500)))
                sent += 500
            assert system.get("/ready").status == 200
            assert system.count("spool_events") >= 5000
            with contextlib.closing(Redis.from_url(server.url)) as client:
                client.config_set("maxmemory", "200mb")
            until(lambda: not spooling(system))
            system.until_count(sent, "events_accepted_total")
            system.until_count(0, "spool_events")
