"""arrivals.py: a turn at an empty lane waits for what comes, and for parked keys that are due."""

from __future__ import annotations

import asyncio

import pytest

from eventrouter.arrivals import Arrivals
from eventrouter.lane import Batch
from lane_kit import append, begin


class Waiting:
    """A turn whose wait for new items ends when the test says so."""

    def __init__(self) -> None:
        self.comes: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.asked: list[tuple[str, float]] = []

    async def wait(self, after, seconds):
        self.asked.append((after, seconds))
        return await self.comes


@pytest.fixture
async def turn():
    return Waiting()


@pytest.fixture
async def arrivals(turn):
    one = Arrivals(turn, 7.0)
    yield one
    for task in one.tasks:
        task.cancel()
    await asyncio.gather(*one.tasks, return_exceptions=True)


def read(next_due_in_ms=0, now_ms=1_700_000_000_000):
    return Batch("empty", [], now_ms, now_ms + next_due_in_ms if next_due_in_ms else 0, "5-0")


async def test_what_was_appended_ends_the_wait(lanes):
    turn = await begin(lanes, ("k", "one"))
    arrivals = Arrivals(turn, 30.0)
    arrivals.of_empty((await turn.read()).items[0].id)
    assert not arrivals.may_be_there()
    await lanes.append(0, [append(("k", "two"))])
    async with asyncio.timeout(10):
        await arrivals.linger(None)
    assert arrivals.may_be_there()
    assert [True] == [task.result() for task in arrivals.tasks]


async def test_one_wait_is_under_way_at_a_time_and_the_next_one_is_for_what_follows(arrivals, turn):
    arrivals.of_empty("5-0")
    arrivals.more("6-0")
    await arrivals.linger(0.001)
    turn.comes.set_result(True)
    await arrivals.more()
    arrivals.forget()
    assert [] == arrivals.tasks
    await arrivals.more()
    assert [("5-0", 7.0), ("5-0", 7.0)] == turn.asked


async def test_what_a_wait_meets_is_raised_once(arrivals, turn):
    turn.comes.set_exception(ConnectionError("away"))
    await asyncio.wait({arrivals.more("5-0")})
    with pytest.raises(ConnectionError):
        arrivals.forget()
    arrivals.forget()


async def test_a_wait_ends_when_a_parked_key_is_due_by_the_servers_clock(arrivals):
    arrivals.note(read(next_due_in_ms=30))
    assert 0 < arrivals.due_in() <= 0.03
    async with asyncio.timeout(5):
        while not (arrivals.more() and arrivals.may_be_there()):
            await arrivals.linger(None)
    assert 0.0 == arrivals.due_in()


async def test_the_longest_wait_may_be_bounded(arrivals):
    arrivals.note(read(next_due_in_ms=60_000))
    async with asyncio.timeout(5):
        await arrivals.linger(0.001)
    assert not arrivals.may_be_there()


async def test_nothing_is_due_where_nothing_is_parked(arrivals):
    arrivals.note(read())
    assert arrivals.due_in() is None


async def test_after_a_change_of_parked_keys_the_lane_is_read_anew(arrivals):
    arrivals.note(read(next_due_in_ms=60_000))
    arrivals.more()
    arrivals.due_has_changed()
    assert arrivals.may_be_there()
