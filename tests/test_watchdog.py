"""The watchdog: it names who blocks the loop, puts it on hold and ends the process; it leaves all others in peace."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from redis import Redis
from structlog.testing import capture_logs

import blocking_plugin
from blocking_plugin import Blocking, BlockingEnrichment
from eventrouter.config import RouteConfig
from eventrouter.events import StoredEvent
from eventrouter.health import HOLD_SECONDS
from eventrouter.lane import Append
from eventrouter.log_entry import encode_entry
from eventrouter.route import Router
from eventrouter.watchdog import EXIT_CODE, Watchdog, counts
from routes_kit import HEAD, load

PLUGIN = Path(blocking_plugin.__file__)


def line_of(comment: str) -> int:
    lines = PLUGIN.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if comment in line)


class Run:
    """A loop in a thread of its own, watched, in which `work` runs."""

    def __init__(self, url: str, work: Callable[[], Awaitable[object]], *, seconds: float = 0.5) -> None:
        self.codes: list[int] = []
        self.ended = threading.Event()
        self.watchdog = Watchdog(url, seconds=seconds, end=self._end)

        async def main() -> None:
            self.watchdog.start()
            await work()
            self.watchdog.stop()

        self.thread = threading.Thread(target=asyncio.run, args=(main(),))
        self.thread.start()

    def _end(self, code: int) -> None:
        self.codes.append(code)
        self.ended.set()


def health(url: str, name: str) -> dict[str, str]:
    with Redis.from_url(url, decode_responses=True) as client:
        return dict(client.hgetall(f"er:{{dest:{name}}}:health"))


@pytest.fixture
def blocking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks for long enough."""
    monkeypatch.setattr(Blocking, "seconds", 1.5)
    monkeypatch.setattr(BlockingEnrichment, "seconds", 1.5)


async def test_a_destination_that_blocks_is_named_put_on_hold_and_the_process_ends(redis, valkey, blocking):
    plugin = Blocking(Blocking.Options(), destination="crm")
    with capture_logs() as logs:
        run = Run(valkey, lambda: plugin.deliver([]))
        assert await asyncio.to_thread(run.ended.wait, 10)
        run.thread.join()
    place = f"{PLUGIN}:{line_of('# here it blocks')} in Blocking._ask"
    [entry] = [one for one in logs if one["log_level"] == "error"]
    assert ("crm", "blocking_plugin", place) == (entry["destination"], entry["module"], entry["place"])
    assert "in Blocking.deliver" in entry["stack"]
    assert [EXIT_CODE] == run.codes
    now = (await redis.time())[0]
    stored = health(valkey, "crm")
    assert ("hold", f"its plugin blocks the event loop: {place}") == (stored["state"], stored["reason"])
    assert abs(int(stored["until"]) / 1000 - now - HOLD_SECONDS) < 15


async def test_an_enrichment_that_blocks_is_named(redis, valkey, blocking):
    enrichment = BlockingEnrichment(BlockingEnrichment.Options())
    with capture_logs() as logs:
        run = Run(valkey, lambda: enrichment.enrich(0, []))
        assert await asyncio.to_thread(run.ended.wait, 10)
        run.thread.join()
    [entry] = [one for one in logs if one["log_level"] == "error"]
    place = f"{PLUGIN}:{line_of('# here the enrichment blocks')} in BlockingEnrichment.enrich"
    assert ("slow-lookup", place) == (entry["enrichment"], entry["place"])
    assert [EXIT_CODE] == run.codes
    assert [] == await redis.keys("*")


def nap(seconds: float) -> None:
    time.sleep(seconds)  # here the filter blocks


@pytest.mark.parametrize(
    ("nap", "module", "place"),
    [
        (time.sleep, "eventrouter.route", "routes.yaml:7"),  # written in C, as is what our own filters do
        (nap, __name__, rf"routes.yaml:7, .*test_watchdog\.py:{nap.__code__.co_firstlineno + 1} in nap"),
    ],
)
async def test_a_route_that_blocks_is_named_by_its_line_and_what_it_calls(redis, valkey, nap, module, place):
    routes = [RouteConfig("sleepy", ("crm",), when="properties.n | nap", path="routes.yaml", line=7)]
    router = Router(replace(load(HEAD), routes=routes), {"nap": nap})

    async def route() -> None:
        router.route([StoredEvent("website", {"type": "page", "properties": {"n": 1.5}})])

    with capture_logs() as logs:
        run = Run(valkey, route)
        assert await asyncio.to_thread(run.ended.wait, 10)
        run.thread.join()
    [entry] = [one for one in logs if one["log_level"] == "error"]
    assert "a route blocks the event loop; this worker ends, to be replaced" == entry["event"]
    assert ("sleepy", module) == (entry["route"], entry["module"])
    assert re.fullmatch(place, entry["place"])


async def test_what_blocks_inside_of_a_library_is_told_by_the_plugins_own_line(redis, valkey):
    class Reading(Blocking):
        async def deliver(self, messages):
            with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1.5)"]) as process:
                process.wait()

    plugin = Reading(Reading.Options(), destination="crm")
    with capture_logs() as logs:
        run = Run(valkey, lambda: plugin.deliver([]))
        assert await asyncio.to_thread(run.ended.wait, 10)
        run.thread.join()
    [entry] = [one for one in logs if one["log_level"] == "error"]
    assert re.search(r"test_watchdog\.py:\d+ in .*Reading\.deliver$", entry["place"])
    assert "subprocess.py" in entry["stack"]


async def test_what_belongs_to_no_plugin_is_told_by_its_place(redis, valkey):
    async def nobodys() -> None:
        time.sleep(1.5)

    with capture_logs() as logs:
        run = Run(valkey, nobodys)
        assert await asyncio.to_thread(run.ended.wait, 10)
        run.thread.join()
    [entry] = [one for one in logs if one["log_level"] == "error"]
    assert "test_watchdog.py" in entry["place"]
    assert "nobodys" in entry["place"]
    assert not {"destination", "enrichment"} & set(entry)
    assert [EXIT_CODE] == run.codes


async def test_without_its_server_the_process_ends_all_the_same(blocking):
    plugin = Blocking(Blocking.Options(), destination="crm")
    with capture_logs() as logs:
        run = Run("redis://127.0.0.1:1/0", lambda: plugin.deliver([]))
        assert await asyncio.to_thread(run.ended.wait, 10)
        run.thread.join()
    assert [EXIT_CODE] == run.codes
    assert ["warning", "error"] == [one["log_level"] for one in logs]


async def test_a_loop_that_is_merely_slow_goes_on(valkey):
    async def slow() -> None:
        for _ in range(6):
            time.sleep(0.3)
            await asyncio.sleep(0)

    run = Run(valkey, slow, seconds=1.0)
    await asyncio.to_thread(run.thread.join)
    assert [] == run.codes


async def test_a_loop_that_has_ended_is_watched_no_longer(valkey):
    run = Run(valkey, lambda: asyncio.sleep(0), seconds=0.1)
    await asyncio.to_thread(run.thread.join)
    await asyncio.sleep(0.5)
    assert [] == run.codes
    assert [] == [one for one in threading.enumerate() if one.name == "eventrouter-watchdog"]


@pytest.mark.parametrize(
    ("passed", "used", "says"),
    [
        (0.5, 0.0, True),  # an ordinary wait
        (1.9, 0.0, True),  # a busy machine
        (60.0, 0.3, False),  # stopped, or the machine slept
        (60.0, 55.0, True),  # C code kept Python to itself
    ],
)
def test_a_wait_in_which_the_watchdog_did_not_run_either_says_nothing(passed, used, says):
    assert says is counts(passed, used, 0.5)


STOPPED = """
import asyncio, sys, time
from eventrouter.watchdog import Watchdog

async def main():
    Watchdog("redis://127.0.0.1:1/0", seconds=1.0).start()
    print("begun", flush=True)
    ends = time.monotonic() + 5
    while time.monotonic() < ends:
        await asyncio.sleep(0.01)
    print("alive", flush=True)

asyncio.run(main())
"""


def test_a_process_that_was_stopped_for_long_goes_on():
    process = subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "begun\n" == process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    process.send_signal(signal.SIGCONT)
    output, _ = process.communicate(timeout=30)
    assert ("alive\n", 0) == (output, process.returncode)


WORKER = """
import blocking_plugin
from eventrouter.app import EventRouter, make_worker_settings
from eventrouter.builtin import identity, warehouse
from eventrouter.plugins import Plugins
from eventrouter.queue import run_worker
from eventrouter.settings import Settings

plugins = Plugins(blocking_plugin, identity, warehouse)
make = lambda settings: EventRouter.load(settings, plugins=plugins)
run_worker(make_worker_settings(Settings.read(), make, blocked_seconds=1.0))
"""

RULES = """
version: 1
sources: { website: { write_key: k } }
destinations: { crm: { plugin: blocking } }
routes: [{ to: crm }]
"""


async def test_a_real_worker_ends_with_its_exit_code_and_says_why(redis, lanes, valkey, tmp_path):
    (tmp_path / "routes.yaml").write_text(RULES)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("EVENTROUTER_")},
        "EVENTROUTER_CONFIG": str(tmp_path / "routes.yaml"),
        "EVENTROUTER_DATA_DIR": str(tmp_path / "data"),
        "EVENTROUTER_REDIS_URL": valkey,
        "PYTHONPATH": str(PLUGIN.parent),
    }
    now = "2026-11-24T17:00:00.123Z"
    event = {"type": "track", "event": "X", "messageId": "m1", "anonymousId": "a", "timestamp": now, "receivedAt": now}
    entry = encode_entry([msgspec.json.encode(StoredEvent("website", event))])
    await lanes.append(0, [Append("log", [("", 1, entry)], "accepted")])
    command = [sys.executable, "-c", WORKER]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path
    )
    try:
        output, _ = await asyncio.to_thread(process.communicate, timeout=40)
    finally:
        process.kill()
        process.wait()
    assert EXIT_CODE == process.returncode, output
    assert "a plugin blocks the event loop" in output
    assert f"{PLUGIN}:{line_of('# here it blocks')}" in output
    assert "hold" == health(valkey, "crm")["state"]
