"""Everything is killed and frozen at random under load; then nothing is lost, nothing is twice, and all is in order.

Operators replay history meanwhile, send dead letters again and discard them, and their commands are killed, too.

EVENTROUTER_CHAOS_SEEDS=20 runs so many seeds more, EVENTROUTER_CHAOS_SEED=N just the one, EVENTROUTER_CHAOS_FAULTS=50
makes each run longer.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import chaos_disk
import pytest
from chaos_faults import EASY, befall, choose
from chaos_load import Load
from chaos_operator import Operator
from chaos_run import Run
from chaos_sink import Sink
from chaos_system import System

SEED = os.environ.get("EVENTROUTER_CHAOS_SEED", "")
SEEDS = [int(SEED)] if SEED else [3, *range(1000, 1000 + int(os.environ.get("EVENTROUTER_CHAOS_SEEDS", "0")))]
FAULTS = int(os.environ.get("EVENTROUTER_CHAOS_FAULTS", "7"))
DISKS = ["fast", "slow and forgetful"] if sys.platform == "linux" else ["fast"]
"""What is preloaded into the server is made for Linux."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120 + 30 * FAULTS)]


@pytest.mark.parametrize("disk", DISKS)
@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_is_lost_twice_or_out_of_order_whatever_is_killed(seed: int, disk: str, tmp_path: Path) -> None:
    rng = random.Random(f"{seed} {disk}")
    environment = {}
    if disk != "fast":
        environment = chaos_disk.environment(chaos_disk.build(tmp_path), fsync_ms="20:60", power_loss=True)
    run = Run(f"seed {seed}, disk {disk}")
    async with Sink(random.Random(rng.random()), {"one": 150, "many": 15}) as sink:
        system = System(tmp_path, sink.port, environment=environment)
        # Each settlement waits for the slow disk: less load, so that all of it is delivered in good time.
        pause = 0.1 if disk == "fast" else 0.8
        load = Load(system.url, random.Random(rng.random()), pause=pause, poison=0.01)
        operator = Operator(system, sink, run.tell)

        async def befalls(later: asyncio.TaskGroup) -> None:
            for fault in choose(rng, FAULTS):
                await asyncio.sleep(rng.uniform(0.5, 2.0) / (4 if fault in EASY else 1))
                run.tell(fault)
                await befall(system, fault, rng, later, operator)

        found = await run.run(system, load, sink, befalls, system.data, operator)
    assert found == [], "\n".join(found)
