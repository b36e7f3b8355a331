"""A spool on a disk whose fsync fails and then forgets: what was acknowledged is there, whatever happened between."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from pathlib import Path

import pytest
from chaos_disk import build

from eventrouter.spool import Spool
from spool_kit import number_of, start_spooling


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The disk."""
    return build(tmp_path_factory.mktemp("disk"), Path(__file__).with_name("lost_writes.c"))


async def found_in(directory: Path) -> list[int]:
    """The numbers of the events in a spool, in its order."""
    spool = Spool(directory, 10**9, reserve=0)
    await spool.open()
    numbers = []
    while chunk := await spool.read():
        numbers += [number_of(event) for event in chunk.events]
        await spool.remove(chunk)
    assert spool.state().unreadable == 0
    await spool.close()
    return numbers


@pytest.mark.parametrize("seed", range(3))
def test_a_failed_fsync_loses_nothing_that_was_acknowledged(library: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    trouble = tmp_path / "trouble"
    taken: list[int] = []
    refused: list[int] = []
    first = 0
    for _ in range(3):
        environment = {"LD_PRELOAD": str(library), "CHAOS_LOST_WRITES": str(trouble)}
        with start_spooling(tmp_path / "spool", first, **environment) as process:
            assert process.stdout is not None

            def listen() -> None:
                for line in process.stdout or ():
                    words = line.split()
                    (refused if words[0] == "refused" else taken).append(int(words[-2 if len(words) > 1 else 0]))

            listener = threading.Thread(target=listen)
            listener.start()
            before = len(taken)
            while len(taken) == before:
                time.sleep(0.01)
            for _ in range(6):
                time.sleep(rng.random() * 0.1)
                trouble.touch()
                time.sleep(rng.random() * 0.05)
                trouble.unlink()
            if rng.random() < 0.5:
                trouble.touch()
                time.sleep(0.02)
            process.kill()
            listener.join()
        trouble.unlink(missing_ok=True)
        first = max(taken + refused) + 10
    found = asyncio.run(found_in(tmp_path / "spool"))
    assert len(refused) > 10
    assert len(taken) > 50
    assert found == sorted(set(found))
    assert set(taken) <= set(found)
