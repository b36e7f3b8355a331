"""What befalls a system in a chaos run, chosen by a seed; operators' doings among it."""

from __future__ import annotations

import asyncio
import random
import signal

from chaos_operator import Operator
from chaos_sleep import sleep
from chaos_system import System

ESSENTIAL = ("kill worker", "kill collector", "kill valkey", "kill everything", "worker sleeps")
"""Each run has these at least once."""
FURTHER = (
    *("kill worker", "kill collector", "kill valkey", "kill everything"),
    *("kill everything but valkey", "kill up", "freeze worker", "freeze valkey", "freeze collector", "restart"),
    *("worker sleeps", "collector sleeps", "pause one", "pause many", "save rules", "save rules"),
)
DOINGS = (
    ("mend sink",),
    ("save rules",),
    ("replay one", "replay many"),
    ("dead replay one", "dead replay many"),
    ("dead as-was one", "dead as-was many", "dead replay one", "dead replay many"),
    ("dead discard one", "dead discard many"),
)
"""What operators do in each run: one of each."""
EASY = frozenset(doing for some in DOINGS for doing in some)
"""What comes soon after what was before."""
FREEZE_SECONDS = {"worker": 7.5, "valkey": 1.5, "collector": 5.0}
"""A worker for longer than its lease, a collector for longer than a client waits."""
DRASTIC = ("kill everything", "kill everything but valkey", "kill up", "restart")
"""What lets nobody sleep on."""


def choose(rng: random.Random, number: int) -> list[str]:
    """`number` faults in their order, the essential ones among them, and what operators do meanwhile."""
    faults = [*ESSENTIAL, *(rng.choice(FURTHER) for _ in range(number - len(ESSENTIAL)))]
    rng.shuffle(faults)
    # Operators come when there is something for them to do.
    rest = [*faults[2:], *(rng.choice(some) for some in DOINGS)]
    rng.shuffle(rest)
    return [*faults[:2], *rest]


async def befall(
    system: System, fault: str, rng: random.Random, later: asyncio.TaskGroup, operator: Operator | None = None
) -> None:
    """Does it; returns when the system was started again where it has to be.

    Frozen workers and sleepers go on by themselves; what an operator begins goes on.
    """
    what, _, whom = fault.partition(" ")
    index = rng.randrange(8)
    pause = rng.random() * 0.5
    own = random.Random(rng.random())
    if fault in DRASTIC:
        await system.all_awake()
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
            system.save_rules(mended=own.random() < 0.7, strict=own.random() < 0.3)
        case _ if whom == "sleeps":
            later.create_task(sleep(system, what))
        case _ if what == "pause":
            later.create_task(system.pause(whom, 1 + 3 * own.random()))
        case _ if what == "kill":
            system.signal(whom, signal.SIGKILL, index)
        case "freeze worker":
            later.create_task(system.freeze(whom, FREEZE_SECONDS[whom], index))
        case _ if what == "freeze":
            await system.freeze(whom, FREEZE_SECONDS[whom], index)
        case _:
            assert operator is not None, fault
            operator.do(fault, own, later)
    if system.process is None:
        await asyncio.sleep(pause)
        await system.start()
