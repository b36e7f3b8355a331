"""The disk that everything is kept on fills up under load, now and then: what was acknowledged is there afterwards."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from chaos_load import Load
from chaos_run import Run
from chaos_sink import Sink
from chaos_system import System
from test_chaos_crash import SEEDS

SIZE = "128m"
TIMES = 4

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="a disk of its own, in memory, is Linux's"),
]


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """A small disk of its own, mounted at `path`. Needs root: without it the test fails, and says so."""
    path.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "eventrouter-test", str(path)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the test needs to mount a disk, which only root may: {done.stderr}"
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path: Path) -> None:
    """Takes the last byte of the disk on which `path` is."""
    with suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(65536))
    with suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            file.write(b"0")


@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_is_lost_or_twice_when_the_disk_fills_up(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    run = Run(f"seed {seed}")
    with disk(tmp_path / "data"):
        filler = tmp_path / "data" / "filler"
        async with Sink(random.Random(rng.random()), {"one": 150, "many": 15}) as sink:
            system = System(tmp_path, sink.port)
            load = Load(system.url, random.Random(rng.random()))

            async def befalls(_: asyncio.TaskGroup) -> None:
                for _ in range(TIMES):
                    await asyncio.sleep(rng.uniform(0.5, 2.0))
                    run.tell("the disk is full")
                    ends = time.monotonic() + rng.uniform(1.0, 5.0)
                    while time.monotonic() < ends:
                        fill(filler)  # again: something may have given up some room
                        await asyncio.sleep(0.1)
                    run.tell(f"there is room, {load.answers}")
                    filler.unlink()

            found = await run.run(system, load, sink, befalls, system.data)
    assert found == [], "\n".join(found)
    assert load.answers["503"], "the disk was never full for a client"
