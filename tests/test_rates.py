"""Rates: from the counters at two moments, of which the workers keep some."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from eventrouter import rates
from eventrouter.counters import Snapshot
from eventrouter.rates import KEY, SAMPLES, Sample, keep_sample, keep_samples, rates_between, read_sample, sample_of


def snapshot(now_ms: int = 1000, **counts: int) -> Snapshot:
    return Snapshot(Counter({name.replace("__", ":"): number for name, number in counts.items()}), {}, {}, 0, now_ms)


def test_a_sample_has_sums_of_events_and_of_each_destination():
    found = sample_of(
        snapshot(
            accepted=9,
            accepted__web=9,
            routed=8,
            routed__web=8,
            rejected__web__too_large=1,
            rejected__app__too_large=2,
            delivered__crm=5,
            retried__crm__503=2,
            dead__crm__permanent=3,
            filtered__crm__consent=7,
        )
    )
    assert found == Sample(1000, {"accepted": 9, "routed": 8, "rejected": 3}, {"crm": 5}, {"crm": 5})


def test_rates_are_what_came_between_two_samples_by_the_time_between_them():
    before = sample_of(snapshot(1000, accepted=10, delivered__crm=1))
    after = sample_of(snapshot(5000, accepted=30, routed=2, delivered__crm=2, retried__crm__none=1))
    found = rates_between(before, after)
    assert found is not None
    assert (found.seconds, found.events) == (4.0, {"accepted": 5.0, "routed": 0.5, "rejected": 0.0})
    assert (found.delivered, found.failed) == ({"crm": 0.25}, {"crm": 0.25})


def test_without_time_between_there_is_no_rate():
    sample = sample_of(snapshot(1000, accepted=10))
    assert rates_between(sample, sample) is None


def test_counters_that_the_server_lost_give_no_negative_rate():
    found = rates_between(sample_of(snapshot(1000, accepted=10)), sample_of(snapshot(2000, accepted=3)))
    assert found is not None
    assert found.events["accepted"] == 0.0


async def test_the_oldest_of_the_last_samples_is_read(redis):
    assert await read_sample(redis) is None
    for number in range(SAMPLES + 2):

        async def look(number=number):
            return snapshot(number * 1000, accepted=number)

        assert await keep_sample(redis, look)
        await redis.delete(f"{KEY}:kept")
    found = await read_sample(redis)
    assert found == Sample(2000, {"accepted": 2, "routed": 0, "rejected": 0}, {}, {})


async def test_several_workers_keep_one_sample_together(redis):
    async def look():
        return snapshot()

    assert [await keep_sample(redis, look), await keep_sample(redis, look)] == [True, False]
    assert await redis.llen(KEY) == 1


async def test_samples_of_workers_that_are_gone_are_forgotten(redis):
    async def look():
        return snapshot()

    await keep_sample(redis, look)
    assert 0 < await redis.pttl(KEY) <= 120_000


async def test_what_another_version_kept_is_passed_over(redis):
    await redis.rpush(KEY, "?")
    assert await read_sample(redis) is None


async def test_it_goes_on_when_redis_was_away(redis, monkeypatch):
    monkeypatch.setattr(rates, "EVERY_SECONDS", 1.01)
    looks = 0

    async def look():
        nonlocal looks
        looks += 1
        await redis.delete(f"{KEY}:kept")
        if looks == 1:
            raise RedisConnectionError("away")
        return snapshot(accepted=looks)

    monkeypatch.setattr(rates.asyncio, "sleep", lambda _, sleep=asyncio.sleep: sleep(0))
    task = asyncio.create_task(keep_samples(redis, look))
    while not await redis.llen(KEY):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert looks >= 2
