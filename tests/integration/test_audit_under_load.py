"""The audit runs on and on while events come, fail, die, are sent again, and workers are killed: it is never off."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from http_sink import Sink
from redis.asyncio import Redis
from system import System, until

from eventrouter.audit import faults_of, read_counts
from eventrouter.lanes import Lanes
from eventrouter.settings import socket_path
from eventrouter.testing import Answer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROUNDS = 30
REFUSED = ("--destination", "single", "--class", "permanent", "--json")
RULES = """
version: 1
sources:
  website: {{ write_key: key-website }}
  app: {{ write_key: key-app }}
destinations:
  single:
    plugin: webhook
    options: {{ url: "${{SINK}}/single", allow_private: true }}
    retry: {{ initial: 20ms, max_interval: 200ms, max_attempts: 3 }}
  batches:
    plugin: webhook
    batch: {{ size: 20 }}
    options: {{ url: "${{SINK}}/batches", allow_private: true }}
    retry: {{ initial: 20ms, max_interval: 200ms }}
  full: {{ plugin: webhook, backlog: 8, options: {{ url: "${{SINK}}/full", allow_private: true }} }}
  off: {{ plugin: stdout, enabled: false }}
  {changing}: {{ plugin: webhook, options: {{ url: "${{SINK}}/changing", allow_private: true }} }}
routes:
  - {{ name: broken, to: single, when: event == "Broken", map: {{ x: "{{{{ 1 / properties.zero }}}}" }} }}
  - {{ name: half, to: batches, when: event != "Unrouted", sample: 50% }}
  - {{ name: agreed, to: full, consent: marketing }}
  - {{ name: all, to: [single, off, {changing}] }}
"""


def event(number: int, rng: random.Random) -> dict[str, Any]:
    return {
        "type": "track",
        "event": rng.choice(["Viewed", "Ordered", "Broken", "Unrouted", "Refused"]),
        "messageId": f"m{number}",
        "anonymousId": f"k{number % 23}",
        "properties": {"zero": 0},
        "context": {"consent": {"categoryPreferences": {"marketing": number % 3 == 0}}},
    }


class Watch:
    """Audits without a pause, in a thread of its own."""

    def __init__(self, data: Path) -> None:
        self._url = f"unix://{socket_path(data)}"
        self.audits = 0
        self.faults: list[str] = []
        self.in_log: Counter[str] = Counter()
        """By source, events that were seen in the log."""
        self.unknown = 0
        """Events whose source was not told."""
        self.failure: BaseException | None = None
        self._stop = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._audit())
        except BaseException as error:
            self.failure = error

    async def _audit(self) -> None:
        async with Redis.from_url(self._url) as redis:
            lanes = Lanes(redis)
            while not self._stop.is_set():
                for shard in await read_counts(lanes, 4, recount=self.audits % 2 == 0):
                    self.faults += map(str, faults_of(shard))
                    self.in_log += shard.in_log
                    self.unknown += sum(shard.unknown)
                self.audits += 1
                await asyncio.sleep(0.005)


def answering(rng: random.Random) -> Any:
    """Answers that make events be tried again, die, or put the destination on a pause."""

    def answer(body: Any) -> Answer:
        refused = any(one.get("event") == "Refused" for one in (body if isinstance(body, list) else [body]))
        if refused and rng.random() < 0.8:
            return Answer(422)
        return Answer(rng.choice([200, 200, 200, 200, 500, 503]))

    return answer


def kill_a_worker(system: System, rng: random.Random) -> None:
    assert system._process is not None
    children = psutil.Process(system._process.pid).children()
    workers = [child for child in children if "work" in child.cmdline()]
    if workers:
        rng.choice(workers).send_signal(signal.SIGKILL)


def test_it_adds_up_at_every_moment_whatever_befalls_deliveries_and_workers(sink: Sink, tmp_path: Path) -> None:
    rng = random.Random(7)
    environment = {"SINK": sink.url, "EVENTROUTER_WORKERS": "2"}
    for path in ("/single", "/batches", "/changing"):
        sink.always(path, answering(rng))
    sink.always("/full", Answer(503))
    with System(tmp_path, RULES.format(changing="before"), environment) as system:
        watch = Watch(system.data)
        with watch.watching():
            for number in range(ROUNDS):
                events = [event(number * 40 + n, rng) for n in range(40)]
                repeats = [event(rng.randrange((number + 1) * 40), rng) for _ in range(5)]
                for key, some in (("key-website", events), ("key-app", repeats), ("key-website", repeats)):
                    batch = [*some, {"type": "track", "userId": "no name"}]
                    assert system.post("/v1/batch", {"batch": batch}, key=key).status == 200
                if number % 8 == 5:
                    kill_a_worker(system, rng)
                if number == 10:
                    system.config.write_text(RULES.format(changing="after"))
                if number == 20:
                    until(lambda: json.loads(system.run("dead", "list", *REFUSED).stdout), every=0.5)
                    replayed = system.run("dead", "replay", *REFUSED, "--yes", "--limit", 50)
                    assert json.loads(replayed.stdout)["sent"] > 0
            for path in ("/single", "/batches", "/changing", "/full"):
                sink.always(path, None)
            until(lambda: not _waiting(system), lambda: str(_waiting(system)), every=0.5, seconds=120)
        assert watch.failure is None
        assert watch.faults[:5] == []
        assert watch.audits > 50
        assert (watch.in_log.keys(), watch.unknown) == ({"app", "website"}, 0)
        done = system.run("audit", "--deep", "--recount", "--json")
        found = json.loads(done.stdout)
        assert (done.returncode, found["faults"], found["ids"]["missing"]) == (0, [], 0)
        assert found["events"]["accepted"] == ROUNDS * 50
        assert found["events"]["duplicates"] > 0
        assert sorted(found["sources"]) == ["app", "website"]
        rows = found["destinations"]
        assert 0 < rows["after"]["routed"] < ROUNDS * 50
        assert rows["single"]["routed"] == found["events"]["routed"]
        assert rows["single"]["dead"].keys() >= {"template", "permanent"}
        assert rows["full"]["dead"].keys() == {"backlog_full"}
        assert rows["batches"]["filtered"].keys() == {"no_route", "sample"}
        assert rows["off"]["filtered"] == {"disabled": found["events"]["routed"]}


def _waiting(system: System) -> dict[str, int]:
    """What waits for destinations that there are."""
    found = json.loads(system.run("audit", "--json").stdout)
    rows = {name: row["waiting"] for name, row in found["destinations"].items() if row["waiting"] and name != "before"}
    return rows | ({"log": found["events"]["in_log"]} if found["events"]["in_log"] else {})
