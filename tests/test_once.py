"""once.py: a piece of work is done once, whoever says it how often, and all of it or nothing."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ResponseError

from eventrouter import once
from eventrouter import steps as steps_module
from eventrouter.errors import UnavailableError
from eventrouter.lane import Lane
from eventrouter.lanes import Lanes
from eventrouter.once import Item, Piece, digest_of, do_once
from lane_kit import CRM, counts, take, texts


def piece(name: str, *, lane: str = "crm", **more: int) -> Piece:
    return Piece(digest_of(name), [Item(lane, "k", 1, name.encode(), f"to:{lane}")], more)


async def test_work_is_appended_counted_and_its_lane_claimed(lanes, redis):
    claims, done = await do_once(lanes, 0, [piece("a", replayed=1), piece("b"), piece("c", lane="mail")])
    assert [True, True, True] == done
    assert {"crm", "mail"} == {claim.lane.name for claim in claims}
    assert {"to:crm": 2, "to:mail": 1, "replayed": 1} == await counts(redis)
    [claim] = [claim for claim in claims if claim.lane == CRM]
    turn = await take(lanes, claim)
    assert ["a", "b"] == texts((await turn.read()).items)
    assert b"2" == await redis.hget(f"{CRM.key}:turn", "waiting")
    assert b"2" == await redis.hget(f"{CRM.key}:turn", "bytes")


async def test_what_was_done_is_not_done_again(lanes, redis):
    await do_once(lanes, 0, [piece("a", replayed=1)])
    claims, done = await do_once(lanes, 0, [piece("a", replayed=1), piece("b", replayed=1)])
    assert ([], [False, True]) == (claims, done)
    assert {"to:crm": 2, "replayed": 2} == await counts(redis)
    assert 2 == await redis.xlen(CRM.key)


async def test_of_two_who_say_it_at_once_one_does_it(lanes, redis):
    found = await asyncio.gather(*(do_once(lanes, 0, [piece("a")]) for _ in range(5)))
    assert [True] == [flag for _, [flag] in found if flag]
    assert 1 == await redis.xlen(CRM.key)


async def test_counters_alone_are_work_too(lanes, redis):
    one = Piece(digest_of("a"), [], {"discarded": 1})
    assert ([], [True]) == await do_once(lanes, 1, [one])
    assert ([], [False]) == await do_once(lanes, 1, [one])
    assert {"discarded": 1} == await counts(redis, 1)


async def test_a_lane_of_which_nothing_was_done_is_left_alone(lanes, redis):
    await do_once(lanes, 0, [piece("a")])
    await redis.delete(f"{CRM.key}:turn", f"er:{{{CRM.shard}}}:leases")
    claims, _ = await do_once(lanes, 0, [piece("a"), piece("c", lane="mail")])
    assert [Lane(0, "mail")] == [claim.lane for claim in claims]


async def test_what_events_are_remembered_is_not_touched(lanes, redis):
    await do_once(lanes, 0, [piece("a")])
    assert 0 == await redis.exists("er:{0}:seen")


async def test_only_so_much_is_remembered(lanes, redis, monkeypatch):
    monkeypatch.setattr(once, "REMEMBERED", 8)
    for number in range(40):
        await do_once(lanes, 0, [piece(str(number))])
    starts = await redis.lrange("er:{0}:seen_again", 0, -1)
    assert 10 >= sum([await redis.scard(f"er:{{0}}:seen_again:{start.decode()}") for start in starts])
    assert [False] == (await do_once(lanes, 0, [piece("39")]))[1]


async def test_a_full_server_refuses_it_and_nothing_is_done(lanes, redis):
    used = (await redis.info("memory"))["used_memory"]
    await redis.config_set("maxmemory", used)
    try:
        with pytest.raises(UnavailableError, match="Redis is full"):
            await do_once(lanes, 0, [piece("a")])
    finally:
        await redis.config_set("maxmemory", 256 * 1024 * 1024)
    assert [True] == (await do_once(lanes, 0, [piece("a")]))[1]


async def test_what_redis_refuses_else_is_told_as_it_is(lanes, redis):
    await redis.set(CRM.key, "not a stream")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await do_once(lanes, 0, [piece("a")])


def test_a_digest_follows_from_all_words_and_where_they_end():
    assert digest_of("a", "b") == digest_of("a", "b")
    assert 4 == len({digest_of("a", "b"), digest_of("ab"), digest_of("a", "", "b"), digest_of("b", "a")})
    assert 16 == len(digest_of())


async def test_what_too_few_replicas_have_is_told_and_is_not_done_again(redis, lanes, monkeypatch):
    monkeypatch.setattr(steps_module, "WAIT_SECONDS", 0.01)
    with pytest.raises(UnavailableError, match="fewer than 1 replicas"):
        await do_once(Lanes(redis, replicas=1), 0, [piece("a")])
    assert [False] == (await do_once(lanes, 0, [piece("a")]))[1]
    assert 1 == await redis.xlen(CRM.key)


async def test_what_was_done_a_moment_ago_waits_for_replicas_too(redis, lanes, monkeypatch):
    await do_once(lanes, 0, [piece("a")])
    before = (await redis.info("replication"))["master_repl_offset"]
    await do_once(lanes, 0, [piece("a")])
    assert before < (await redis.info("replication"))["master_repl_offset"]
