"""A write to the event log: what of it was kept, and which refusals end by themselves."""

from __future__ import annotations

import asyncio
from itertools import chain

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, OutOfMemoryError, ReadOnlyError, ResponseError

from eventrouter import log_write
from eventrouter.errors import UnavailableError
from eventrouter.events import shard_of
from eventrouter.lane import Lane
from eventrouter.lanes import Lanes
from eventrouter.log_entry import decode_entry
from eventrouter.log_write import LogWriter, Unkept
from spool_kit import event, rejected

SHARDS = 4
KEYS = {shard_of(key, SHARDS): key for key in map(str, range(100))}


@pytest.fixture
def claimed():
    return []


@pytest.fixture
async def writer(lanes, claimed):
    async def enqueue(claims):
        claimed.extend(claims)

    one = LogWriter(lanes, SHARDS, enqueue)
    yield one
    await one.close()


async def test_all_is_kept_and_its_lanes_are_claimed(writer, redis, claimed):
    assert await writer.write([event(number, KEYS[number]) for number in range(SHARDS)], [rejected(1)]) is None
    await writer.close()
    for shard in range(SHARDS):
        [(_, fields)] = await redis.xrange(Lane(shard, "log").key)
        assert [f"m{shard}"] == [one.message_id for one in decode_entry(fields[b"d"])]
    assert {Lane(shard, "log") for shard in range(SHARDS)} < {claim.lane for claim in claimed}


async def test_many_events_of_a_shard_are_several_entries_in_order(writer, redis, monkeypatch):
    monkeypatch.setattr(log_write, "ENTRY_BYTES", 500)
    large = event(4, KEYS[0], pad="x" * 2000)
    some = [event(number, KEYS[0]) for number in range(4)]
    assert await writer.write([*some, large, *(event(number, KEYS[0]) for number in range(5, 20))], []) is None
    rows = [fields for _, fields in await redis.xrange(Lane(0, "log").key)]
    found = [[one.message_id for one in decode_entry(fields[b"d"])] for fields in rows]
    assert [f"m{number}" for number in range(20)] == list(chain(*found))
    assert ["m4"] in found
    assert [len(ids) for ids in found] == [int(fields[b"n"]) for fields in rows]
    assert all(len(fields[b"d"]) < 600 for fields, ids in zip(rows, found, strict=True) if ids != ["m4"])
    assert 3 < len(found) < 15


async def test_what_one_shard_refuses_is_told_apart(writer, redis, claimed):
    await redis.set(Lane(0, "log").key, "not a stream")
    events = [event(number, KEYS[number]) for number in range(SHARDS)]
    records = [rejected(number) for number in range(20)]
    unkept = await writer.write(events, records)
    assert unkept is not None
    mine = [record for record in records if shard_of(record.id, SHARDS) == 0]
    assert ([events[0]], mine) == unkept.of(events, records)
    assert (False, "WRONGTYPE" in unkept.reason) == (unkept.is_passing, True)
    assert "failed" in str(unkept.unavailable())
    await writer.close()
    assert 0 not in {claim.lane.shard for claim in claimed}


async def test_with_a_server_that_is_away_nobody_knows():
    writer = LogWriter(Lanes(Redis.from_url("unix:///nowhere/valkey.sock")), SHARDS, None)
    events = [event(1)]
    unkept = await writer.write(events, [])
    assert (events, []) == unkept.of(events, [])
    assert unkept.is_passing
    assert "not reachable" in str(unkept.unavailable())


async def test_a_server_that_is_silent_is_given_up_and_its_connection_is_not_used_again(redis, valkey):
    client = Redis.from_url(valkey)
    writer = LogWriter(Lanes(client), SHARDS, None)
    await redis.execute_command("CLIENT", "PAUSE", "400", "WRITE")
    unkept = await writer.write([event(1)], [], 0.1)
    assert (True, "TimeoutError") == (unkept.is_passing, unkept.reason)
    await asyncio.sleep(0.5)
    assert await client.ping()
    await client.aclose()


@pytest.mark.parametrize(
    ("error", "is_passing"),
    [
        (UnavailableError("the event log is full"), True),
        (ConnectionRefusedError(), True),
        (AuthenticationError("WRONGPASS"), True),
        (ReadOnlyError("You can't write against a read only replica."), True),
        (OutOfMemoryError("command not allowed"), True),
        (ResponseError("MISCONF Errors writing to the AOF file"), True),
        (ResponseError("WRONGTYPE Operation against a key"), False),
        (ResponseError("user_script:1: a bug"), False),
        (ValueError("a bug"), False),
    ],
)
def test_what_an_operator_can_end_passes(error, is_passing):
    assert is_passing is Unkept(error, None, SHARDS).is_passing


async def test_a_bug_is_logged_and_keeps_nothing(lanes, capsys):
    class Broken(Lanes):
        async def append_all(self, work, percent=80):
            raise ZeroDivisionError

    unkept = await LogWriter(Broken(lanes.redis), SHARDS, None).write([event(1)], [])
    assert not unkept.is_passing
