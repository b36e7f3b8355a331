"""The event log on a real server: who is told "kept", when, and what one write holds."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from eventrouter import log as log_module
from eventrouter.errors import UnavailableError
from eventrouter.events import shard_of
from eventrouter.lane import Lane
from eventrouter.lanes import Lanes
from eventrouter.log import EventLog
from eventrouter.log_entry import decode_entry
from eventrouter.records import unpack
from lane_kit import counts, shares
from spool_kit import event, rejected

SHARDS = 4


@pytest.fixture
def claimed():
    return []


@pytest.fixture
async def log(lanes, claimed):
    async def enqueue(claims):
        claimed.extend(claims)

    one = EventLog(lanes, SHARDS, enqueue)
    yield one
    await one.close()


async def kept(redis: Redis, shard: int) -> list[list[str]]:
    """The message ids of each entry of a shard's log."""
    rows = await redis.xrange(Lane(shard, "log").key)
    return [[stored.message_id for stored in decode_entry(fields[b"d"])] for _, fields in rows]


async def test_events_are_kept_one_entry_for_each_shard_touched(log, redis, claimed):
    keys = ["a", "b", "c", "d", "e", "f"]
    await log.append([event(number, keys[number % 6]) for number in range(12)])
    await log.close()
    for shard in range(SHARDS):
        expected = [f"m{number}" for number in range(12) if shard_of(keys[number % 6], SHARDS) == shard]
        assert ([expected] if expected else []) == await kept(redis, shard)
        assert ({"accepted": len(expected)} if expected else {}) == await counts(redis, shard)
        assert ({"accepted:web": len(expected)} if expected else {}) == await shares(redis, shard)
    assert {shard_of(key, SHARDS) for key in keys} == {claim.lane.shard for claim in claimed}


async def test_an_event_is_kept_as_it_is(log, redis):
    await log.append([event(1, properties={"big": 12345678901234567890123, "text": "é"})])
    [(_, fields)] = await redis.xrange(Lane(shard_of("anonymous", SHARDS), "log").key)
    [stored] = decode_entry(fields[b"d"])
    assert {"big": 12345678901234567890123, "text": "é"} == stored.event["properties"]


async def test_requests_that_come_together_share_one_write(log, redis):
    shard = shard_of("anonymous", SHARDS)
    await asyncio.gather(*(log.append([event(number)]) for number in range(50)))
    entries = await kept(redis, shard)
    assert len(entries) <= 4
    assert [f"m{number}" for number in range(50)] == [one for entry in entries for one in entry]


async def test_only_the_first_events_of_an_idle_shard_wake_the_router(log, claimed):
    await log.append([event(1)])
    await log.append([event(2)])
    await log.close()
    assert 1 == len(claimed)


async def test_refused_events_go_to_the_warehouse_and_are_counted_by_reason(log, redis):
    await log.append([], [rejected(1), rejected(2), rejected(3, "userId_missing")])
    stored, total = [], {}
    for shard in range(SHARDS):
        for _, fields in await redis.xrange(Lane(shard, "warehouse").key):
            stored += unpack(fields[b"d"])
        for field, number in (await counts(redis, shard)).items():
            total[field] = total.get(field, 0) + number
    assert {"r1", "r2", "r3"} == {record.id for record in stored}
    assert {"to:warehouse": 3, "rejected:web:event_not_defined": 2, "rejected:web:userId_missing": 1} == total


async def test_nothing_to_keep_is_kept_at_once(log, redis):
    await log.append([])
    assert [] == await redis.keys("*")


async def test_a_request_is_answered_only_after_the_write(lanes, redis, claimed):
    gate = asyncio.Event()

    class Slow(Lanes):
        async def append_all(self, work, percent=80):
            result = await super().append_all(work, percent)
            await gate.wait()
            return result

    async def enqueue(claims):
        pass

    log = EventLog(Slow(redis), SHARDS, enqueue)
    request = asyncio.create_task(log.append([event(1)]))
    await asyncio.sleep(0.05)
    assert not request.done()
    gate.set()
    await request
    await log.close()


async def test_a_server_that_is_away_is_an_error_that_says_so_and_loses_nobody_else(redis, claimed):
    async def enqueue(claims):
        pass

    away = Lanes(Redis.from_url("unix:///nowhere/valkey.sock"))
    log = EventLog(away, SHARDS, enqueue)
    results = await asyncio.gather(*(log.append([event(number)]) for number in range(20)), return_exceptions=True)
    assert {UnavailableError} == {type(result) for result in results}
    assert "not reachable" in str(results[0])
    assert results[0].retry_after
    log._writer._lanes = Lanes(redis)
    await log.append([event(99)])  # it goes on by itself
    await log.close()


async def test_a_full_server_is_an_error_for_the_requests_that_it_refused(log, redis):
    used = (await redis.info("memory"))["used_memory"]
    await redis.config_set("maxmemory", used)
    try:
        with pytest.raises(UnavailableError, match="full"):
            await log.append([event(1)])
    finally:
        await redis.config_set("maxmemory", 256 * 1024 * 1024)
    await log.append([event(2)])
    assert [["m2"]] == await kept(redis, shard_of("anonymous", SHARDS))


async def test_one_broken_shard_fails_its_request_and_the_kept_shards_are_served(log, redis, claimed):
    keys = {shard_of(key, SHARDS): key for key in map(str, range(100))}
    await redis.set(Lane(0, "log").key, "not a stream")
    with pytest.raises(UnavailableError):
        await log.append([event(number, keys[number]) for number in range(SHARDS)])
    await log.close()
    assert {1, 2, 3} == {claim.lane.shard for claim in claimed}


async def test_too_much_at_once_is_refused_before_it_is_held(log, monkeypatch):
    monkeypatch.setattr(log_module, "MAX_PENDING_BYTES", 1000)
    results = await asyncio.gather(*(log.append([event(number)]) for number in range(100)), return_exceptions=True)
    refused = [result for result in results if result is not None]
    assert 50 < len(refused) < 100
    assert all(isinstance(result, UnavailableError) and result.retry_after for result in refused)
    await log.append([event(1)])


async def test_a_write_is_bounded_and_the_rest_follows(log, redis, monkeypatch):
    monkeypatch.setattr(log_module, "MAX_WRITE_BYTES", 500)
    await asyncio.gather(*(log.append([event(number)]) for number in range(60)))
    entries = await kept(redis, shard_of("anonymous", SHARDS))
    assert len(entries) > 4
    assert max(map(len, entries)) <= 10
    assert 60 == sum(map(len, entries))


async def test_a_client_that_left_does_not_disturb_the_others(log, redis):
    leaving = asyncio.create_task(log.append([event(1)]))
    staying = asyncio.create_task(log.append([event(2)]))
    await asyncio.sleep(0)
    leaving.cancel()
    await staying
    assert "m2" in [one for entry in await kept(redis, shard_of("anonymous", SHARDS)) for one in entry]


async def test_a_queue_that_is_away_does_not_fail_a_request(lanes):
    async def enqueue(claims):
        raise ConnectionError("no arq")

    log = EventLog(lanes, SHARDS, enqueue)
    await log.append([event(1)])
    await asyncio.gather(*log._writer._tasks, return_exceptions=True)
    claims, _ = await lanes.sweep(shard_of("anonymous", SHARDS), everything=True)
    assert 1 == len(claims)
