"""calls.py: places for the calls of a destination, shared by all workers, on a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from eventrouter import calls as calls_module
from eventrouter.calls import KEPT_MS, PATIENCE_SECONDS, Calls, Place
from eventrouter.lane import LEASE_MS
from eventrouter.lanes import Lanes
from lane_kit import Clock

KEY = "er:{dest:crm}:calls"
Make = Callable[..., Calls]


class Told(Lanes):
    """Lanes that know which steps were run with what, and let a test do something before each."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.steps: list[list[Any]] = []
        self.before: Callable[[str], None] = lambda step: None
        self.answers = asyncio.Event()
        """While it is not set answers don't arrive."""
        self.answers.set()

    async def run(self, step: str, keys: Any, args: Any, blobs: Any = ()) -> Any:
        self.steps.append(list(args))
        self.before(args[0])
        result = await super().run(step, keys, args, blobs)
        await self.answers.wait()
        return result

    @property
    def names(self) -> list[str]:
        """The names of the steps."""
        return [args[0] for args in self.steps]


@pytest.fixture
def told(redis: Redis) -> Told:
    return Told(redis)


@pytest.fixture
async def make(redis: Redis) -> AsyncIterator[Make]:
    """Makes the places of one worker."""
    made: list[Calls] = []

    def one(most: int = 1, lanes: Lanes | None = None) -> Calls:
        made.append(Calls(lanes or Lanes(redis), "crm", most))
        return made[-1]

    yield one
    for calls in made:
        await calls.close()


def never() -> bool:
    return False


async def take(calls: Calls, seconds: float = 0.0, gives_up: Callable[[], bool] = never) -> str:
    """A place, or ''."""
    return await calls.take(seconds, gives_up)


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not await holds():
            await asyncio.sleep(0.002)


# so many and no more


async def test_all_workers_share_the_places(make: Make) -> None:
    workers = [make(3), make(3)]
    places = [await take(worker) for worker in workers * 3]
    assert [True] * 3 + [False] * 3 == [bool(place) for place in places]
    workers[0].give_back(places[0])
    assert await take(workers[1], 5)


async def test_each_destination_has_its_own(make: Make, lanes: Lanes) -> None:
    other = Calls(lanes, "erp", 1)
    assert await take(make())
    assert await take(other)
    await other.close()


async def test_fewer_places_wait_for_those_that_are_taken(make: Make) -> None:
    before, after = make(3), make(1)
    places = [await take(before) for _ in range(3)]
    for place in places[:2]:
        before.give_back(place)
    assert not await take(after, 0.1)
    before.give_back(places[2])
    assert await take(after, 5)


async def test_more_places_are_there_at_once(make: Make) -> None:
    assert await take(make(1))
    assert await take(make(2))


# leases


async def test_the_places_of_a_worker_that_was_killed_are_free_after_their_lease(clock: Clock, make: Make) -> None:
    assert await take(make())
    other = make()
    await clock.tick(LEASE_MS - 1)
    assert not await take(other)
    await clock.tick(1)
    assert await take(other)


async def test_a_place_is_held_for_as_long_as_the_call_lasts(
    clock: Clock, make: Make, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls_module, "LEASE_MS", 60)
    worker, other = make(), make()
    place = await take(worker)
    for _ in range(5):
        await clock.tick(40)
        end = clock.ms + 60
        await until(lambda end=end: _has(redis, place, end))  # type: ignore[misc]
        assert not await take(other)


async def _has(redis: Redis, place: str, end: float) -> bool:
    return bool(await redis.zscore(KEY, place) == end)


async def test_all_places_of_a_worker_are_renewed_together_while_there_are_any(
    make: Make, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls_module, "LEASE_MS", 300)
    worker = make(3, told)
    places = [await take(worker) for _ in range(3)]
    await until(lambda: _said(told, "renew"))
    assert ["renew", 300, 3, *places] == told.steps[-1]
    for place in places:
        worker.give_back(place)
    await asyncio.sleep(0.15)
    told.steps.clear()
    await asyncio.sleep(0.25)
    assert [] == told.steps


async def _said(told: Told, name: str) -> bool:
    return name in told.names


async def test_a_place_that_is_given_back_while_it_is_renewed_is_free(
    make: Make, told: Told, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls_module, "LEASE_MS", 60)
    worker = make(1, told)
    place = await take(worker)

    async def given_back_twice() -> bool:
        return told.names.count("give") > 1  # the renewal may have been the later one

    told.before = lambda step: worker.give_back(place) if step == "renew" else None
    await until(given_back_twice)
    await worker.close()
    assert ["renew", "give", "give"] == told.names[1:]
    assert not await redis.exists(KEY)


async def test_after_a_freeze_no_call_begins_at_the_old_place_but_it_counts(
    make: Make, told: Told, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls_module, "LEASE_MS", 500)
    worker, other = make(1, told), make()
    place = await take(worker)
    assert worker.is_held(place)
    time.sleep(0.55)
    assert not worker.is_held(place)
    await until(lambda: _said(told, "renew"))
    assert not worker.is_held(place)
    assert not await take(other)


async def test_a_clock_that_is_set_back_keeps_no_place(clock: Clock, make: Make) -> None:
    assert await take(make())
    other = make()
    await clock.tick(-3_600_000)
    assert not await take(other)
    await clock.tick(LEASE_MS)
    assert await take(other)


async def test_nothing_is_left_in_redis(make: Make, redis: Redis) -> None:
    worker = make()
    worker.give_back(await take(worker))
    await worker.close()
    assert [] == await redis.keys("er:*")
    assert await take(make())
    assert 0 < await redis.pttl(KEY) <= LEASE_MS


# waiting


async def test_it_is_not_waited_for_longer_than_is_wanted(make: Make) -> None:
    worker = make()
    assert await take(worker)
    began = time.monotonic()
    assert not await take(worker, 0.2)
    assert 0.2 <= time.monotonic() - began < 1


async def test_the_last_in_line_have_their_turn_however_long_the_line(make: Make) -> None:
    worker = make()

    async def call() -> bool:
        place = await take(worker, 0.3)
        await asyncio.sleep(0.1)
        worker.give_back(place)
        return bool(place)

    assert [True] * 8 == await asyncio.gather(*(call() for _ in range(8)))


@pytest.mark.parametrize("own", [True, False])
async def test_who_waits_may_give_up(make: Make, own: bool) -> None:
    worker, ends = make(), asyncio.Event()
    assert await take(worker if own else make())
    waits = [asyncio.create_task(take(worker, 60, ends.is_set)) for _ in range(3)]
    await asyncio.sleep(0.05)
    ends.set()
    async with asyncio.timeout(2):
        assert ["", "", ""] == await asyncio.gather(*waits)


async def test_who_has_given_up_does_not_stand_in_line(make: Make) -> None:
    worker = make()
    assert await take(worker)
    first = asyncio.create_task(take(worker, 60))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(1):
        assert not await take(worker, 60, lambda: True)
    first.cancel()


async def test_those_of_one_worker_come_in_their_order_without_asking_again_and_again(make: Make, told: Told) -> None:
    worker = make(1, told)
    order: list[int] = []

    async def call(number: int) -> None:
        place = await take(worker, 5)
        order.append(number)
        await asyncio.sleep(0.05)
        worker.give_back(place)

    await asyncio.gather(*map(call, range(8)))
    assert list(range(8)) == order
    assert told.names.count("take") <= 16


async def test_many_who_wait_ask_a_few_times_a_second(make: Make, told: Told) -> None:
    assert await take(make())
    worker, ends = make(1, told), asyncio.Event()
    waits = [asyncio.create_task(take(worker, 60, ends.is_set)) for _ in range(64)]
    await asyncio.sleep(1)
    ends.set()
    await asyncio.gather(*waits)
    assert 3 <= told.names.count("take") <= 25


async def test_a_worker_that_waits_is_not_passed_over_for_ever(make: Make) -> None:
    busy, other, ended = make(), make(), asyncio.Event()

    async def call_again_and_again() -> None:
        while not ended.is_set():
            if place := await take(busy, 5):
                await asyncio.sleep(0.002)
                busy.give_back(place)

    calls = [asyncio.create_task(call_again_and_again()) for _ in range(4)]
    await asyncio.sleep(0.05)
    for _ in range(2):
        place = await take(other, 8 * PATIENCE_SECONDS)
        assert place
        other.give_back(place)
    ended.set()
    await asyncio.gather(*calls)


async def test_a_place_is_kept_for_who_waits_but_not_for_long(make: Make) -> None:
    first, waits, third = make(), make(), make()
    place = await take(first)
    assert not await take(waits, 2 * PATIENCE_SECONDS)
    first.give_back(place)
    await first.close()
    assert not await take(third)
    assert await take(third, 2 * KEPT_MS / 1000)


# whatever happens


async def test_who_is_cancelled_while_it_asks_gives_back_what_it_may_have_got(
    make: Make, told: Told, redis: Redis
) -> None:
    told.answers.clear()
    worker = make(1, told)
    asks = asyncio.create_task(take(worker, 5))
    await until(lambda: redis.exists(KEY))
    asks.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asks
    told.answers.set()
    assert await take(worker, 5)
    assert 1 == await redis.zcard(KEY)


async def test_who_is_cancelled_in_line_lets_the_others_go_on(make: Make) -> None:
    worker = make()
    place = await take(worker)
    waits = [asyncio.create_task(take(worker, 5)) for _ in range(3)]
    await asyncio.sleep(0.01)
    for task in waits[:2]:
        task.cancel()
    worker.give_back(place)
    assert await waits[2]


async def test_without_redis_there_is_no_place(make: Make, told: Told) -> None:
    def away(step: str) -> None:
        raise RedisConnectionError("away")

    worker = make(1, told)
    place = await take(worker)
    told.before = away
    with pytest.raises(RedisConnectionError):
        await take(make(2, told))
    worker.give_back(place)  # its lease will end
    await worker.close()


# the place of an attempt


async def test_an_attempt_has_one_place_until_it_ends(make: Make, redis: Redis) -> None:
    calls = make()
    with pytest.raises(ValueError, match="bug"), Place(calls) as place:
        assert (False, False) == (place.is_taken, place.is_held())
        assert [True, True] == [await place.take(0.0, never) for _ in range(2)]
        assert (1, True, True) == (await redis.zcard(KEY), place.is_taken, place.is_held())
        raise ValueError("bug")
    await calls.close()
    assert 0 == await redis.zcard(KEY)


async def test_an_attempt_that_got_no_place_gives_none_back(make: Make, redis: Redis) -> None:
    calls = make()
    assert await take(calls)
    with Place(calls) as place:
        assert not await place.take(0.0, never)
    await calls.close()
    assert 1 == await redis.zcard(KEY)


async def test_without_a_bound_there_is_always_a_place() -> None:
    with Place(None) as place:
        assert (True, True, True) == (place.is_taken, await place.take(0.0, never), place.is_held())
