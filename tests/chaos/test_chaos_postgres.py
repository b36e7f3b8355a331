"""The database that holds warehouse and state is killed, stopped and frozen under load, workers with it.

EVENTROUTER_CHAOS_SEEDS=20 runs so many seeds more, EVENTROUTER_CHAOS_SEED=N just the one.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from chaos_faults import befall
from chaos_load import Load
from chaos_postgres import Postgres, postgres
from chaos_run import Run
from chaos_sink import Sink
from chaos_system import System
from test_chaos_crash import SEEDS

ESSENTIAL = ("kill postgres", "kill backend", "freeze postgres", "restart postgres", "kill worker")
FURTHER = (*ESSENTIAL, "kill everything", "kill valkey", "kill everything and postgres")
FAULTS = 6
FREEZE_SECONDS = 6.0

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300)]


async def _befall(system: System, database: Postgres, fault: str, rng: random.Random, later: asyncio.TaskGroup) -> None:
    """Does it; returns when the database was started again where it has to be."""
    match fault:
        case "kill postgres":
            database.kill()
        case "kill everything and postgres":
            database.kill()
            await befall(system, "kill everything", rng, later)
        case "restart postgres":
            await asyncio.to_thread(database.stop)
        case "kill backend":
            database.kill_backend(rng.randrange(8))
            return
        case "freeze postgres":
            await asyncio.to_thread(database.freeze, FREEZE_SECONDS)
            return
        case _:
            await befall(system, fault, rng, later)
            return
    await asyncio.sleep(rng.uniform(0.0, 3.0))
    await asyncio.to_thread(database.start)


@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_is_lost_or_twice_whatever_befalls_the_database(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    run = Run(f"seed {seed}")
    faults = [*ESSENTIAL, *(rng.choice(FURTHER) for _ in range(FAULTS - len(ESSENTIAL)))]
    rng.shuffle(faults)
    with postgres() as database:
        async with Sink(random.Random(rng.random()), {"one": 150, "many": 15}) as sink:
            system = System(tmp_path, sink.port, postgres=database.url)
            load = Load(system.url, random.Random(rng.random()))

            async def befalls(later: asyncio.TaskGroup) -> None:
                for fault in faults:
                    await asyncio.sleep(rng.uniform(0.5, 2.0))
                    run.tell(fault)
                    await _befall(system, database, fault, rng, later)

            found = await run.run(system, load, sink, befalls, database.url)
    assert found == [], "\n".join(found)
