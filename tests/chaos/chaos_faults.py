"""What befalls a system in a chaos run, chosen by a seed; operators' doings among it."""

from __future__ import annotations

import asyncio
import random
import signal

from chaos_system import System

ESSENTIAL = ("kill worker", "kill collector", "kill valkey", "kill everything", "freeze worker")
"""Each run has these at least once."""
FURTHER = (
    *("kill worker", "kill collector", "kill valkey", "kill everything"),
    *("kill everything but valkey", "kill up", "freeze worker", "freeze valkey", "freeze collector", "restart"),
    *("pause one", "pause many", "save rules", "save rules"),
)
FREEZE_SECONDS = {"worker": 7.5, "valkey": 1.5, "collector": 5.0}
"""A worker for longer than its lease, a collector for longer than a client waits."""


def choose(rng: random.Random, number: int) -> list[str]:
    """`number` faults in their order, the essential ones among them."""
    faults = [*ESSENTIAL, *(rng.choice(FURTHER) for _ in range(number - len(ESSENTIAL)))]
    rng.shuffle(faults)
    return faults


async def befall(system: System, fault: str, rng: random.Random, later: asyncio.TaskGroup) -> None:
    """Does it; returns when the system was started again where it has to be. Frozen workers go on by themselves."""
    what, _, whom = fault.partition(" ")
    index = rng.randrange(8)
    pause = rng.random() * 0.5
    match fault:
        case "kill everything":
            system.kill_everything()
        case "kill everything but valkey":
            system.kill_everything(but_valkey=True)
        case "kill up":
            system.kill_up()
        case "restart":
            code, _ = await system.stop()
            assert code == 0, system.last_words()
        case "save rules":
            system.save_rules()
        case _ if what == "pause":
            later.create_task(system.pause(whom, 1 + 3 * rng.random()))
        case _ if what == "kill":
            system.signal(whom, signal.SIGKILL, index)
        case "freeze worker":
            later.create_task(system.freeze(whom, FREEZE_SECONDS[whom], index))
        case _:
            await system.freeze(whom, FREEZE_SECONDS[whom], index)
    if system.process is None:
        await asyncio.sleep(pause)
        await system.start()
