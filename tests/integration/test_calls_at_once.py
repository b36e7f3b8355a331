"""`concurrency: N` at a destination with lanes in many shards, served by several workers: N calls at once at most."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import chain
from typing import Any

import pytest
from http_sink import Sink
from redis.asyncio import Redis
from system import System, until

from deliver_kit import Post, making
from eventrouter import deliver, throttle
from eventrouter.calls import Calls
from eventrouter.deliver import DeliveryTurn
from eventrouter.errors import Reject
from eventrouter.health import Gate
from eventrouter.lane import LEASE_MS
from eventrouter.lanes import Lanes
from eventrouter.pausing import pause
from eventrouter.target import Policy
from eventrouter.testing import Answer
from lane_kit import counts

KEY = "er:{dest:crm}:calls"
Make = Callable[..., Post]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver, "LINGER_SECONDS", 0.03)


@pytest.fixture
async def make(redis: Redis) -> AsyncIterator[Make]:
    """Makes a destination with its lane."""
    async with making(redis) as one:
        yield one


@pytest.fixture
async def workers(redis: Redis) -> AsyncIterator[Callable[[int, int], list[Calls]]]:
    """So many workers, with what each of them knows of the places of a destination."""
    made: list[Calls] = []

    def some(number: int, most: int) -> list[Calls]:
        made.extend(Calls(Lanes(redis), "crm", most) for _ in range(number))
        return made[-number:]

    yield some
    for calls in made:
        await calls.close()


def served_by(calls: Sequence[Calls], posts: Sequence[Post]) -> None:
    """The lanes of one destination belong to these workers by turns."""
    for number, post in enumerate(posts):
        attempts = dataclasses.replace(post.target.attempts, destination=posts[0].sink)
        post.target = dataclasses.replace(post.target, attempts=attempts, calls=calls[number % len(calls)])


async def put(posts: Sequence[Post], each: int) -> list[str]:
    """Puts deliveries into every lane: SHARD-NUMBER."""
    names = [[f"{post.lane.shard}-{number}" for number in range(each)] for post in posts]
    for post, some in zip(posts, names, strict=True):
        await post.put(*some)
    return sorted(chain(*names))


@pytest.mark.parametrize(("most", "lanes_of_each"), [(1, 1), (1, 4), (3, 2)])
async def test_no_more_calls_run_at_once_than_are_wanted_in_all_shards_and_workers(
    make: Make, workers: Any, redis: Redis, most: int, lanes_of_each: int
) -> None:
    posts = [make(shard=shard, seconds=0.005, concurrency=lanes_of_each) for shard in range(4)]
    served_by(workers(2, most), posts)
    names = await put(posts, 8)
    await asyncio.gather(*(post.run() for post in posts))
    assert (names, most) == (sorted(posts[0].sink.got), posts[0].sink.most_at_once)


async def test_without_a_bound_each_lane_makes_its_own_calls(make: Make) -> None:
    posts = [make(shard=shard, seconds=0.2) for shard in range(4)]
    served_by([None], posts)  # type: ignore[list-item]
    await put(posts, 1)
    await asyncio.gather(*(post.run() for post in posts))
    assert 4 == posts[0].sink.most_at_once


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("patience", [1.0, 0.02])
async def test_no_lane_starves(
    make: Make, workers: Any, monkeypatch: pytest.MonkeyPatch, number: int, patience: float
) -> None:
    """With little patience almost every turn ends without having made a call."""
    monkeypatch.setattr(throttle, "PACE_SECONDS", patience)
    posts = [make(shard=shard, seconds=0.005) for shard in range(8)]
    served_by(workers(number, 1), posts)
    sink = posts[0].sink
    await put(posts, 200)

    await asyncio.gather(*(post.serve(lambda: len(sink.got) >= 64, seconds=20) for post in posts))
    shares = Counter(name.split("-")[0] for name in sink.got[:64])
    assert (8, 1) == (len(shares), sink.most_at_once)
    assert 2 <= min(shares.values())


async def test_a_turn_does_not_end_for_want_of_a_place_while_it_has_one(
    make: Make, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "PACE_SECONDS", 0.4)
    await redis.zadd(KEY, {"another worker's call": await now_ms(redis) + LEASE_MS})
    post = make(calls=2, concurrency=2, seconds=0.6)
    await post.put(*"abc")
    assert await post.turn() is None
    assert ([*"abc"], 1) == (post.sink.got, post.sink.most_at_once)


async def test_a_turn_without_a_place_ends_however_many_attempts_and_lanes_wait(
    make: Make, redis: Redis, workers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "PACE_SECONDS", 0.1)
    await redis.zadd(KEY, {"another worker's call": await now_ms(redis) + LEASE_MS})
    posts = [make(shard=shard, concurrency=16) for shard in range(5)]
    served_by(workers(1, 1), posts)
    await put(posts, 16)
    async with asyncio.timeout(4):
        claims = await asyncio.gather(*(post.turn() for post in posts))
    assert [0.05 <= claim.delay <= 0.1 for claim in claims if claim] == [True] * 5


async def test_attempts_that_wait_for_a_place_let_other_lanes_in(
    make: Make, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "SHARED_SECONDS", 0.1)
    post = make(calls=1, seconds=0.2)
    await post.put(*"abcdef")
    begun = await post.begin()
    assert begun is not None
    turn = DeliveryTurn(begun, dataclasses.replace(post.target, policy=Policy(concurrency=4)), post.stopping, _others)
    claim = await turn.run()
    assert claim is not None
    assert len(post.sink.got) <= 2


def _others() -> bool:
    return True


async def test_a_search_for_the_event_at_fault_keeps_its_place(make: Make, workers: Any, redis: Redis) -> None:
    def answer(messages: Sequence[Any]) -> None:
        if any(message.message_id == "0-3" for message in messages):
            raise Reject("bad", status=400)

    posts = [make(answer, shard=shard, seconds=0.005, batch_size=8) for shard in range(4)]
    served_by(workers(2, 1), posts)
    await put(posts, 8)
    await asyncio.gather(*(post.run() for post in posts))
    sink = posts[0].sink
    calls = [batch[0].split("-")[0] for batch in sink.batches]
    assert (1, 7) == (sink.most_at_once, calls.count("0"))
    first = calls.index("0")
    assert ["0"] * 7 == calls[first : first + 7]
    assert 1 == (await counts(redis))["dead:crm:permanent"]


async def now_ms(redis: Redis) -> int:
    """The time by the server's clock."""
    seconds, micros = await redis.time()
    return int(seconds * 1000 + micros // 1000)


async def no_place_is_taken(post: Post, redis: Redis) -> bool:
    assert post.target.calls is not None
    await post.target.calls.close()
    return not await redis.exists(KEY)


async def call_begins(post: Post) -> None:
    async with asyncio.timeout(5):
        while not post.sink.at_once:
            await asyncio.sleep(0.002)


async def test_a_turn_that_is_broken_off_gives_its_places_back(make: Make, redis: Redis) -> None:
    post = make(seconds=30, calls=2, concurrency=2)
    await post.put("a", "b")
    turn = asyncio.create_task(post.turn())
    await call_begins(post)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert await no_place_is_taken(post, redis)


async def test_a_turn_that_was_taken_over_gives_its_place_back(make: Make, redis: Redis) -> None:
    post = make(seconds=0.2, calls=1)
    await post.put("a")
    turn = asyncio.create_task(post.turn())
    await call_begins(post)
    await post.lanes.sweep(0, everything=True)
    assert await turn is None
    assert await no_place_is_taken(post, redis)


async def test_an_attempt_that_fails_gives_its_place_back(make: Make, redis: Redis) -> None:
    def answer(messages: Sequence[Any]) -> None:
        raise ZeroDivisionError

    post = make(answer, calls=1)
    await post.put("a")
    await post.turn()
    assert await no_place_is_taken(post, redis)


async def test_a_call_does_not_begin_at_a_place_that_was_lost_in_a_freeze(
    make: Make, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventrouter.calls.LEASE_MS", 300)
    post = make(calls=1)
    await post.put("a")
    ends: list[int] = []

    async def rate(messages: int) -> float:
        if not ends:
            time.sleep(0.35)  # nothing of this process runs
            ends.append(await now_ms(redis) + 250)
            await redis.zadd(KEY, {"another worker's call": ends[0]})
        return 0.0

    post.target = dataclasses.replace(post.target, throttle=rate)
    await post.run()
    assert (["a"], True) == (post.sink.got, await now_ms(redis) >= ends[0])


async def test_a_paused_destination_gives_its_place_back_without_a_call(make: Make, redis: Redis) -> None:
    post = make(calls=1)
    await post.put("a")
    asked, gate = [], post.target.health.gate

    async def late() -> Gate:
        asked.append(1)
        return Gate(0.0, False) if len(asked) == 1 else await gate()  # it was asked before the pause

    post.target.health.gate = late  # type: ignore[method-assign]
    await pause(post.lanes, "crm")
    await post.turn()
    assert ([], 2) == (post.sink.batches, len(asked))
    assert await no_place_is_taken(post, redis)


async def test_what_a_killed_worker_had_under_way_is_waited_for_no_longer_than_its_lease(
    make: Make, redis: Redis
) -> None:
    end = await now_ms(redis) + 400
    await redis.zadd(KEY, {"a call of a worker that is no more": end})
    post = make(calls=1)
    await post.put("a")
    await post.run()
    assert (["a"], True) == (post.sink.got, await now_ms(redis) >= end)


async def test_a_stop_does_not_wait_for_a_place(make: Make, redis: Redis) -> None:
    await redis.zadd(KEY, {"another worker's call": await now_ms(redis) + LEASE_MS})
    post = make(calls=1)
    await post.put("a")
    turn = asyncio.create_task(post.turn())
    await asyncio.sleep(0.1)
    post.stopping.set()
    async with asyncio.timeout(0.8):
        claim = await turn
    assert claim is not None
    assert ([], 0) == (post.sink.batches, claim.delay)


RULES = """
version: 1
sources: { website: { write_key: key-website } }
destinations:
  one_at_a_time:
    plugin: webhook
    concurrency: 1
    options: { url: "${SINK}/one-at-a-time", allow_private: true }
routes: [{ to: one_at_a_time }]
"""


class Narrow:
    """A service that takes one call at a time, and remembers how many came at once. It takes its time for them."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, event: Any) -> Answer:
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
        time.sleep(self.seconds)
        with self._lock:
            self.at_once -= 1
        return Answer()


@pytest.mark.slow
@pytest.mark.long
def test_two_workers_make_one_call_at_a_time_also_when_one_is_killed_in_the_middle_of_it(
    start: Callable[..., System], sink: Sink
) -> None:
    sink.always("/one-at-a-time", narrow := Narrow(0.1))
    system = start(RULES, {"EVENTROUTER_WORKERS": "2"})
    for number in range(60):
        system.track("Seen", f"a{number}", messageId=f"seen-{number}")
    sink.wait("/one-at-a-time", 10)
    workers = [one["pid"] for one in system.status()["processes"] if one["kind"] == "worker"]
    assert 2 == len(workers)
    for worker in workers:
        until(lambda: narrow.at_once)
        os.kill(worker, signal.SIGKILL)
        killed, taken = time.monotonic(), len(sink.taken("/one-at-a-time"))
        until(lambda taken=taken: len(sink.taken("/one-at-a-time")) > taken + 1)
        assert time.monotonic() - killed < 10
    until(lambda: len({hit.json["messageId"] for hit in sink.taken("/one-at-a-time")}) == 60)
    assert 1 == narrow.most_at_once
