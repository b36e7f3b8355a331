"""A stop by SIGTERM while a destination hangs, a second `up`, and what a killed `up` leaves behind."""

from __future__ import annotations

import asyncio
import random
import subprocess
from pathlib import Path

import pytest
from chaos_ledger import Ledger
from chaos_load import Load
from chaos_sink import Sink
from chaos_system import System

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

STOP_SECONDS = 30.0


async def test_a_stop_under_load_with_a_hanging_destination_takes_30_seconds_at_most_and_loses_nothing(
    tmp_path: Path,
) -> None:
    async with Sink(random.Random(2)) as sink:
        system = System(tmp_path, sink.port, timeout=60)
        load = Load(system.url, random.Random(2))
        try:
            await system.start()
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(load.run())
                await asyncio.sleep(1)
                sink.hangs = True
                await asyncio.sleep(2)
                code, seconds = await system.stop()
                print(f"stopped in {seconds:.1f} s")
                sink.hangs = False
                await system.start()
                load.stop()
                await sending
            status = await system.drained(90)
            assert [] == await system.audit()
            assert [] == Ledger(load.events, load.faulty, sink.arrivals, status, system.data).check()
            assert (0, True) == (code, seconds <= STOP_SECONDS), (code, seconds)
        finally:
            system.close()


async def test_a_second_up_is_refused_and_names_the_first(tmp_path: Path) -> None:
    system = System(tmp_path, 9)
    try:
        await system.start()
        assert system.process is not None
        second = await asyncio.to_thread(
            subprocess.run, [*system.command(), "--port", "1"], cwd=tmp_path, capture_output=True, text=True, timeout=30
        )
        assert second.returncode not in (0, None)
        assert f"in use by `eventrouter up` (process {system.process.pid})" in " ".join(second.stderr.split())
        assert 0 == (await system.stop())[0]
        assert [] == system.find("valkey")
    finally:
        system.close()


async def test_an_orphaned_valkey_is_attached_to(tmp_path: Path) -> None:
    system = System(tmp_path, 9)
    try:
        await system.start()
        [before] = system.find("valkey")
        system.kill_everything(but_valkey=True)
        assert [] == system.find("collector") + system.find("worker")
        await system.start()
        assert [before.pid] == [process.pid for process in system.find("valkey")]
        assert 0 == (await system.stop())[0]
        assert [] == system.find("valkey")
    finally:
        system.close()
