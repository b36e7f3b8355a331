"""The event log with a spool: whatever befalls the server, what was acknowledged comes through, in order."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from eventrouter import log as log_module
from eventrouter.errors import UnavailableError
from eventrouter.events import shard_of
from eventrouter.lane import Lane
from eventrouter.lanes import Lanes
from eventrouter.log import EventLog
from eventrouter.log_entry import decode_entry
from eventrouter.records import unpack
from eventrouter.spool import Spool
from spool_kit import event, rejected

SHARDS = 4
KEYS = {shard_of(key, SHARDS): key for key in map(str, range(100))}


class Server(Lanes):
    """A real server that can be made to fail: `up`, `fails` (before or after it has kept), `is_silent`."""

    def __init__(self, redis):
        super().__init__(redis)
        self.is_up = True
        self.chance = 0.0
        self.rng = random.Random(3)
        self.silence = asyncio.Event()
        self.silence.set()
        self.writes = 0

    async def append_all(self, work, percent=80):
        self.writes += 1
        if not self.is_up:
            raise RedisConnectionError("connection refused")
        await self.silence.wait()
        if self.rng.random() < self.chance:
            if self.rng.random() < 0.5:
                await super().append_all(work, percent)
            raise RedisConnectionError("connection reset")
        return await super().append_all(work, percent)

    async def reach(self):
        await self.silence.wait()
        if not self.is_up:
            raise RedisConnectionError("connection refused")


@pytest.fixture
def server(redis):
    return Server(redis)


@pytest.fixture
async def start(server, tmp_path):
    logs = []

    async def enqueue(claims):
        pass

    async def begin(max_bytes=10**8):
        log = EventLog(server, SHARDS, enqueue)
        spool = Spool(tmp_path / "spool", max_bytes, reserve=0)
        await spool.open()
        log.use(spool, server.reach)
        logs.append(log)
        return log

    yield begin
    server.silence.set()
    for log in logs:
        await log.close()


async def is_drained(log):
    async with asyncio.timeout(20):
        while log.reason:
            await asyncio.sleep(0.005)


async def kept(redis):
    """The message ids in the log, by shard, in its order; repeats included."""
    found = {}
    for shard in range(SHARDS):
        rows = await redis.xrange(Lane(shard, "log").key)
        found[shard] = [stored.message_id for _, fields in rows for stored in decode_entry(fields[b"d"])]
    return found


def first_arrivals(ids):
    return list(dict.fromkeys(ids))


async def test_with_the_server_away_events_are_kept_and_come_through_in_order(start, server, redis):
    log = await start()
    await log.append([event(0)])
    server.is_up = False
    for number in range(1, 20):
        await log.append([event(number)], [rejected(number)])
    assert 38 == log.spool.state().events
    assert "connection refused" in log.reason
    server.is_up = True
    await is_drained(log)
    await log.append([event(20)])
    shard = shard_of("anonymous", SHARDS)
    assert [f"m{number}" for number in range(21)] == (await kept(redis))[shard]
    records = [
        record.id
        for shard in range(SHARDS)
        for _, fields in await redis.xrange(Lane(shard, "warehouse").key)
        for record in unpack(fields[b"d"])
    ]
    assert sorted(f"r{number}" for number in range(1, 20)) == sorted(records)


async def test_a_write_whose_outcome_is_unknown_is_repeated_and_nothing_else(start, server, redis):
    log = await start()
    server.chance, server.rng = 1.0, random.Random(0)
    await log.append([event(1), event(2)])
    server.chance = 0.0
    await is_drained(log)
    assert ["m1", "m2"] == first_arrivals((await kept(redis))[shard_of("anonymous", SHARDS)])


@pytest.mark.parametrize("seed", range(4))
async def test_through_many_outages_nothing_is_lost_and_each_client_stays_in_order(start, server, redis, seed):
    log = await start()
    rng = server.rng = random.Random(seed)
    ends = time.monotonic() + 1.5
    sent = defaultdict(int)

    async def client(key):
        while time.monotonic() < ends:
            await log.append([event(f"{key}-{sent[key]}", key)])
            sent[key] += 1
            if rng.random() < 0.1:
                await asyncio.sleep(rng.random() * 0.02)

    async def trouble():
        while time.monotonic() < ends:
            server.is_up, server.chance = rng.random() < 0.6, rng.choice([0.0, 0.0, 0.3])
            await asyncio.sleep(rng.random() * 0.1)
        server.is_up, server.chance = True, 0.0

    await asyncio.gather(trouble(), *(client(f"key{number}") for number in range(8)))
    await is_drained(log)
    found = await kept(redis)
    assert sum(sent.values()) > 500
    for key, number in sent.items():
        ids = [one for one in found[shard_of(key, SHARDS)] if one.startswith(f"m{key}-")]
        assert [f"m{key}-{one}" for one in range(number)] == first_arrivals(ids)


async def test_a_busy_collector_leaves_its_spool(start, server, redis):
    log = await start()
    busy = True

    async def client(key):
        number = 0
        while busy:
            await log.append([event(f"{key}-{number}", key)])
            number += 1
        return number

    clients = [asyncio.create_task(client(f"key{number}")) for number in range(32)]
    server.is_up = False
    await asyncio.sleep(0.3)
    server.is_up = True
    await is_drained(log)
    spooled = log.spool.state().spooled
    await asyncio.sleep(0.1)
    assert spooled == log.spool.state().spooled
    busy = False
    total = sum(await asyncio.gather(*clients))
    assert total == sum(map(len, (await kept(redis)).values()))
    assert total > spooled


async def test_a_server_that_says_nothing_holds_nobody_up_for_long(start, server, redis, monkeypatch):
    monkeypatch.setattr(log_module, "STALL_SECONDS", 0.1)
    monkeypatch.setattr(log_module, "WRITE_SECONDS", 0.5)
    log = await start()
    server.silence.clear()
    first = asyncio.create_task(log.append([event(1)]))
    await asyncio.sleep(0.15)
    await asyncio.wait_for(log.append([event(2, "other")]), 0.2)
    assert not first.done()
    assert "does not answer" in log.reason
    await asyncio.wait_for(first, 1)
    server.silence.set()
    await is_drained(log)
    found = await kept(redis)
    assert {"m1", "m2"} == {one for ids in found.values() for one in ids}


async def test_a_full_server_is_an_outage_too_and_what_it_kept_is_not_sent_again(start, server, redis):
    log = await start()
    used = (await redis.info("memory"))["used_memory"]
    await redis.config_set("maxmemory", used)
    try:
        for number in range(SHARDS):
            await log.append([event(number, KEYS[number])])
        assert SHARDS == log.spool.state().events
        assert "full" in log.reason
    finally:
        await redis.config_set("maxmemory", 256 * 1024 * 1024)
    await is_drained(log)
    assert {shard: [f"m{shard}"] for shard in range(SHARDS)} == await kept(redis)


async def test_of_a_spooled_entry_only_what_a_shard_refused_is_sent_again(start, server, redis):
    log = await start()
    server.is_up = False
    await log.append([event(number, KEYS[number]) for number in range(SHARDS)])
    await redis.set(Lane(0, "log").key, "not a stream")
    server.is_up, server.writes = True, 0
    while server.writes < 3:
        await asyncio.sleep(0.01)
    assert "WRONGTYPE" in log.reason
    await redis.delete(Lane(0, "log").key)
    await is_drained(log)
    assert {shard: [f"m{shard}"] for shard in range(SHARDS)} == await kept(redis)


async def test_what_the_server_refuses_for_good_is_not_spooled_and_stops_nobody_else(start, server, redis):
    log = await start()
    await redis.set(Lane(0, "log").key, "not a stream")
    with pytest.raises(UnavailableError):
        await log.append([event(0, KEYS[0])])
    await log.append([event(1, KEYS[1])])
    assert (0, "") == (log.spool.state().spooled, log.reason)


async def test_a_full_spool_refuses_and_recovers(start, server, redis):
    log = await start(max_bytes=5000)
    server.is_up = False
    taken = 0
    with pytest.raises(UnavailableError, match="the spool is full") as caught:
        for number in range(100):
            await log.append([event(number)])
            taken += 1
    assert caught.value.retry_after
    assert 10 < taken < 100
    server.is_up = True
    await is_drained(log)
    await log.append([event(100)])
    expected = [*(f"m{number}" for number in range(taken)), "m100"]
    assert expected == (await kept(redis))[shard_of("anonymous", SHARDS)]


async def test_a_start_goes_on_with_what_lies_in_the_spool(start, server, redis):
    server.is_up = False
    log = await start()
    await log.append([event(1)])
    await log.close()
    again = await start()
    await again.append([event(2)])
    server.is_up = True
    await is_drained(again)
    assert ["m1", "m2"] == (await kept(redis))[shard_of("anonymous", SHARDS)]


async def test_what_a_collector_left_that_is_gone_is_drained_without_a_restart(start, server, redis, monkeypatch):
    monkeypatch.setattr("eventrouter.log.LOOK_SECONDS", 0.05)
    await start()
    gone = await start()
    server.is_up = False
    await gone.append([event(1)])
    await gone.close()
    server.is_up = True
    async with asyncio.timeout(20):
        while (await kept(redis))[shard_of("anonymous", SHARDS)] != ["m1"]:
            await asyncio.sleep(0.02)


async def test_a_stop_does_not_wait_for_the_server(start, server):
    log = await start()
    server.is_up = False
    await log.append([event(1)])
    await asyncio.sleep(0.3)
    server.silence.clear()
    started = time.monotonic()
    await log.close()
    assert time.monotonic() - started < 1.5


async def test_start_and_end_are_told_once_however_often_it_comes_and_goes(start, server, capsys):
    log = await start()
    for number in range(5):
        server.is_up = False
        await log.append([event(number)])
        server.is_up = True
        await is_drained(log)
    out = capsys.readouterr()
    told = out.out + out.err
    assert (1, 1) == (told.count("events go to the spool"), told.count("the spool is drained"))


async def test_an_idle_log_touches_neither_disk_nor_server(start, server, redis):
    log = await start()
    await log.append([event(1)])
    writes, reads = server.writes, log.spool._thread._work_queue.qsize()
    await asyncio.sleep(0.3)
    assert (writes, reads) == (server.writes, log.spool._thread._work_queue.qsize())
    assert log._drainer is None
