"""A turn at a destination, on a real server: what is tried when, what waits, and who goes on."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import time

import pytest

from deliver_kit import delivery, making
from eventrouter import attempts, deliver, health, poison, settlement, target
from eventrouter.counters import by_destination, read_snapshot
from eventrouter.delivery import encode
from eventrouter.destination import RateLimit
from eventrouter.errors import Reject, Retry
from eventrouter.events import lane_key
from eventrouter.lane import LEASE_MS, Append, Claim, Lane, Park
from eventrouter.records import unpack
from lane_kit import CRM, counts, expire_lease, leftovers, make_due

LINGER = 0.03


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(deliver, "LINGER_SECONDS", LINGER)
    monkeypatch.setattr(health, "FIRST_PROBE_SECONDS", 0.05)
    monkeypatch.setattr(health, "HOLD_SECONDS", 0.05)


@pytest.fixture
async def make(redis):
    """Makes a destination with its lane."""
    async with making(redis) as one:
        yield one


def refuse(*ids: str, error=None):
    """Refuses these messages, takes the others."""
    why = error or Reject("bad", status=400)
    return lambda messages: {message.id: why for message in messages if message.message_id in ids}


def fail_first(times: int, error: Exception):
    """Raises `error` at the first attempts."""
    left = [times]

    def answer(messages):
        left[0] -= 1
        if left[0] >= 0:
            raise error
        return

    return answer


# in order, together, at once


async def test_deliveries_go_out_in_order_in_batches_and_are_counted(make, redis):
    post = make(batch_size=3)
    await post.put(*"abcdefg")
    await post.run()
    assert ["abc", "def", "g"] == ["".join(batch) for batch in post.sink.batches]
    assert {"to:crm": 7, "delivered:crm": 7} == await counts(redis)
    assert {} == await leftovers(redis)


async def test_order_keys_run_side_by_side_and_one_key_does_not(make):
    post = make(seconds=0.05, concurrency=4)
    await post.put(("a1", "a"), ("a2", "a"), ("b1", "b"), ("c1", "c"))
    await post.run()
    assert ["a1", "b1", "c1", "a2"] == post.sink.got
    assert 3 == post.sink.most_at_once


async def test_no_more_attempts_run_at_once_than_allowed(make):
    post = make(seconds=0.01, concurrency=3)
    await post.put(*"abcdefghij")
    await post.run()
    assert 3 == post.sink.most_at_once


async def test_a_turn_at_an_empty_lane_lingers_and_serves_what_comes(make):
    post = make()
    await post.put("a")
    turn = asyncio.create_task(post.turn())
    await asyncio.sleep(LINGER / 2)
    await post.put("b")
    assert post.claims == []  # the lane is still served
    assert await turn is None
    assert ["a", "b"] == post.sink.got


async def test_a_lingering_turn_answers_within_milliseconds(make, monkeypatch):
    monkeypatch.setattr(deliver, "LINGER_SECONDS", 1.0)
    post = make()
    await post.put("a")
    turn = asyncio.create_task(post.turn())
    await asyncio.sleep(0.1)
    began = time.monotonic()
    await post.put("b")
    while len(post.sink.got) < 2:
        await asyncio.sleep(0.001)
    assert time.monotonic() - began < 0.1
    await turn


async def test_new_deliveries_join_while_an_attempt_is_under_way(make):
    post = make(seconds=0.1, concurrency=2)
    await post.put("a")
    turn = asyncio.create_task(post.turn())
    await asyncio.sleep(0.03)
    await post.put("b")
    await turn
    assert (["a", "b"], 2) == (post.sink.got, post.sink.most_at_once)


async def test_an_incomplete_batch_waits_for_more_and_goes_when_it_is_old_enough(make):
    post = make(batch_size=3, batch_wait=0.2)
    await post.put("a", "b")
    claim = await post.turn()
    assert [] == post.sink.got
    assert 0 < claim.delay <= 0.2
    await post.put("c")
    post.claims.append(claim)
    await post.turn()
    assert [["a", "b", "c"]] == post.sink.batches
    await post.put("d")
    began = time.monotonic()
    await post.run()
    assert ["d"] == post.sink.batches[-1]
    assert 0.1 < time.monotonic() - began < 0.5


async def test_an_incomplete_batch_from_before_the_clock_was_set_back_goes_at_once(make, redis):
    post = make(batch_size=3, batch_wait=0.2)
    later = f"{int(time.time() * 1000) + 3_600_000}-0"  # the ids of a stream never go back
    await redis.xadd(CRM.key, {"k": "", "n": 1, "d": ""}, id=later)
    await redis.xdel(CRM.key, later)
    await post.put("a", "b")
    await post.run()
    assert [["a", "b"]] == post.sink.batches


async def test_a_long_backlog_is_served_without_being_held_in_memory(make):
    post = make(batch_size=10, concurrency=2)
    await post.put(*(str(number) for number in range(1000)))
    began = await post.lanes.begin(post.lane, post.claims.pop().token)
    turn = deliver.DeliveryTurn(began, post.target, post.stopping)
    most = 0

    def answer(messages):
        nonlocal most
        most = max(most, len(turn._hands.pending) + len(messages))

    post.sink.answer = answer
    await turn.run()
    assert [str(number) for number in range(1000)] == sorted(post.sink.got, key=int)
    assert most <= post.target.policy.read_units < 1000


async def test_every_attempt_is_told_to_the_hook(make):
    post = make(refuse("b"), batch_size=2)
    await post.put("a", "b")
    await post.run()
    [told] = post.finished
    assert 0 <= told.pop("seconds") < 1
    assert {
        "destination": "crm",
        "shard": 0,
        "delivered": 1,
        "retried": 0,
        "dead": 1,
        "reason": "bad",
    } == told


async def test_what_a_turn_has_in_hand_is_bounded_in_bytes(make):
    post = make(read_bytes=100_000, concurrency=4)
    await post.put(*(str(number) for number in range(60)), payload="x" * 10_000)
    turn = deliver.DeliveryTurn(await post.begin(), post.target, post.stopping)
    most = 0

    def answer(messages):
        nonlocal most
        in_hand = [*turn._hands.pending, *(hand for batch in turn._hands.tasks.values() for hand in batch)]
        most = max(most, sum(len(hand.item.data) for hand in in_hand))

    post.sink.answer = answer
    await turn.run()
    assert 60 == len(set(post.sink.got)) == len(post.sink.got)
    assert 40_000 < most < 120_000


async def test_an_incomplete_batch_goes_when_it_is_old_enough_although_another_attempt_is_slow(make, monkeypatch):
    monkeypatch.setattr(deliver, "LINGER_SECONDS", 1.0)
    post = make(batch_size=2, batch_wait=0.2, concurrency=2, seconds=0.8)
    await post.put("a", "b")
    began = time.monotonic()
    turn = asyncio.create_task(post.turn())
    await asyncio.sleep(0.05)
    await post.put("c")
    while len(post.sink.batches) < 2:
        await asyncio.sleep(0.01)
    assert 0.2 <= time.monotonic() - began < 0.6
    assert [["a", "b"], ["c"]] == post.sink.batches
    await turn


async def test_a_batch_that_is_old_enough_but_has_to_wait_for_its_key_costs_no_work(make, monkeypatch):
    monkeypatch.setattr(deliver, "LINGER_SECONDS", 1.0)
    post = make(batch_size=2, batch_wait=0.05, concurrency=2, seconds=0.5)
    await post.put(("a1", "a"), ("b1", "b"))
    turn = asyncio.create_task(post.turn())
    await asyncio.sleep(0.05)
    await post.put(("a2", "a"))
    loops = 0
    wait = asyncio.wait

    async def counting(*args, **options):
        nonlocal loops
        loops += 1
        return await wait(*args, **options)

    monkeypatch.setattr(asyncio, "wait", counting)
    await turn
    assert [["a1", "b1"], ["a2"]] == post.sink.batches
    assert loops < 10


async def test_a_parked_key_with_many_items_is_not_read_anew_for_each_of_them(make, redis):
    post = make(fail_first(1, Retry("later")))
    await post.put(("a", "k"), *((str(number), "k") for number in range(500)))
    began = await post.begin()
    read, brought = began.read, []

    async def counting(*args, **options):
        batch = await read(*args, **options)
        brought.extend(item.id for item in batch.items)
        return batch

    began.read = counting
    assert await deliver.DeliveryTurn(began, post.target, post.stopping).run() is None
    await post.run()
    assert ["a", "a", *(str(number) for number in range(500))] == post.sink.got
    assert len(brought) < 1100
    assert {} == await leftovers(redis)


async def test_what_the_wait_for_new_items_meets_ends_the_turn_and_is_not_forgotten(make, caplog):
    post = make(seconds=0.1, concurrency=2)
    await post.put("a")
    began = await post.begin()

    async def away(after, seconds):
        raise ConnectionError("the server is away")

    began.wait = away
    with pytest.raises(ConnectionError):
        await deliver.DeliveryTurn(began, post.target, post.stopping).run()
    del began
    gc.collect()
    assert [] == [record for record in caplog.records if "never retrieved" in record.getMessage()]


# a rate


async def test_a_rate_holds_while_a_batch_is_split(make):
    def answer(messages):
        if len(messages) > 1:
            raise Reject("one of them is bad", status=400)

    post = make(answer, batch_size=8, rate=RateLimit(8, per_seconds=0.2))
    await post.put(*"abcdefgh")
    began = time.monotonic()
    await post.run()
    sent = sum(len(batch) for batch in post.sink.batches)
    assert 32 == sent  # 8, 4, 2, 1, 1, …: each call costs what it sends
    assert time.monotonic() - began >= (sent - 8) / 8 * 0.2


async def test_what_waits_for_its_rate_is_not_sent_any_more_when_the_destination_asks_for_a_pause(make, redis):
    def answer(messages):
        raise Retry("HTTP 429", status=429, after=60, everyone=True)

    post = make(answer, concurrency=4, seconds=0.1, rate=RateLimit(1, per_seconds=0.3))
    await post.put(*"abcdef")
    claim = await post.turn()
    assert (["a"], 59 < claim.delay <= 60) == (post.sink.got, True)
    assert {"to:crm": 6} == await counts(redis)


@pytest.mark.parametrize("pin", [False, True])
async def test_a_turn_that_would_wait_long_for_its_rate_ends_and_comes_back_in_time(make, redis, pin):
    post = make(rate=RateLimit(2, per_seconds=60), batch_size=2, concurrency=4, pin=pin)
    await post.put(*"abcdef")
    claim = await post.turn()
    assert ([["a", "b"]], True) == (post.sink.batches, 30 < claim.delay < 61)
    assert [] == [told for told in post.finished if not told["delivered"]]
    assert {"to:crm": 6, "delivered:crm": 2} == await counts(redis)
    await redis.delete(*await redis.keys("er:{dest:crm}:rate:*"))
    post.claims.append(Claim(claim.lane, claim.token))
    await post.turn()
    assert ["a", "b", "c", "d"] == post.sink.got


async def test_a_probe_that_waits_for_its_rate_leaves_it_to_another_lane(make, redis):
    post = make(rate=RateLimit(1, per_seconds=60))
    await post.put("a", "b")
    claim = await post.turn()
    await post.health.failed("away", 0.0)
    post.claims.append(Claim(claim.lane, claim.token))
    while not await redis.hexists("er:{dest:crm}:health", "until"):
        await asyncio.sleep(0.001)
    claim = await post.turn()
    assert (["a"], None) == (post.sink.got, await redis.hget("er:{dest:crm}:health", "probing"))


async def test_a_refused_batch_whose_search_the_rate_does_not_allow_is_searched_delivery_by_delivery(
    make, redis, monkeypatch
):
    monkeypatch.setattr(attempts, "PATIENCE_SECONDS", 0.0)  # and a second, at least

    def answer(messages):
        if "c" in [message.message_id for message in messages]:
            raise Reject("bad", status=400)

    post = make(answer, rate=RateLimit(8, per_seconds=80), batch_size=8)
    await post.put(*"abcdefgh")
    for _ in range(20):
        claim = await post.turn()
        await redis.delete(*await redis.keys("er:{dest:crm}:rate:*"))
        if claim is None:
            break
        post.claims.append(Claim(claim.lane, claim.token))
    found = await counts(redis)
    assert (7, 1) == (found["delivered:crm"], found["dead:crm:permanent"])


async def test_a_part_of_a_refused_batch_that_fails_once_is_repeated_as_it_was_where_it_has_to(make, redis):
    async def stopped(messages):
        if "d" in [message.message_id for message in messages]:
            post.stopping.set()  # before anything is known of the refused batch
            raise Reject("bad", status=400)
        if len(messages) == 4 and post.sink.batches.count(post.sink.batches[-1]) == 1:
            raise Retry("the connection broke")  # it may have been taken

    post = make(batch_size=8, pin=True, initial=0.001, max_interval=0.001)
    take = post.sink.deliver

    async def deliver(messages):
        await take(messages)
        await stopped(messages)

    post.sink.deliver = deliver
    await post.put(*"abcdefgh")
    for _ in range(60):
        post.stopping.clear()
        await post.serve(lambda: True, 20)
        if not (await post.lanes.look(0, [], ["crm"]))[1][0]:
            break
    found = await counts(redis)
    assert (7, 1) == (found["delivered:crm"], found["dead:crm:permanent"])
    taken = [tuple(batch) for batch in post.sink.batches if "d" not in batch]
    assert {one: {part for part in taken if one in part} for one in "efgh"} == {
        one: {("e", "f", "g", "h")} for one in "efgh"
    }


async def test_all_workers_share_a_rate(make):
    posts = [make(shard=shard, concurrency=4, rate=RateLimit(10, per_seconds=0.5)) for shard in range(3)]
    for post in posts:
        await post.put(*(f"{post.lane.shard}-{number}" for number in range(10)))
    began = time.monotonic()
    await asyncio.gather(*(post.run() for post in posts))
    assert time.monotonic() - began >= (30 - 10) / 10 * 0.5
    assert 30 == sum(len(post.sink.got) for post in posts)


async def test_all_workers_share_the_concurrency_of_a_lane(make):
    posts = [make(concurrency=2, seconds=0.005) for _ in range(3)]
    for post in posts:
        shared = dataclasses.replace(post.target.attempts, destination=posts[0].sink)
        post.target = dataclasses.replace(post.target, attempts=shared)
    names = [str(number) for number in range(20)]
    await posts[0].put(*names)
    for post in posts[1:]:
        post.claims += posts[0].claims  # copies of the job
    assert [None] * 3 == await asyncio.gather(*(post.turn() for post in posts))
    assert (sorted(names), 2) == (sorted(posts[0].sink.got), posts[0].sink.most_at_once)


async def test_a_stop_does_not_wait_for_the_rate(make, redis):
    post = make(rate=RateLimit(1, per_seconds=0.9), concurrency=4)
    await post.put(*"abcdef")
    turn = asyncio.create_task(post.turn())
    while not post.sink.got:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    post.stopping.set()
    began = time.monotonic()
    claim = await turn
    assert time.monotonic() - began < 1
    assert (["a"], 0) == (post.sink.got, claim.delay)
    assert {"to:crm": 6, "delivered:crm": 1} == await counts(redis)


# failures


async def test_a_failed_delivery_holds_up_its_order_key_and_no_other(make, redis):
    left = [2]

    def answer(messages):
        if messages[0].message_id == "a1" and left[0]:
            left[0] -= 1
            raise Retry("later")

    post = make(answer, initial=0.05, max_interval=0.05)
    await post.put(("a1", "a"), ("b1", "b"), ("a2", "a"), ("c1", "c"), ("b2", "b"))
    await post.run()
    assert ["a1", "b1", "c1", "b2", "a1", "a1", "a2"] == post.sink.got
    assert [1, 2, 3] == [message.attempt for message in post.sink.messages if message.message_id == "a1"]
    assert {} == await leftovers(redis)


async def test_of_one_key_nothing_is_taken_before_what_has_to_be_sent_again(make):
    taken: list[str] = []

    def answer(messages):
        later = messages[:1] if not taken else []
        taken.extend(message.message_id for message in messages[len(later) :])
        return {message.id: Retry("later") for message in later}

    post = make(answer, batch_size=3, apart=True)
    await post.put(("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a"))
    await post.run()
    assert (["a1", "b1"], ["b1", "a1", "a2", "a3"]) == (post.sink.batches[0], taken)


async def test_what_comes_for_a_parked_key_waits_behind_it(make, redis):
    post = make(fail_first(1, Retry("later")), initial=60, max_interval=60)
    await post.put(("a1", "a"))
    await post.turn()
    await post.put(("a2", "a"), ("b1", "b"))
    await post.turn()
    assert ["a1", "b1"] == post.sink.got
    await make_due(redis, post.lane, lane_key("a"))
    await post.run()
    assert ["a1", "b1", "a1", "a2"] == post.sink.got


async def test_retry_after_wins_over_the_backoff_of_a_parked_key(make, redis):
    post = make(fail_first(1, Retry("later", after=30)), initial=0.001)
    await post.put("a")
    await post.turn()
    [(_, due)] = await redis.zrange(f"{post.lane.key}:parked", 0, -1, withscores=True)
    assert 25 < due / 1000 - time.time() <= 30.5


async def test_a_delivery_that_keeps_failing_while_others_succeed_is_dead_after_its_attempts(make, redis):
    def answer(messages):
        if messages[0].message_id == "bad":
            raise Retry("HTTP 500", status=500, response="oops")

    post = make(answer, max_attempts=3, initial=0.01, max_interval=0.01)
    await post.put("bad")
    good = 0
    while not (letters := await post.letters()):
        good += 1
        await post.put(f"good{good}")
        await post.serve(lambda: f"good{good}" in post.sink.got)  # noqa: B023
    [letter] = letters
    assert ("bad", "attempts", 500, "oops", "HTTP 500") == (
        letter.message_id,
        letter.class_,
        letter.status,
        letter.response,
        letter.reason,
    )
    assert 3 <= post.sink.got.count("bad")
    assert [("web", "bad", "crm", "HTTP 500")] == [
        (one.source, one.message_id, one.destination, one.reason) for one in post.dropped
    ]


async def test_a_refused_delivery_is_dead_at_once_and_its_neighbours_are_not(make, redis):
    post = make(refuse("b", "d"), batch_size=5)
    await post.put(*"abcde")
    await post.run()
    assert {"to:crm": 5, "delivered:crm": 3, "dead:crm:permanent": 2, "to:warehouse": 2} == await counts(redis)
    assert ["b", "d"] == [letter.message_id for letter in await post.letters()]
    assert [["a", "b", "c", "d", "e"]] == post.sink.batches


async def test_a_batch_refused_as_a_whole_is_split_until_the_one_at_fault_is_alone(make, redis):
    def answer(messages):
        if any(message.message_id == "f" for message in messages):
            raise Reject("one of them is bad", status=400)

    post = make(answer, batch_size=8)
    await post.put(*"abcdefgh")
    await post.run()
    assert ["f"] == [letter.message_id for letter in await post.letters()]
    assert 7 == (await counts(redis))["delivered:crm"]
    assert 7 == len(post.sink.batches)  # 8, 4, 4, 2, 1, 1, 2: no more than log2


async def test_while_a_batch_is_split_nothing_of_a_key_overtakes_its_sibling(make):
    def answer(messages):
        ids = [message.message_id for message in messages]
        if len(ids) > 1:
            raise Reject("too many", status=400)
        if ids == ["a1"] and post.sink.got.count("a1") == 4:
            raise Retry("later")

    post = make(answer, batch_size=4)
    await post.put(("a1", "a"), ("b1", "b"), ("a2", "a"), ("c1", "c"))
    await post.run()
    alone = [batch[0] for batch in post.sink.batches if len(batch) == 1]
    assert alone.index("a2") > max(n for n, one in enumerate(alone) if one == "a1")


async def test_a_destination_that_is_away_is_left_alone_and_nothing_is_lost(make, redis):
    post = make(fail_first(4, ConnectionRefusedError("nobody")), concurrency=3, initial=0.05, max_interval=0.05)
    await post.put(*(str(number) for number in range(20)))
    claim = await post.turn()
    assert 3 == len(post.sink.batches)  # what was under way; then it stops
    assert 0 < claim.delay <= 0.1
    assert "backoff" == post.health.state
    post.claims.append(claim)
    await post.run()
    assert 20 == (await counts(redis))["delivered:crm"]
    assert "" == post.health.state


async def test_one_probe_alone_is_sent_to_a_destination_that_may_be_back(make):
    post = make(fail_first(2, ConnectionResetError()), concurrency=4, initial=0.05, max_interval=0.05)
    await post.put("a", "b")
    await post.run()
    assert [["a"], ["b"], ["a"]] == post.sink.batches[:3]
    other = make(concurrency=4, seconds=0.1)
    await other.health.failed("away", 0.0)
    await asyncio.sleep(0.002)
    await other.put(*"cdef")
    began = asyncio.create_task(other.turn())
    await asyncio.sleep(0.05)
    assert [["c"]] == other.sink.batches
    await began
    assert 5 > len(other.sink.batches) > 1


async def test_while_somebody_probes_the_other_lanes_wait_and_come_back_soon(make):
    first = make(shard=0, seconds=0.2)
    second = make(shard=1)
    await first.health.failed("away", 0.0)
    await asyncio.sleep(0.002)
    await first.put("a")
    await second.put("b")
    probe = asyncio.create_task(first.turn())
    await asyncio.sleep(0.05)
    claim = await second.turn()
    assert [] == second.sink.got
    assert 0 < claim.delay <= 0.5
    await probe
    second.claims.append(claim)
    await second.run()
    assert ["b"] == second.sink.got


async def test_a_probe_that_fails_by_itself_makes_room_for_the_next_one(make):
    post = make(refuse("a", error=Retry("later")), initial=0.01, max_interval=0.01)
    await post.health.failed("away", 0.0)
    await asyncio.sleep(0.002)
    await post.put("a", "b")
    await post.serve(lambda: "b" in post.sink.got)


async def probing(post):
    """A turn that probes; its attempt is under way."""
    await post.health.failed("away")
    await post.health.probe_soon()
    turn = asyncio.create_task(post.turn())
    while not post.sink.batches:
        await asyncio.sleep(0.001)
    return turn


async def test_a_probe_is_held_as_long_as_it_takes_and_no_longer_than_a_lease_by_one_that_is_gone(make, monkeypatch):
    for module in ("lease", "lanes", "health"):
        monkeypatch.setattr(f"eventrouter.{module}.LEASE_MS", 300)
    post, other = make(seconds=60.0, timeout=60.0), make(shard=1)
    await post.put("a")
    turn = await probing(post)
    for _ in range(15):
        await asyncio.sleep(0.03)
        assert (await other.health.gate()).wait > 0
    turn.cancel()
    await asyncio.gather(turn, return_exceptions=True)
    await other.put("b")
    began = time.monotonic()
    await other.serve(lambda: other.sink.got == ["b"])
    assert time.monotonic() - began < 5


async def test_a_turn_whose_probe_was_taken_over_sends_nothing_more_and_tells_nothing_of_it(make, redis, monkeypatch):
    key = "er:{dest:crm}:health"
    post = make(batch_size=8, concurrency=1)
    other = make(shard=1)
    await post.put(*"abcd")

    def answer(messages):
        time.sleep(0.1)  # nothing of this process runs
        raise Reject("one of them is bad", status=400)

    post.sink.answer = answer
    real_is_held = post.health.keep

    async def keep(probe):
        await redis.hset(key, "probing", 1)
        assert (await other.health.gate()).probe
        await real_is_held(probe)

    post.health.keep = keep
    monkeypatch.setattr("eventrouter.lease.LEASE_MS", 60)
    claim = await (await probing(post))
    assert ([list("abcd")], True) == (post.sink.batches, claim.delay > 0)
    found = await redis.hgetall(key)
    assert (b"backoff", b"away", True) == (found[b"state"], found[b"reason"], int(found[b"probing"]) > 1)


async def test_a_turn_that_is_broken_off_leaves_its_probe_to_the_next_one_of_its_worker(make):
    post = make(fail_first(1, ValueError("a bug")))
    await post.put("a")
    real = post.lanes.run

    async def away(step, *rest):
        if step == "settle":
            raise ConnectionError("away")
        return await real(step, *rest)

    post.lanes.run = away
    with pytest.raises(ConnectionError):
        await (await probing(post))
    assert not (await make(shard=1).health.gate()).probe
    assert (await post.health.gate()).probe


async def test_a_batch_that_waits_for_more_does_not_keep_the_probe(make):
    post = make(batch_size=2, batch_wait=0.05)
    await post.health.failed("away", 0.0)
    await asyncio.sleep(0.002)
    await post.put("a")
    await post.run(3)
    assert ["a"] == post.sink.got


async def test_one_bad_delivery_is_not_the_destinations_failure_however_often_it_fails(make):
    post = make(refuse("bad", error=Retry("HTTP 500")), initial=0.002, max_interval=0.004)
    await post.put("bad")
    await post.serve(lambda: len(post.sink.got) >= 10)
    assert "" == post.health.state
    await post.put("good")
    await post.serve(lambda: "good" in post.sink.got)


async def test_three_different_ones_are_and_what_is_new_is_the_first_to_probe(make):
    post = make(refuse(*"abc", error=Retry("HTTP 500")), initial=0.02, max_interval=0.04)
    await post.put(*"abc")
    await post.serve(lambda: post.health.state == "backoff")
    await post.put("good")
    await post.serve(lambda: "good" in post.sink.got)


@pytest.fixture
def small(monkeypatch):
    """A turn has little in hand."""
    monkeypatch.setattr(target, "MIN_UNITS", 20)


async def test_many_parked_keys_that_are_due_leave_room_for_what_is_new(make, redis, small):
    """Ten times as many as fit into the room of a turn."""
    bad = [f"bad{number}" for number in range(200)]
    post = make(refuse(*bad, error=Retry("HTTP 500")), concurrency=8, initial=0.01, max_interval=3.0)
    assert post.target.policy.read_units == 20
    for one in bad:
        await post.put(one, f"beside {one}")
    await post.serve(lambda: len({*post.sink.got}) == 400, 60)
    for key in await redis.zrange(f"{CRM.key}:parked", 0, -1):
        await redis.zadd(f"{CRM.key}:parked", {key: 1})
    post.sink.batches.clear()
    await post.put(*(f"new{number}" for number in range(50)))
    await post.health.failed("HTTP 500")
    await post.serve(lambda: sum(one.startswith("new") for one in post.sink.got) == 50)
    assert "new0" == post.sink.got[0]  # whether the destination is back is not seen by what failed before


async def test_a_parked_key_of_which_much_waits_leaves_room_for_others(make, small):
    post = make()
    await post.put(*((f"hot{number}", "hot") for number in range(60)), "other")
    turn = await post.begin()
    items = (await turn.read()).items
    for number in range(60):
        await turn.settle(parks=[Park(lane_key("hot"), 0, [items[number]])])
    await turn.settle(parks=[Park(lane_key("other"), 0, items[60:])])
    post.claims.append(await turn.give_up())
    await post.run()
    assert [f"hot{number}" for number in range(60)] == [one for one in post.sink.got if one != "other"]
    assert post.sink.got.index("other") <= 3


async def test_a_second_different_refusal_that_looks_like_a_wrong_key_puts_the_destination_on_hold(make, redis):
    wrong = [True]

    def answer(messages):
        if wrong[0]:
            raise Reject("HTTP 401", status=401)

    post = make(answer, initial=0.001)
    await post.put("a", "b", "c")
    claim = await post.turn()
    assert ("hold", "HTTP 401") == (post.health.state, post.health.reason)
    assert ["a", "b"] == post.sink.got
    assert claim.delay > 0
    wrong[0] = False
    post.claims.append(claim)
    await post.run()
    assert {"to:crm": 3, "delivered:crm": 3} == await counts(redis)


async def test_a_batch_of_which_every_part_is_refused_with_403_puts_the_destination_on_hold(make, redis):
    def answer(messages):
        raise Reject("HTTP 403", status=403)

    post = make(answer, batch_size=4)
    await post.put(*"abcd")
    await post.turn()
    assert "hold" == post.health.state
    assert {"to:crm": 4} == await counts(redis)


async def test_one_delivery_that_alone_is_refused_with_404_is_dead_and_the_destination_goes_on(make, redis):
    post = make(refuse("b", error=Reject("HTTP 404", status=404)), batch_size=3)
    await post.put(*"abc")
    await post.run()
    assert {"to:crm": 3, "delivered:crm": 2, "dead:crm:permanent": 1, "to:warehouse": 1} == await counts(redis)
    assert "" == post.health.state


async def test_a_single_404_with_no_other_traffic_is_dead_in_the_end(make, redis):
    post = make(refuse("a", error=Reject("HTTP 404", status=404)))
    await post.put("a")
    await post.run()
    assert {"to:crm": 1, "dead:crm:permanent": 1, "to:warehouse": 1} == await counts(redis)


async def test_a_destination_that_refuses_events_for_their_own_sake_is_not_misconfigured(make):
    def answer(messages):
        return {
            messages[0].id: Reject("HTTP 400", status=400),
            messages[1].id: Reject("HTTP 404", status=404),
        }

    post = make(answer, batch_size=2)
    await post.put("a", "b")
    await post.turn()
    assert "" == post.health.state


async def test_of_one_key_a_refusal_on_hold_and_a_retry_stay_in_order(make, redis):
    first = [True]

    def answer(messages):
        if first:
            first.clear()
            return {messages[0].id: Reject("HTTP 401", status=401), messages[1].id: Retry("later")}
        return None

    post = make(answer, batch_size=2)
    await post.health.refused("another message", "HTTP 401")
    await post.put(("a1", "a"), ("a2", "a"))
    await post.run(3)
    assert ["a1", "a2", "a1", "a2"] == post.sink.got
    assert {"to:crm": 2, "delivered:crm": 2} == await counts(redis)


async def test_a_bug_of_the_plugin_is_tried_again_and_then_dead_with_its_traceback(make, redis):
    def answer(messages):
        raise ZeroDivisionError("a bug")

    post = make(answer, max_attempts=3)
    await post.put("a")
    await post.run()
    [letter] = await post.letters()
    assert ("plugin_bug", 3) == (letter.class_, letter.attempts)
    assert "ZeroDivisionError: a bug" == letter.reason
    assert "in answer" in letter.traceback
    assert 3 == len(post.sink.batches)


async def test_a_slow_destination_counts_as_a_retry(make):
    post = make(seconds=5, timeout=0.02, initial=60, max_interval=60)
    await post.put("a")
    await post.turn()
    [told] = post.finished
    assert ("no answer within 0.02 s", 1) == (told["reason"], told["retried"])


async def test_what_is_older_than_its_bound_is_dead_and_what_is_not_goes_on(make, redis):
    post = make(max_age=60)
    await post.put("old", "older", age=61)
    await post.put("new", age=50)
    await post.run()
    assert ["new"] == post.sink.got
    assert {"old", "older"} == {letter.message_id for letter in await post.letters()}
    assert {"max_age"} == {letter.class_ for letter in await post.letters()}
    assert 2 == (await counts(redis))["dead:crm:max_age"]


async def test_without_a_bound_nothing_is_too_old(make):
    post = make(max_age=None)
    await post.put("old", age=10_000_000)
    await post.run()
    assert ["old"] == post.sink.got


async def test_what_waits_for_a_dead_destination_grows_old(make, redis):
    def answer(messages):
        raise ConnectionRefusedError

    post = make(answer, max_age=0.3, initial=0.02)
    await post.put(*"abc")
    await post.run()
    assert 3 == (await counts(redis))["dead:crm:max_age"]
    assert {} == {
        key: value for key, value in (await leftovers(redis)).items() if "warehouse" not in key and "leases" not in key
    }


async def test_what_waits_for_a_destination_that_asks_for_a_long_pause_grows_old_all_the_same(make, redis, monkeypatch):
    monkeypatch.setattr(deliver, "LOOK_SECONDS", 0.05)
    post = make(fail_first(1, Retry("HTTP 429", after=86_400, everyone=True)), max_age=0.3)
    await post.put("a", "b")
    await post.run()
    assert (["a"], 2) == (post.sink.got, (await counts(redis))["dead:crm:max_age"])


async def test_a_parked_delivery_that_is_to_wait_for_long_is_dead_in_time(make, redis, monkeypatch):
    monkeypatch.setattr(settlement, "AGED_SECONDS", 0.05)
    post = make(fail_first(1, Retry("later", after=86_400)), max_age=0.3)
    await post.put("a")
    await post.run()
    assert (["a"], 1) == (post.sink.got, (await counts(redis))["dead:crm:max_age"])


# batches that fail as a whole


@pytest.fixture
def soon(monkeypatch):
    """What fails again and again is suspected of poison soon."""
    monkeypatch.setattr(poison, "SECONDS", 0.02)
    monkeypatch.setattr(poison, "PINNED_SECONDS", 0.1)


def poisoned(*ids: str, error=None):
    """Fails for every batch that holds one of these messages."""

    def answer(messages):
        if any(message.message_id in ids for message in messages):
            raise error or Retry("HTTP 500", status=500, response="cannot")

    return answer


@pytest.mark.parametrize("options", [{}, {"pin": True}, {"concurrency": 4}, {"apart": True}])
async def test_poison_fails_alone_in_the_end_and_its_neighbours_are_delivered(make, redis, soon, options):
    post = make(poisoned("5"), batch_size=8, **options)
    await post.put(*"0123456789")
    await post.serve(lambda: (set("0123456789") - {"5"}) <= set(post.sink.got) and ["5"] in post.sink.batches, 20)
    number = 0
    while not post.dropped:  # its attempts count while others succeed
        number += 1
        await post.put(f"more{number}")
        await post.serve(lambda number=number: f"more{number}" in post.sink.got, 20)
    assert [("5", "attempts", 500, "cannot")] == [
        (letter.message_id, letter.class_, letter.status, letter.response) for letter in post.dropped
    ]
    await post.run()
    assert 9 + number == (await counts(redis))["delivered:crm"]


async def test_poison_that_the_destination_does_not_answer_is_found_too(make, redis, soon):
    post = make(batch_size=4, timeout=0.2)
    take = post.sink.deliver

    async def deliver(messages):
        post.sink.seconds = 30 if "c" in [message.message_id for message in messages] else 0
        return await take(messages)

    post.sink.deliver = deliver
    await post.put(*"abcdefg")
    while (await counts(redis)).get("delivered:crm", 0) < 6:
        await post.serve(lambda: True, 20)
    assert ["c"] in post.sink.batches
    assert [1] == (await post.lanes.look(0, [], ["crm"]))[1]


async def test_while_a_destination_is_away_a_probe_is_a_batch_at_first_and_then_one_delivery(make, redis, soon):
    post = make(poisoned(*"abcdefgh"), batch_size=8, initial=0.01, max_interval=0.02)
    await post.put(*"abcdefgh")
    await post.serve(lambda: len(post.sink.batches) >= 20, 20)
    sizes = [len(batch) for batch in post.sink.batches]
    first = sizes.index(1)
    assert (True, [8] * first, [1] * (len(sizes) - first)) == (first >= poison.TRIES, sizes[:first], sizes[first:])
    assert [] == post.dropped
    post.sink.answer = lambda _: None
    await post.run()
    assert 8 == (await counts(redis))["delivered:crm"]


async def test_when_it_is_back_what_was_suspected_goes_in_growing_parts(make, soon):
    names = [str(number) for number in range(30)]
    post = make(poisoned(*names), batch_size=30, initial=0.01, max_interval=0.02)
    await post.put(*names)
    await post.serve(lambda: [1] == [len(batch) for batch in post.sink.batches][-1:], 20)
    post.sink.batches.clear()
    post.sink.answer = lambda _: None
    await post.run()
    sizes = [len(batch) for batch in post.sink.batches if len(batch) > 1]
    assert [2, 4, 8] == sizes[:3]


async def test_a_batch_that_must_be_repeated_is_repeated_while_its_destination_is_away_and_others_are_the_probes(make):
    down = [True]

    def answer(messages):
        if down:
            raise Retry("HTTP 500")

    post = make(answer, batch_size=3, pin=True, initial=0.01, max_interval=0.02)
    await post.put(*"abcdefghijklmnopqrstuvw")
    await post.serve(lambda: len(post.sink.batches) >= 12, 20)
    down.clear()
    await post.run()
    assert {("a", "b", "c")} == {tuple(batch) for batch in post.sink.batches if set(batch) & set("abc")}
    assert poison.TRIES <= post.sink.batches.count(["a", "b", "c"]) < 8
    assert ["d"] in post.sink.batches


async def test_each_part_of_a_suspected_batch_is_repeated_as_it_was_after_a_crash(make, redis, soon):
    post = make(poisoned("d"), batch_size=6, timeout=60, pin=True)
    await post.put(*"abcdef")
    take, crashes, hangs = post.sink.deliver, [], asyncio.Event()

    async def deliver(messages):
        result = await take(messages)
        if len(messages) < 6 and len(crashes) % 2 == 0:  # taken, but nobody learns of it
            hangs.set()
            await asyncio.sleep(60)
        if len(messages) < 6:
            crashes.append(False)
        return result

    post.sink.deliver = deliver
    repeated = []
    while (await counts(redis)).get("delivered:crm", 0) < 5:
        turn = asyncio.create_task(post.serve(lambda: True, 20))
        hung = asyncio.create_task(hangs.wait())
        await asyncio.wait({turn, hung}, return_when=asyncio.FIRST_COMPLETED)
        hung.cancel()
        if hangs.is_set():
            hangs.clear()
            repeated.append((post.sink.batches[-1], len(post.sink.batches)))
            crashes.append(True)
            turn.cancel()
            await expire_lease(redis, post.lane)
        await asyncio.gather(turn, return_exceptions=True)
    assert repeated
    assert [part for part, _ in repeated] == [post.sink.batches[at] for _, at in repeated]


async def test_a_batch_that_fails_while_others_are_taken_holds_up_no_other_lane(make, redis):
    failing = make(poisoned("a"), batch_size=2, initial=0.2, max_interval=0.2)
    other = make(shard=1)
    await failing.put("a", "b")
    failing.claims.append(await failing.turn())
    await other.health.probe_soon()
    await other.put("x")
    await other.run()
    await failing.health.gate()
    await failing.serve(lambda: len(failing.sink.batches) == 2)
    await other.put("y")
    claim = await other.turn()
    assert (["x", "y"], None, "") == (other.sink.got, claim, other.health.state)


# pinned batches


async def test_a_retry_repeats_the_very_same_batch_where_it_has_to(make):
    post = make(fail_first(1, ConnectionResetError()), batch_size=3, pin=True)
    await post.put("a", "b")
    claim = await post.turn()
    await post.put("c", "d")
    post.claims.append(claim)
    await post.run()
    assert [["a", "b"], ["a", "b"], ["c", "d"]] == post.sink.batches


async def test_a_batch_without_need_for_it_may_grow_before_its_retry(make):
    post = make(fail_first(1, ConnectionResetError()), batch_size=3)
    await post.put("a", "b")
    claim = await post.turn()
    await post.put("c", "d")
    post.claims.append(claim)
    await post.run()
    assert [["a", "b"], ["a", "b", "c"], ["d"]] == post.sink.batches


async def test_a_batch_under_way_when_its_worker_died_is_repeated_as_it_was(make, redis):
    post = make(seconds=30, timeout=60, batch_size=3, pin=True)
    await post.put("a", "b")
    dying = asyncio.create_task(post.turn())
    while not post.sink.batches:
        await asyncio.sleep(0.005)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    post.sink.seconds = 0
    await post.put("c")
    await expire_lease(redis, post.lane)
    await post.run()
    assert [["a", "b"], ["a", "b"], ["c"]] == post.sink.batches
    assert {} == await leftovers(redis)


async def test_the_parts_of_a_refused_batch_are_repeated_as_they_were_after_a_crash_and_while_it_is_down(make, redis):
    down: list[str] = []

    def answer(messages):
        if len(messages) == 4:
            raise Reject("bad", status=400)
        if down:
            raise Retry(down.pop())

    post = make(answer, seconds=0.02, timeout=60, batch_size=4, pin=True)
    await post.put("a", "b", "c", "d", "e")
    dying = asyncio.create_task(post.turn())
    while ["c", "d"] not in post.sink.batches:
        await asyncio.sleep(0.005)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    down.append("HTTP 503")
    await expire_lease(redis, post.lane)
    await post.run()
    # Together, all of it could be taken by now, and a and b twice: under the id of their part, and of the whole.
    assert ["abcd", "ab", "cd", "ab", "ab", "cd", "e"] == ["".join(batch) for batch in post.sink.batches]
    assert {} == await leftovers(redis)


@pytest.mark.parametrize("options", [{"batch_size": 2, "pin": True}, {"batch_size": 3}])
async def test_a_pinned_batch_is_no_batch_for_another_plugin_or_for_smaller_batches(make, redis, options):
    post = make(fail_first(1, ConnectionResetError()), batch_size=3, pin=True)
    await post.put("a", "b", "c")
    claim = await post.turn()
    policy = dataclasses.replace(post.target.policy, **{"pin": False} | options)
    post.target = dataclasses.replace(post.target, policy=policy)
    await post.put("d")
    post.claims.append(claim)
    await post.run()
    expected = [["a", "b"], ["c", "d"]] if options["batch_size"] == 2 else [["a", "b", "c"], ["d"]]
    assert [["a", "b", "c"], *expected] == post.sink.batches
    assert {} == await leftovers(redis)


async def test_a_batch_and_the_same_message_sent_again_beside_it_are_each_pinned(make, redis):
    post = make(seconds=30, timeout=60, batch_size=1, concurrency=2, pin=True)
    await post.put(("a", "live"), ("a", "again"))
    dying = asyncio.create_task(post.turn())
    while len(post.sink.batches) < 2:
        await asyncio.sleep(0.005)
    assert 2 == await redis.hlen(f"{post.lane.key}:pins")
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)


async def test_a_pinned_batch_is_repeated_until_its_youngest_is_too_old(make, redis):
    post = make(fail_first(2, ConnectionResetError()), max_age=0.5, batch_size=2, pin=True)
    await post.put("a", age=0.45)
    await post.put("b")
    claim = await post.turn()
    await asyncio.sleep(0.1)
    post.claims.append(claim)
    await post.run()
    assert [["a", "b"]] * 3 == post.sink.batches
    post = make(fail_first(1, ConnectionResetError()), max_age=0.5, batch_size=2, pin=True)
    await post.put("a", "b", age=0.45)
    claim = await post.turn()
    await asyncio.sleep(0.1)
    post.claims.append(claim)
    await post.run()
    assert [["a", "b"]] == post.sink.batches
    assert 2 == (await counts(redis))["dead:crm:max_age"]


async def test_what_is_parked_goes_by_itself_and_is_repeated_so_where_batches_are_pinned(make, redis):
    fates = [{"a": Retry("later"), "b": Retry("later")}, {"a": Retry("later")}]

    def answer(messages):
        fate = fates.pop(0) if fates else {}
        return {one.id: fate[one.message_id] for one in messages if one.message_id in fate}

    post = make(answer, batch_size=3, pin=True, initial=0.001, max_interval=0.001)
    await post.put("a", "b", "c")
    await post.run()
    first, *others = ["".join(batch) for batch in post.sink.batches]
    assert ("abc", ["a", "a", "b"]) == (first, sorted(others))
    assert {} == await leftovers(redis)


# turns come and go


async def test_a_turn_lets_others_in_after_its_time(make, monkeypatch):
    monkeypatch.setattr(deliver, "TURN_SECONDS", 0.3)
    post = make(seconds=0.1)
    await post.put(*(str(number) for number in range(10)))
    claim = await post.turn()
    assert 0 == claim.delay
    assert 2 <= len(post.sink.got) < 10
    post.claims.append(claim)
    await post.run()
    assert 10 == len(set(post.sink.got)) == len(post.sink.got)


async def test_a_turn_ends_sooner_while_others_wait_for_its_slot(make, monkeypatch):
    monkeypatch.setattr(deliver, "SHARED_SECONDS", 0.15)
    post = make(seconds=0.05)
    await post.put(*(str(number) for number in range(20)))
    others = []
    turn = deliver.DeliveryTurn(await post.begin(), post.target, post.stopping, lambda: bool(others))
    running = asyncio.create_task(turn.run())
    while len(post.sink.got) < 5:
        await asyncio.sleep(0.01)
    others.append("erp")
    claim = await running
    assert 0 == claim.delay
    assert 5 <= len(post.sink.got) <= 7
    post.claims.append(claim)
    await post.run()
    assert 20 == len(set(post.sink.got)) == len(post.sink.got)


async def test_a_search_for_the_event_at_fault_goes_on_to_its_end_while_others_wait_for_the_slot(make, monkeypatch):
    monkeypatch.setattr(deliver, "SHARED_SECONDS", 0.1)

    def answer(messages):
        if any(message.message_id == "h" for message in messages):
            raise Reject("one of them is bad", status=400)

    post = make(answer, seconds=0.05, batch_size=8, concurrency=2)
    await post.put(*"abcdefgh", *(str(number) for number in range(8 * 10)))
    turn = deliver.DeliveryTurn(await post.begin(), post.target, post.stopping, lambda: True)
    assert await turn.run() is not None
    found = await counts(post.redis)
    assert 1 == found["dead:crm:permanent"]
    assert 7 <= found["delivered:crm"] < 80


async def test_a_turn_waits_at_an_empty_lane_only_for_a_moment_while_others_wait_for_its_slot(make, monkeypatch, redis):
    monkeypatch.setattr(deliver, "LINGER_SECONDS", 30.0)
    post = make(fail_first(1, Retry("later", after=60.0)), batch_size=1)
    await post.put("a", "b")
    turn = deliver.DeliveryTurn(await post.begin(), post.target, post.stopping, lambda: True)
    async with asyncio.timeout(10):
        assert await turn.run() is None
    assert ["a", "b"] == post.sink.got
    [claim] = await post.lanes.append(0, [Append("crm", [("k", 1, b"")], "to:crm")])  # nobody has the lane
    assert post.lane == claim.lane


async def test_a_worker_that_stops_ends_the_attempt_in_hand_and_hands_the_lane_over(make):
    post = make(seconds=0.05)
    await post.put("a", "b")
    turn = asyncio.create_task(post.turn())
    while not post.sink.batches:
        await asyncio.sleep(0.001)
    post.stopping.set()
    claim = await turn
    assert ["a"] == post.sink.got
    assert await post.lanes.begin(claim.lane, claim.token) is not None
    assert 1 == (await counts(post.redis))["delivered:crm"]


async def test_an_attempt_may_take_longer_than_a_lease(make, monkeypatch):
    for module in ("eventrouter.lease", "eventrouter.lanes"):
        monkeypatch.setattr(f"{module}.LEASE_MS", 90)
    assert LEASE_MS > 90
    post = make(seconds=0.4)
    await post.put("a")
    turn = asyncio.create_task(post.turn())
    for _ in range(15):
        await asyncio.sleep(0.02)
        assert [] == (await post.lanes.sweep(0))[0]
    await turn
    assert ["a"] == post.sink.got


async def test_a_turn_that_was_taken_over_ends_and_settles_nothing(make, redis):
    post = make(seconds=0.05)
    await post.put("a", "b")
    turn = asyncio.create_task(post.turn())
    await asyncio.sleep(0.02)
    await expire_lease(redis, post.lane)
    await post.enqueue((await post.lanes.sweep(0))[0])
    assert await turn is None
    assert {"to:crm": 2} == await counts(redis)
    await post.run()
    assert ["a", "a", "b"] == post.sink.got
    assert {"to:crm": 2, "delivered:crm": 2} == await counts(redis)


def refuse_batches(messages):
    """A batch is refused as a whole, so that it is split."""
    if len(messages) > 1:
        raise Reject("one of them is bad", status=400)


async def test_a_turn_that_was_taken_over_sends_nothing_more_of_a_batch_that_it_splits(make, redis, monkeypatch):
    monkeypatch.setattr("eventrouter.lease.LEASE_MS", 60)
    post = make(refuse_batches, seconds=0.06, batch_size=8)
    await post.put(*"abcdefgh")
    turn = asyncio.create_task(post.turn())
    await asyncio.sleep(0.02)
    await post.enqueue((await post.lanes.sweep(0, everything=True))[0])
    assert await turn is None
    assert [list("abcdefgh")] == post.sink.batches
    assert {"to:crm": 8} == await counts(redis)


async def freeze(post):
    """Another turn takes over, and nothing of this process runs for longer than a lease."""
    await post.enqueue((await post.lanes.sweep(0, everything=True))[0])
    time.sleep(0.1)


async def test_a_turn_that_was_frozen_asks_whether_the_lane_is_still_its_own_before_it_sends(make, monkeypatch):
    monkeypatch.setattr("eventrouter.lease.LEASE_MS", 60)
    post = make()
    await post.put("a")

    async def throttle(messages):
        await freeze(post)
        return 0.0

    post.target = dataclasses.replace(post.target, throttle=throttle)
    assert await post.turn() is None
    assert [] == post.sink.batches


async def test_a_turn_that_was_frozen_during_an_attempt_tells_nobody_that_the_destination_failed(make, monkeypatch):
    monkeypatch.setattr("eventrouter.lease.LEASE_MS", 60)
    post = make()
    await post.put("a")

    async def deliver(messages):
        await freeze(post)
        raise Retry("no answer within 10 s", everyone=True)

    post.sink.deliver = deliver
    assert await post.turn() is None
    assert "" == (await read_snapshot(post.lanes, 1, ["crm"])).health["crm"].get("state", "")


async def test_a_parked_key_is_tried_by_a_lingering_turn_when_it_is_due(make, monkeypatch):
    monkeypatch.setattr(deliver, "LINGER_SECONDS", 2.0)
    post = make(fail_first(1, Retry("later", after=0.1)))
    await post.put("a")
    began = time.monotonic()
    turn = asyncio.create_task(post.turn())
    while len(post.sink.got) < 2:
        await asyncio.sleep(0.01)
    assert 0.1 <= time.monotonic() - began < 1
    await turn


async def test_what_is_appended_to_an_unserved_lane_of_a_neighbour_version_is_read(make):
    post = make()
    one = delivery("a")
    one.v = 0  # the format before
    await post.enqueue(await post.lanes.append(0, [Append("crm", [(lane_key("a"), 1, encode(one))], "to:crm")]))
    await post.run()
    assert ["a"] == post.sink.got


# what can't be read


async def put_raw(post, *pairs):
    """Appends (order key, data)."""
    items = [(lane_key(key), 1, data) for key, data in pairs]
    await post.enqueue(await post.lanes.append(0, [Append("crm", items, "to:crm")]))


async def set_aside(redis):
    """What was kept of items that nobody can read."""
    rows = await redis.xrange(Lane(0, "warehouse").key)
    return [record.payload for _, fields in rows for record in unpack(fields[b"d"])]


TORN = encode(delivery("torn")).replace(b'"Order Completed"', b"5")


async def test_an_item_that_nobody_can_read_blocks_nothing(make, redis):
    post = make(batch_size=2)
    await put_raw(post, ("a", TORN))
    await post.put("a", "b")
    await put_raw(post, ("b", b"\xff\x00"))
    await post.put("c")
    await post.run()
    assert ["a", "b", "c"] == post.sink.got
    assert [TORN.decode(), "base64:/wA="] == await set_aside(redis)
    assert {"to:crm": 5, "delivered:crm": 3, "dead:crm:unreadable": 2, "to:warehouse": 2} == await counts(redis)
    await redis.delete(*await redis.keys("er:{0}:lane:warehouse*"), "er:{0}:leases")
    assert {} == await leftovers(redis)


async def test_a_parked_item_that_nobody_can_read_makes_way_for_its_key(make, redis):
    post = make()
    await post.put("a")
    await put_raw(post, ("a", TORN))
    await post.put(("a2", "a"), "b")
    turn = await post.begin()
    items = (await turn.read()).items
    await turn.settle(parks=[Park(items[0].key, 1, [item for item in items if item.key == items[0].key])])
    await post.enqueue([await turn.give_up()])
    await post.run()
    assert {"a", "a2", "b"} == set(post.sink.got)
    assert post.sink.got.index("a") < post.sink.got.index("a2")
    assert [TORN.decode()] == await set_aside(redis)


async def test_of_a_pinned_batch_with_an_item_that_nobody_can_read_the_others_are_sent(make, redis):
    post = make(batch_size=3, pin=True)
    await post.put("a")
    await put_raw(post, ("b", TORN))
    await post.put("c")
    turn = await post.begin()
    await turn.pin("batch", (await turn.read()).items)
    await post.enqueue([await turn.give_up()])
    await post.run()
    assert ["a", "c"] == post.sink.got
    assert {} == await redis.hgetall(f"{post.lane.key}:pins")
    assert [TORN.decode()] == await set_aside(redis)


async def test_an_item_for_a_newer_version_waits_behind_what_came_before_it_and_says_so(make, redis):
    post = make(seconds=0.05)
    await post.put("a", "b")
    newer = encode(delivery("n", v=9))
    await put_raw(post, ("n", newer))
    await post.put("c")
    claim = await post.turn()
    assert ["a", "b"] == post.sink.got
    assert (post.lane, 30.0) == (claim.lane, claim.delay)
    row = by_destination(await read_snapshot(post.lanes, 1, ["crm"]), "crm")
    told = "a delivery of format 9: this version reads 0 to 2"
    assert ("failing", told, 2) == (row["state"], row["reason"], row["waiting"])
    post.claims = [claim]
    assert 30.0 == (await post.turn()).delay
    assert ["a", "b"] == post.sink.got


async def test_a_pinned_batch_of_a_newer_version_waits_as_it_is(make, redis):
    post = make(batch_size=2, pin=True)
    await post.put("a")
    await put_raw(post, ("n", encode(delivery("n", v=9))))
    await post.put("c")
    turn = await post.begin()
    await turn.pin("batch", (await turn.read()).items[:2])
    await post.enqueue([await turn.give_up()])
    assert 30.0 == (await post.turn()).delay
    assert [] == post.sink.got
    assert 1 == await redis.hlen(f"{post.lane.key}:pins")


async def test_a_turn_that_waits_for_an_attempt_before_an_item_for_a_newer_version_costs_no_work(make, monkeypatch):
    post = make(seconds=0.3, concurrency=2)
    await post.put("a")
    await put_raw(post, ("n", encode(delivery("n", v=9))))
    waits = []
    wait = asyncio.wait

    async def counted(*args, **options):
        waits.append(1)
        return await wait(*args, **options)

    monkeypatch.setattr(asyncio, "wait", counted)
    await post.turn()
    assert len(waits) < 10
