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
from chaos_ledger import Ledger
from chaos_load import Load
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
    told = [f"seed {seed}"]
    with disk(tmp_path / "data"):
        filler = tmp_path / "data" / "filler"
        async with Sink(random.Random(rng.random()), {"one": 150, "many": 15}) as sink:
            system = System(tmp_path, sink.port)
            load = Load(system.url, random.Random(rng.random()))
            try:
                await system.start()
                async with asyncio.TaskGroup() as group:
                    sending = group.create_task(load.run())
                    for _ in range(TIMES):
                        await asyncio.sleep(rng.uniform(0.5, 2.0))
                        told.append(f"{time.monotonic():6.1f} s  the disk is full")
                        ends = time.monotonic() + rng.uniform(1.0, 5.0)
                        while time.monotonic() < ends:
                            fill(filler)  # again: something may have given up some room
                            await asyncio.sleep(0.1)
                        told.append(f"{time.monotonic():6.1f} s  there is room, {load.answers}")
                        filler.unlink()
                    await asyncio.sleep(1)
                    load.stop()
                    await sending
                told.append(f"{time.monotonic():.1f} the load ends: {len(load.events)} events, {load.answers}")
                sink.well = True
                status = await system.drained()
                found = await system.audit()
                code, _ = await system.stop()
                found += Ledger(load.events, load.faulty, sink.arrivals, status, system.data).check()
                if code:
                    found.append(f"up ended with {code}")
                if not load.answers["503"]:
                    found.append("the disk was never full for a client")
            except BaseException:
                print(*told, sep="\n")
                print(system.last_words())
                raise
            finally:
                system.close()
    print(*told, sep="\n")
    assert found == [], "\n".join([*told, *found])
