"""How long it takes until everything is served again after a process was killed."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from chaos_ledger import Ledger
from chaos_load import Load
from chaos_sink import Sink
from chaos_system import System

from eventrouter.events import shard_of

SHARDS = 4
BOUNDS = {"worker": (1.0, 10.0), "valkey": (5.0, 5.0), "collector": (5.0, 5.0), "everything": (10.0, 10.0)}
"""Seconds until events are taken again, and until every lane is served again."""
ATTEMPTS = 3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


class Scene:
    """A system under a light load, with a sink that is well."""

    def __init__(self, system: System, load: Load, sink: Sink) -> None:
        self.system, self.load, self.sink = system, load, sink

    async def until_collected(self, since: float) -> float:
        """Seconds from `since` until an event that was sent then is acknowledged."""
        while self.load.last_answer <= since:
            await asyncio.sleep(0.01)
        return self.load.last_answer - since

    async def until_served(self, since: float) -> float:
        """Seconds from `since` until an event acknowledged later came, of every shard, at every destination."""
        position = len(self.sink.arrivals)
        missing = {(name, shard) for name in ("one", "many") for shard in range(SHARDS)}
        at = since
        while missing:
            await self.sink.changed.wait()
            self.sink.changed.clear()
            await asyncio.sleep(0.02)  # an arrival may overtake the acknowledgement
            for arrival in self.sink.arrivals[position:]:
                for sent in (self.load.events[one] for one in arrival.message_ids):
                    place = (arrival.destination, shard_of(sent.key, SHARDS))
                    if sent.acknowledged_at > since and place in missing:
                        missing.discard(place)
                        at = arrival.at
            position = len(self.sink.arrivals)
        return at - since


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """Ends with the count of everything."""
    async with Sink(random.Random(1)) as sink:
        system = System(tmp_path, sink.port)
        load = Load(system.url, random.Random(1), most=3, pause=0.05)
        try:
            await system.start()
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(load.run())
                await asyncio.sleep(1.5)
                yield Scene(system, load, sink)
                load.stop()
                await sending
            status = await system.drained()
            assert [] == await system.audit()
            assert [] == Ledger(load.events, load.faulty, sink.arrivals, status, system.data).check()
        finally:
            system.close()


async def test_everything_is_served_again_soon_after_a_kill(scene: Scene) -> None:
    for name, bounds in BOUNDS.items():
        # Where the machine has too much else to do, the next kill may tell more.
        for _ in range(ATTEMPTS):
            killed = time.monotonic()
            if name == "everything":
                scene.system.kill_everything()
                await scene.system.start()
            else:
                assert scene.system.signal(name, signal.SIGKILL)
            collected = await asyncio.wait_for(scene.until_collected(killed + 0.05), 60)
            served = await asyncio.wait_for(scene.until_served(killed + 0.05), 60)
            print(f"{name}: events are taken after {collected:.2f} s, all lanes are served after {served:.2f} s")
            if collected <= bounds[0] and served <= bounds[1]:
                break
        else:
            raise AssertionError(f"after a kill of {name}: {collected:.2f} s and {served:.2f} s")
