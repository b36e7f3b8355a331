"""The server that has the event log dies under load, and a replica takes over: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.request import urlopen

import pytest
from chaos_ledger import Ledger
from chaos_load import Load
from chaos_sink import Sink
from chaos_system import System
from outside_valkey import OutsideValkey
from valkeys import ValkeyCluster, Watched

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.1)


def _is_spooling(url: str) -> bool:
    """Whether acknowledged events are not in the event log yet."""
    with urlopen(f"{url}/ready", timeout=10) as answer:
        return bool(json.load(answer)["spooling"])


async def under_load(directory: Path, environment: dict[str, str], fault: Callable[[System], Awaitable[None]]) -> None:
    """Runs a system, lets `fault` happen under load, and counts."""
    rng = random.Random(7)
    async with Sink(random.Random(rng.random()), {"one": 150, "many": 15}) as sink:
        system = System(directory, sink.port, environment=environment, workers=1)
        load = Load(system.url, random.Random(rng.random()), clients=4)
        try:
            await system.start()
            sending = asyncio.create_task(load.run())
            await asyncio.sleep(2)
            await fault(system)
            await asyncio.sleep(2)
            load.stop()
            await sending
            sink.well = True
            await until(lambda: not _is_spooling(system.url))
            status = await system.drained()
            code, _ = await system.stop()
            faults = Ledger(load.events, load.faulty, sink.arrivals, status, system.data).check()
            print(len(load.events), load.answers, status["events"])
            assert (code, faults) == (0, []), "\n".join(faults)
        except BaseException:
            print(system.last_words())
            raise
        finally:
            system.close()


async def test_with_sentinel_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    with Watched(tmp_path) as servers:

        async def fault(system: System) -> None:
            for _ in range(2):
                master = servers.master
                master.kill()
                await until(lambda master=master: servers.has_other_master(master))
                await asyncio.sleep(4)
                await asyncio.to_thread(master.start)
                await asyncio.sleep(3)

        environment = {"EVENTROUTER_REDIS_URL": servers.url, "EVENTROUTER_REPLICAS": "2"}
        await under_load(tmp_path, environment, fault)


async def test_on_a_cluster_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    queue.mkdir()
    with ValkeyCluster(tmp_path) as cluster, OutsideValkey(queue, appendonly="no") as other:

        async def fault(system: System) -> None:
            for shard in (0, 3):
                key = f"er:{{{shard}}}:counts"
                master = cluster.master_of(key)
                master.kill()
                await until(lambda key=key, master=master: cluster.master_of(key) is not master)
                await asyncio.sleep(2)
                await asyncio.to_thread(master.start)
                await asyncio.sleep(3)

        environment = {
            "EVENTROUTER_REDIS_URL": cluster.url,
            "EVENTROUTER_QUEUE_URL": other.url,
            "EVENTROUTER_REPLICAS": "1",
        }
        await under_load(tmp_path, environment, fault)
