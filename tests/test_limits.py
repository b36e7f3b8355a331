"""limits.py: how much of its limits a destination has used, and that it is told in time."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace

import pytest
import structlog
from redis.exceptions import RedisError

from eventrouter import limits
from eventrouter.config_model import RetryConfig
from eventrouter.counters import LaneState, Snapshot
from eventrouter.limits import TELL_SECONDS, LimitsLog, Used, used

NOW = 1_700_000_000_000
CRM = SimpleNamespace(backlog=1000, retry=RetryConfig(max_age=100.0))
CONFIG = SimpleNamespace(destinations={"crm": CRM})


def snapshot(**lanes: LaneState) -> Snapshot:
    return Snapshot(Counter(), lanes, {}, 0, NOW)


def lane(waiting: int = 0, age: float = 0.0) -> LaneState:
    return LaneState(waiting=waiting, fullest=waiting, oldest_ms=NOW - int(age * 1000) if age else 0)


def test_the_fullest_shard_and_the_oldest_delivery_say_how_much_is_used():
    assert {"crm": Used(0.4, 0.25)} == used(CONFIG, 4, snapshot(crm=lane(100, 25.0)))


def test_nothing_waits_and_nothing_is_used():
    assert {"crm": Used(0.0, 0.0)} == used(CONFIG, 4, snapshot(crm=lane()))


def test_the_log_and_the_warehouse_have_no_limits():
    assert {} == used(CONFIG, 4, snapshot(log=lane(9, 999.0), warehouse=lane(9, 999.0)))


def test_of_a_destination_that_is_gone_the_age_is_told():
    assert {"gone": Used(0.0, 0.5)} == used(CONFIG, 4, snapshot(gone=lane(9, 36 * 3600.0)))


def test_from_four_fifths_on_a_limit_is_near():
    assert {"max_age": 0.8} == Used(0.79, 0.8).near()


@pytest.fixture
def told():
    with structlog.testing.capture_logs() as lines:
        yield lambda: [(line["destination"], line["limit"], line["used"]) for line in lines]


def test_it_is_told_once_and_again_while_it_lasts(told, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(limits.time, "monotonic", lambda: clock[0])
    tell = LimitsLog(lambda: CONFIG, 4)
    tell(snapshot(crm=lane(220)))
    tell(snapshot(crm=lane(230)))
    assert [("crm", "backlog", 0.88)] == told()
    clock[0] += TELL_SECONDS
    tell(snapshot(crm=lane(240)))
    assert [("crm", "backlog", 0.88), ("crm", "backlog", 0.96)] == told()


def test_it_is_told_anew_after_it_was_over(told):
    tell = LimitsLog(lambda: CONFIG, 4)
    for waiting in (220, 10, 220):
        tell(snapshot(crm=lane(waiting)))
    assert 2 == len(told())


async def test_a_watch_goes_on_while_redis_is_away(told, monkeypatch):
    monkeypatch.setattr(limits, "LOOK_SECONDS", 0.0)
    looks = 0

    async def look() -> Snapshot:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise RedisError("away")
        return snapshot(crm=lane(220))

    watch = asyncio.create_task(LimitsLog(lambda: CONFIG, 4).watch(look))
    while looks < 3:
        await asyncio.sleep(0)
    watch.cancel()
    assert [("crm", "backlog", 0.88)] == told()
