"""Two versions at work at the same time, under load, up and down again: nothing is lost, twice, or out of order."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chaos_ledger import Ledger
from chaos_load import Load
from chaos_machines import Machine
from chaos_rules import Variant
from chaos_sink import Sink
from outside_valkey import OutsideValkey

import eventrouter
from eventrouter.delivery import FORMAT

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300)]

FORMS = ("log_entry", "delivery", "records", "spool_entry", "outcome_log")
"""The modules of what is stored and read by others."""


def next_version(directory: Path) -> Path:
    """A copy of the package whose stored forms have the next version and a field more, and whose scripts differ."""
    package = directory / "next" / "eventrouter"
    shutil.copytree(Path(eventrouter.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for form in FORMS:
        path = package / f"{form}.py"
        text, number = re.subn(r"(?m)^FORMAT = (\d+)$", lambda found: f"FORMAT = {int(found[1]) + 1}", path.read_text())
        assert number == 1, form
        path.write_text(text)
    delivery = package / "delivery.py"
    end = "\n\n\nclass Tries"  # of the stored form: new fields come last
    text, number = re.subn(end, f'\n    fresh: str = "of the next version"{end}', delivery.read_text())
    assert number == 1
    delivery.write_text(text)
    prelude = package / "lua" / "prelude.lua"
    prelude.write_text("-- Of the next version.\n" + prelude.read_text())
    return package.parent


async def test_a_rolling_upgrade_and_the_way_back_lose_nothing(tmp_path: Path) -> None:
    fresh = {"PYTHONPATH": os.pathsep.join(filter(None, [str(next_version(tmp_path)), os.environ.get("PYTHONPATH")]))}
    used = [sys.executable, "-P", "-c", "from eventrouter.delivery import FORMAT; print(FORMAT)"]
    assert FORMAT + 1 == int(subprocess.run(used, env=os.environ | fresh, capture_output=True, check=True).stdout)
    rng = random.Random(11)
    with OutsideValkey(tmp_path) as valkey:
        async with Sink(rng, {"one": 150, "many": 15}) as sink:
            rules = Variant().text(sink.port, 2)
            host = Machine(None, "here", tmp_path / "here", rules, {"EVENTROUTER_REDIS_URL": valkey.url})
            load = Load(host.url, random.Random(rng.random()), clients=4)
            try:
                host.start("collect")
                host.start("work", "old")
                await host.ready()
                sending = asyncio.create_task(load.run())
                await asyncio.sleep(2)

                host.start("work", "new", **fresh)
                await _until(host, lambda status: len(_workers(status)) == 2)
                await _until(host, _moved_on(await host.status(), 500))

                assert await asyncio.to_thread(host.stop, "collect") == 0
                host.start("collect", **fresh)
                await _until(host, _moved_on(await host.status(), 500))

                assert await asyncio.to_thread(host.stop, "old") == 0  # the new one goes on with what it left
                await _until(host, _moved_on(await host.status(), 500))

                host.kill("new")  # the old one goes on with what the new one left, in lanes and log
                host.start("work", "old")
                await _until(host, _moved_on(await host.status(), 500))

                load.stop()
                await sending
                sink.well = True
                status = await host.drained(len(load.events))
                assert [host.stop(name) for name in ("collect", "old")] == [0, 0]
                faults = Ledger(load.events, load.faulty, sink.arrivals, status, host.directory / "data").check()
                assert faults == [], "\n".join(faults)
            except BaseException:
                print(host.last_words())
                raise
            finally:
                host.close()


def _workers(status: dict[str, Any]) -> list[Any]:
    return [one for one in status["processes"] if one["kind"] == "worker"]


def _moved_on(before: dict[str, Any], events: int) -> Callable[[dict[str, Any]], bool]:
    """Whether so many events more were routed and stored since."""

    def numbers(status: dict[str, Any]) -> tuple[int, int]:
        return status["events"]["routed"], status["destinations"]["warehouse"]["delivered"]

    return lambda status: all(now - then >= events for now, then in zip(numbers(status), numbers(before), strict=True))


async def _until(host: Machine, condition: Callable[[dict[str, Any]], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition(await host.status()):
            await asyncio.sleep(0.2)
