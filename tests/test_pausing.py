"""pausing.py: nothing is sent while a destination is paused, and what waits then goes in order."""

from __future__ import annotations

import asyncio

import pytest

from deliver_kit import Post, making
from eventrouter import deliver, pausing, steps
from eventrouter.destination import RateLimit
from eventrouter.errors import Retry, UnavailableError
from eventrouter.health import Health
from eventrouter.lane import Lane
from eventrouter.lanes import Lanes
from eventrouter.pausing import pause, resume
from lane_kit import counts, leftovers


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(deliver, "LINGER_SECONDS", 0.03)
    monkeypatch.setattr(pausing, "FRESH_SECONDS", 0.0)


@pytest.fixture
async def make(redis):
    async with making(redis) as one:
        yield one


def learn(post: Post) -> None:
    """A second has gone by: a worker asks again how the destination is."""
    post.health._fresh_until = 0.0


async def test_a_paused_destination_gets_nothing_and_what_comes_waits(make, redis):
    post = make()
    await pause(post.lanes, "crm", "they move house")
    await post.put("a", "b")
    claim = await post.turn()
    assert claim is not None and claim.delay > 1
    assert ([], {"to:crm": 2}) == (post.sink.got, await counts(redis))


async def test_a_pause_is_known_to_lanes_that_were_not_there_yet(make):
    first, second = make(), make(shard=1)
    await pause(first.lanes, "crm")
    await second.put("a")
    await second.turn()
    assert [] == second.sink.got


async def test_what_waited_goes_at_once_and_in_order_after_it(make, redis):
    post = make()
    await pause(post.lanes, "crm")
    await post.put(("a1", "a"), ("b1", "b"), ("a2", "a"))
    post.claims = [claim for claim in [await post.turn()] if claim]
    await post.put(("a3", "a"))
    assert 1 == len(post.claims)
    post.claims.clear()  # it would come in half a minute
    await resume(post.lanes, "crm", 1)
    await post.serve()
    assert ["a1", "b1", "a2", "a3"] == post.sink.got
    assert {} == await leftovers(redis)


async def test_a_turn_under_way_ends_with_what_it_has_begun(make):
    def answer(messages):
        asyncio.get_running_loop().create_task(pause(post.lanes, "crm"))
        learn(post)

    post = make(answer, seconds=0.05)
    await post.put("a", "b", "c")
    claim = await post.turn()
    assert claim is not None
    assert ["a"] == post.sink.got
    assert {"to:crm": 3, "delivered:crm": 1} == await counts(post.redis)


async def test_a_turn_that_saw_the_pause_goes_on_at_once_when_it_ends_after_the_resume(make):
    post = make(seconds=0.2, concurrency=2)

    async def pause_and_resume():
        while not post.sink.got:
            await asyncio.sleep(0.01)
        await pause(post.lanes, "crm")
        learn(post)
        await post.put("b")  # wakes the turn, which asks the gate
        while post.health.state != "paused":
            await asyncio.sleep(0.01)
        await resume(post.lanes, "crm", 1)

    await post.put("a")
    operator = asyncio.create_task(pause_and_resume())
    claim = await post.turn()
    await operator
    assert (["a"], 0.0) == (post.sink.got, claim and claim.delay)
    post.claims.append(claim)
    await post.serve()
    assert ["a", "b"] == post.sink.got
    assert {} == await leftovers(post.redis)


async def test_an_attempt_that_waits_for_its_rate_is_not_made(make):
    post = make(rate=RateLimit(1, per_seconds=0.3), concurrency=3)
    await post.put("a", "b", "c")
    turn = asyncio.create_task(post.turn())
    while "delivered:crm" not in await counts(post.redis):
        await asyncio.sleep(0.01)
    await pause(post.lanes, "crm")
    learn(post)
    assert await turn is not None
    assert 1 == len(post.sink.got)


async def test_parked_deliveries_wait_too_and_come_first_after_it(make):
    failures = [Retry("later"), None, None]

    def answer(messages):
        if (failure := failures.pop(0)) is not None:
            return {messages[0].id: failure}
        return None

    post = make(answer, initial=5.0, max_interval=5.0)
    await post.put(("a1", "a"))
    await post.turn()
    await pause(post.lanes, "crm")
    learn(post)
    await post.put(("a2", "a"))
    while post.claims:
        await post.turn()
    await resume(post.lanes, "crm", 1)
    learn(post)
    await post.serve(lambda: len(post.sink.got) == 3)
    assert ["a1", "a1", "a2"] == post.sink.got


async def test_what_is_too_old_is_given_up_during_a_pause_as_ever(make):
    post = make(max_age=60.0)
    await pause(post.lanes, "crm", "they move house")
    await post.put("old", age=61.0)
    await post.put("new")
    await post.health.is_paused()
    await post.turn()
    [letter] = await post.letters()
    assert ("old", "max_age") == (letter.message_id, letter.class_)
    assert letter.reason.endswith("paused: they move house")
    assert [] == post.sink.got


async def test_other_destinations_are_not_touched(make, lanes):
    await pause(lanes, "crm")
    other = Health(lanes, "mail", initial=1.0, max_interval=1.0)
    assert not await other.is_paused()


async def test_a_long_reason_is_cut(lanes, redis):
    await pause(lanes, "crm", "x" * 1000)
    assert 200 == len(await redis.hget("er:{dest:crm}:health", "pause_reason"))


async def test_resuming_what_is_not_paused_changes_nothing(lanes, redis):
    await resume(lanes, "crm", 2)
    assert [] == await redis.keys("er:{0}:*") == await redis.keys(Lane(1, "crm").key)


async def test_what_too_few_replicas_know_is_told_since_a_failover_undoes_it(redis, monkeypatch):
    monkeypatch.setattr(steps, "WAIT_SECONDS", 0.01)
    with pytest.raises(UnavailableError, match="fewer than 1 replicas"):
        await pause(Lanes(redis, replicas=1), "crm")
    assert await redis.hexists("er:{dest:crm}:health", "paused")
