"""Whole runs at a destination that refuses: who is blamed, what it costs, and that nothing is lost or stuck."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from random import Random

import pytest

from deliver_kit import making
from eventrouter import attempts, deliver, health
from eventrouter.errors import Reject, Retry
from lane_kit import counts, leftovers, make_due

LONG_HOLD = 60.0
"""A run that meets such a hold does not end in time."""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(deliver, "LINGER_SECONDS", 0.03)
    monkeypatch.setattr(health, "FIRST_PROBE_SECONDS", 0.05)
    monkeypatch.setattr(health, "HOLD_SECONDS", 0.1)


@pytest.fixture
async def make(redis):
    """Makes a destination with its lane."""
    async with making(redis) as one:
        yield one


def numbers(count: int, first: int = 0) -> list[str]:
    return [f"{number:04}" for number in range(first, first + count)]


async def test_a_large_batch_of_which_each_is_refused_is_settled_part_by_part(make, redis, monkeypatch):
    monkeypatch.setattr(attempts, "PATIENCE_SECONDS", 0.0)  # one second at least

    def answer(messages):
        raise Reject("HTTP 400", status=400)

    post = make(answer, batch_size=1000, seconds=0.005)
    await post.put(*numbers(300))
    began, dead = time.monotonic(), []
    while (dead or [0])[-1] < 300:
        await post.serve(lambda: True)
        dead.append((await counts(redis)).get("dead:crm:permanent", 0))
        if len(post.finished) == 1:
            assert time.monotonic() - began < 3
            assert 0 < post.finished[0]["dead"] < 300
    assert len(post.finished) > 1
    assert numbers(300) == [letter.message_id for letter in await post.letters()]


@pytest.mark.parametrize("kind", ["as a whole", "one by one"])
@pytest.mark.parametrize("batch", [1, 2, 5, 100])
async def test_a_wrong_key_costs_a_few_requests_burns_nothing_and_all_goes_on_when_it_is_right(
    make, redis, batch, kind
):
    right = [False]

    def answer(messages):
        if right[0]:
            return None
        if kind == "as a whole":
            raise Reject("HTTP 401", status=401)
        return {message.id: Reject("HTTP 401", status=401) for message in messages}

    post = make(answer, batch_size=batch, max_attempts=3)
    await post.put(*numbers(300))
    probes = 0
    for _ in range(8):
        before = len(post.sink.batches)
        post.claims.append(await post.turn())
        assert "hold" == post.health.state
        cost = len(post.sink.batches) - before
        assert cost <= 15
        probes += cost > 0
        await post.health.probe_soon()
        post.claims[0] = post.claims[0]._replace(delay=0.0)
    assert 8 == probes
    assert {"to:crm": 300} == await counts(redis)
    right[0] = True
    await post.run()
    assert {"to:crm": 300, "delivered:crm": 300} == await counts(redis)
    assert "" == post.health.state
    assert {} == await leftovers(redis)


@pytest.mark.parametrize("batch", [1, 10])
async def test_a_key_that_is_revoked_amid_traffic_burns_nothing_not_even_what_was_parked_before(make, redis, batch):
    state = ["well"]
    parked = set(numbers(160)[::8])

    def answer(messages):
        if state[0] == "revoked":
            raise Reject("HTTP 403", status=403)
        if state[0] == "well":
            return {message.id: Retry("HTTP 500", status=500) for message in messages if message.message_id in parked}
        return None

    async def all_due() -> None:
        for key in await redis.zrange(f"{post.lane.key}:parked", 0, -1):
            await make_due(redis, post.lane, key)

    post = make(answer, batch_size=batch, initial=60.0, max_interval=60.0)
    await post.put(*numbers(160))
    await post.serve()
    await post.put(*numbers(40, first=160))  # taken after the others were parked
    await post.serve()
    assert (200, 20) == (len(set(post.sink.got)), await redis.zcard(f"{post.lane.key}:parked"))
    state[0] = "revoked"
    await all_due()
    await post.serve(lambda: post.health.state == "hold")
    await post.put(*numbers(100, first=500))
    for _ in range(5):
        await all_due()
        await post.health.probe_soon()
        await post.serve(lambda: True)
    assert {"to:crm": 300, "delivered:crm": 180} == await counts(redis)
    state[0] = "right again"
    await post.health.probe_soon()
    while (await post.lanes.look(0, [], ["crm"]))[1] != [0]:
        await post.serve(lambda: True)
        await all_due()
    assert {"to:crm": 300, "delivered:crm": 300} == await counts(redis)
    assert "" == post.health.state


@pytest.mark.parametrize("answers", ["one by one", "batches as a whole", "batches one by one"])
@pytest.mark.parametrize("share", [0.02, 0.05, 0.10])
async def test_events_that_are_refused_for_their_own_sake_die_and_the_destination_stays_well(
    make, redis, monkeypatch, share, answers
):
    monkeypatch.setattr(health, "HOLD_SECONDS", LONG_HOLD)
    random = Random(f"{share} {answers}")
    ids = numbers(600)
    culprits = {one: random.choice((404, 410)) for one in ids[:560] if random.random() < share}

    def answer(messages):
        found = {message.id: culprits[message.message_id] for message in messages if message.message_id in culprits}
        refusals = {one: Reject(f"HTTP {status}", status=status) for one, status in found.items()}
        if refusals and answers != "batches one by one":
            raise next(iter(refusals.values()))
        return refusals

    post = make(
        answer,
        batch_size=1 if answers == "one by one" else 20,
        concurrency=8,
        seconds=0.002,
        initial=0.02,
        max_interval=0.1,
    )
    await post.put(*ids)
    total = len(ids)
    while (await post.lanes.look(0, [], ["crm"]))[1] != [0]:
        await post.serve(lambda: True)
        if len(await post.letters()) < len(culprits):  # traffic goes on
            await post.put(f"more {total}")
            total += 1
    found = await counts(redis)
    expected = {"to:crm": total, "delivered:crm": total - len(culprits), "dead:crm:permanent": len(culprits)}
    assert {**expected, "to:warehouse": len(culprits)} == found
    assert sorted(culprits) == sorted(letter.message_id for letter in await post.letters())
    assert "" == post.health.state


async def test_two_at_the_head_that_are_refused_for_their_own_sake_block_nothing(make, redis, monkeypatch):
    monkeypatch.setattr(health, "HOLD_SECONDS", LONG_HOLD)
    culprits = {"0000", "0001", "0050"}

    def answer(messages):
        if not culprits.isdisjoint(message.message_id for message in messages):
            raise Reject("HTTP 404", status=404)

    post = make(answer, batch_size=100)
    await post.put(*numbers(100))
    await post.run()
    assert {"to:crm": 100, "delivered:crm": 97, "dead:crm:permanent": 3, "to:warehouse": 3} == await counts(redis)
    assert culprits == {letter.message_id for letter in await post.letters()}


async def test_a_row_of_refusals_that_looks_like_a_wrong_key_is_found_out_by_the_first_probe(make, redis, monkeypatch):
    monkeypatch.setattr(health, "HOLD_SECONDS", LONG_HOLD)
    culprits = set(numbers(8))

    def answer(messages):
        if messages[0].message_id in culprits:
            raise Reject("HTTP 404", status=404)

    post = make(answer, concurrency=8, seconds=0.005)
    await post.put(*numbers(60))
    await post.run()
    assert {"to:crm": 60, "delivered:crm": 52, "dead:crm:permanent": 8, "to:warehouse": 8} == await counts(redis)


@pytest.mark.parametrize("after", [0, None])
async def test_a_service_that_names_no_wait_is_backed_off_from(make, after):
    def answer(messages):
        raise Retry("HTTP 429", status=429, after=after, everyone=True)

    post = make(answer, initial=0.2, max_interval=10.0)
    await post.put(*numbers(10))
    began = time.monotonic()
    await post.serve(lambda: time.monotonic() - began > 3, seconds=30)
    assert 1 < len(post.sink.batches) < 18  # each wait would be 0.1 s


async def test_more_keys_than_may_be_parked_are_not_parked(make, redis, monkeypatch):
    for module in ("settlement", "deliver"):
        monkeypatch.setattr(f"eventrouter.{module}.MAX_PARKED_KEYS", 10)
    bad = [True]

    def answer(messages):
        if bad[0] and messages[0].message_id < "0100":
            raise Retry("HTTP 500", status=500)

    post = make(answer, concurrency=2, initial=0.05, max_interval=0.1, max_attempts=10_000)
    await post.put(*(one for pair in zip(numbers(100), numbers(100, first=100), strict=True) for one in pair))
    began, found = time.monotonic(), [0]

    async def look():
        while True:
            found.append(await redis.zcard(f"{post.lane.key}:parked"))
            await asyncio.sleep(0.01)

    looking = asyncio.create_task(look())
    await post.serve(lambda: max(found) >= 10 and time.monotonic() - began > 2, seconds=20)
    looking.cancel()
    assert 10 <= max(found) <= 12
    bad[0] = False
    await post.run(20)
    assert {"to:crm": 200, "delivered:crm": 200} == await counts(redis)
    assert 1 == max(Counter(one for one in post.sink.got if one >= "0100").values())
    assert {} == await leftovers(redis)
