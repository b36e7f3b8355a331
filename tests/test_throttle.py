"""throttle.py: a rate that all workers share, and the attempts of a turn that keep to it and to their places."""

from __future__ import annotations

import asyncio
import time

import pytest

from eventrouter import throttle
from eventrouter.calls import Calls, Place
from eventrouter.destination import RateLimit
from eventrouter.lanes import Lanes
from eventrouter.throttle import PACE_SECONDS, Pace, Throttle

FREE = Place(None)


class Rate:
    """Answers with these waits, one after the other, then with none."""

    def __init__(self, *waits: float) -> None:
        self.waits = list(waits)
        self.asked: list[int] = []

    async def __call__(self, messages: int) -> float:
        self.asked.append(messages)
        return self.waits.pop(0) if self.waits else 0.0


def never() -> bool:
    return False


async def test_a_rate_is_shared_and_kept(lanes: Lanes) -> None:
    rate = RateLimit(10, per_seconds=60)
    one, other = Throttle(lanes, "crm", rate), Throttle(lanes, "crm", rate)
    assert [0.0, 0.0] == [await one(5), await other(5)]
    waits = [await one(5), await other(1)]
    assert (29 < waits[0] <= 30, 5 < waits[1] <= 6) == (True, True)


async def test_more_than_the_rate_has_at_once_goes_and_has_to_be_paid_for(lanes: Lanes) -> None:
    shared = Throttle(lanes, "crm", RateLimit(10, per_seconds=60))
    assert 0.0 == await shared(100)
    assert 540 < await shared(1) <= 546


async def test_a_corrected_rate_does_not_wait_for_the_debt_of_the_old_one(lanes: Lanes) -> None:
    assert 0.0 == await Throttle(lanes, "crm", RateLimit(10, per_seconds=3600))(100)
    assert 0.0 == await Throttle(lanes, "crm", RateLimit(10, per_seconds=1))(5)


async def test_without_a_rate_nothing_waits() -> None:
    assert await Pace(None).wait(1000, None, never, FREE)


async def test_a_short_wait_is_waited_for() -> None:
    rate = Rate(0.01, 0.01)
    assert await Pace(rate).wait(3, None, never, FREE)
    assert [3, 3, 3] == rate.asked


@pytest.mark.parametrize("until", [None, 1.0])
async def test_a_long_one_is_told_at_once(until: float | None) -> None:
    pace = Pace(rate := Rate(60.0))
    assert not await pace.wait(3, until and time.monotonic() + until, never, FREE)
    assert ([3], 60 <= pace.delay < 61) == (rate.asked, True)


async def test_short_waits_are_not_waited_for_without_end() -> None:
    pace = Pace(Rate(*[PACE_SECONDS / 4] * 100))
    assert not await pace.wait(1, None, never, FREE)
    assert PACE_SECONDS / 4 <= pace.delay


async def test_who_waits_may_give_up() -> None:
    ends = asyncio.Event()
    pace = Pace(Rate(*[0.01] * 1000))
    waits = asyncio.create_task(pace.wait(1, time.monotonic() + 60, ends.is_set, FREE))
    await asyncio.sleep(0.02)
    ends.set()
    assert (False, 0.0) == (await waits, pace.delay)


async def test_one_attempt_asks_at_a_time() -> None:
    rate = Rate(0.05)
    pace = Pace(rate)
    waits = [asyncio.create_task(pace.wait(number, None, never, FREE)) for number in (1, 2, 3)]
    await asyncio.sleep(0)
    assert [1] == rate.asked
    assert [True] * 3 == await asyncio.gather(*waits)
    assert [1, 1, 2, 3] == rate.asked


async def test_a_place_is_taken_before_anything_of_the_rate(lanes: Lanes) -> None:
    rate, calls = Rate(), Calls(lanes, "crm", 1)
    with Place(calls) as first, Place(calls) as second:
        assert await Pace(rate).wait(3, None, never, first)
        pace = Pace(rate)
        began = time.monotonic()
        assert not await pace.wait(4, began + 60, never, second)
        assert PACE_SECONDS <= time.monotonic() - began < 2 * PACE_SECONDS
    assert ([3], PACE_SECONDS / 2 <= pace.delay <= PACE_SECONDS) == (rate.asked, True)
    await calls.close()


async def test_who_gives_up_waiting_for_a_place_comes_back_at_once(lanes: Lanes) -> None:
    calls, ends = Calls(lanes, "crm", 1), asyncio.Event()
    with Place(calls) as first, Place(calls) as second:
        assert await Pace(None).wait(1, None, never, first)
        pace = Pace(None)
        waits = asyncio.create_task(pace.wait(1, None, ends.is_set, second))
        await asyncio.sleep(0.05)
        ends.set()
        assert (False, 0.0) == (await waits, pace.delay)
    await calls.close()


async def test_who_waits_for_a_place_waits_for_as_long_as_its_turn_has_another(
    lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "PACE_SECONDS", 0.05)
    calls, pace = Calls(lanes, "crm", 1), Pace(None)
    with Place(calls) as second:
        with Place(calls) as first:
            assert await pace.wait(1, None, never, first)
            waits = asyncio.create_task(pace.wait(1, None, never, second))
            await asyncio.sleep(0.3)
            assert not waits.done()
        assert await waits
        assert not await Pace(None).wait(1, None, never, Place(calls))
    await calls.close()


async def test_one_attempt_of_a_turn_waits_for_a_place_at_a_time(lanes: Lanes) -> None:
    calls = Calls(lanes, "crm", 2)
    pace, places = Pace(Rate(0.05)), [Place(calls), Place(calls)]
    waits = [asyncio.create_task(pace.wait(1, None, never, place)) for place in places]
    while not places[0].is_taken:
        await asyncio.sleep(0.001)
    assert not places[1].is_taken
    assert [True, True] == await asyncio.gather(*waits)
    for place in places:
        place.__exit__(None, None, None)
    await calls.close()
