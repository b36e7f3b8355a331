"""The spool: what it has taken survives `kill -9`; it takes no more than it may, and says so."""

from __future__ import annotations

import asyncio
import random

import pytest

from eventrouter import spool as spool_module
from eventrouter.errors import StartError, UnavailableError
from eventrouter.spool import Spool
from spool_kit import event, number_of, rejected, start_spooling


@pytest.fixture
async def spool(tmp_path):
    one = Spool(tmp_path / "spool", 10**6, reserve=0, now=lambda: 1000.0)
    await one.open()
    yield one
    await one.close()


async def drain(spool):
    found = []
    while chunk := await spool.read():
        found += chunk.events
        await spool.remove(chunk)
    return [number_of(one) for one in found]


async def test_it_keeps_and_gives_back_in_order_and_counts(spool):
    await spool.append([event(1), event(2)], [rejected(1)])
    await spool.append([event(3)], [])
    assert not spool.is_empty
    state = spool.state()
    assert (4, 4, 0, True) == (state.events, state.spooled, state.drained, state.can_keep)
    assert [1, 2, 3] == await drain(spool)
    assert spool.is_empty
    assert (0, 0, 0.0, 4, 4) == spool.state()[:5]
    await spool.compact()


async def test_the_oldest_event_has_an_age(tmp_path):
    now = [1000.0]
    spool = Spool(tmp_path, 10**6, reserve=0, now=lambda: now[0])
    await spool.open()
    await spool.append([event(1)], [])
    now[0] += 30
    assert 30.0 == spool.state().oldest_seconds
    await spool.close()


async def test_a_full_spool_refuses_and_takes_again_when_it_is_drained(spool):
    with pytest.raises(UnavailableError, match="the spool is full") as caught:
        for number in range(100):
            await spool.append([event(number, pad="x" * 30_000)], [])
    assert caught.value.retry_after
    assert 20 < spool.state().events < 40
    assert spool.state().bytes <= 10**6
    await spool.append([event(100)], [])  # a small one finds a place
    await drain(spool)
    await spool.append([event(101, pad="x" * 30_000)], [])


async def test_what_other_collectors_left_does_not_make_it_full(tmp_path):
    one, two = (Spool(tmp_path / "spool", 10**6, reserve=0) for _ in range(2))
    await one.open()
    await two.open()
    for number in range(25):
        await two.append([event(number, pad="x" * 30_000)], [])
    await two.close()
    assert not await one.adopt()
    assert await one.adopt()
    for number in range(25, 50):
        await one.append([event(number, pad="x" * 30_000)], [])
    assert one.state().bytes > 10**6
    assert one.state().can_keep
    assert list(range(50)) == await drain(one)
    await one.close()


async def test_a_disk_that_is_nearly_full_is_left_alone(tmp_path):
    spool = Spool(tmp_path, 10**6, reserve=2**62)
    await spool.open()
    with pytest.raises(UnavailableError, match="nearly full"):
        await spool.append([event(1)], [])
    assert not spool.state().can_keep
    await spool.close()


async def test_a_disk_that_fails_refuses_and_the_collector_lives_on(spool, monkeypatch):
    await spool.append([event(1)], [])
    connection = spool._files._own._connection
    await spool._run(lambda: connection.execute("PRAGMA query_only = 1"))
    with pytest.raises(UnavailableError, match="can't be written") as caught:
        await spool.append([event(2)], [])
    assert caught.value.retry_after
    assert not spool.state().can_keep
    await spool._run(lambda: connection.execute("PRAGMA query_only = 0"))
    await spool.append([event(3)], [])
    assert [1, 3] == await drain(spool)
    monkeypatch.setattr(spool_module, "RECOVERY_SECONDS", 0.0)
    assert spool.state().can_keep


async def test_the_same_trouble_is_told_once_a_minute(spool, caplog, capsys):
    spool._max_bytes = 0
    for number in range(10):
        with pytest.raises(UnavailableError):
            await spool.append([event(number)], [])
    out = capsys.readouterr()
    assert 1 == (out.out + out.err + caplog.text).count("the spool is full")


async def test_a_place_that_cannot_be_used_is_told_with_advice(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="can't be used") as caught:
        await Spool(tmp_path / "file" / "spool", 10**6).open()
    assert "--data-dir" in caught.value.hint


async def test_what_was_taken_survives_kill_9(tmp_path):
    rng = random.Random(7)
    first, taken = 0, []
    for _ in range(6):
        with start_spooling(tmp_path / "spool", first) as process:
            for _ in range(rng.randrange(1, 200)):
                taken.append(int(process.stdout.readline()))
            process.kill()
            taken += [int(line) for line in process.stdout.read().split()]
        first = taken[-1] + 1000
    spool = Spool(tmp_path / "spool", 10**9, reserve=0)
    await spool.open()
    found = await drain(spool)
    await spool.close()
    assert found == sorted(found)
    assert len(found) == len(set(found))
    assert set(taken) <= set(found)
    assert len(found) - len(taken) <= 6  # what was written and not told any more


async def test_the_loop_runs_on_while_the_disk_works(spool):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticker = asyncio.create_task(tick())
    await spool.append([event(1)], [])
    assert ticks > 2
    ticker.cancel()
