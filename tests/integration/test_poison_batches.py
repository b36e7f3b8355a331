"""Events that make every batch fail that holds them, among good ones, at a destination that is away now and then."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import count, pairwise
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from deliver_kit import Post
from eventrouter import deliver, poison
from eventrouter import health as health_module
from eventrouter.builtin.webhook import Webhook
from eventrouter.destination import Destination, check_response
from eventrouter.testing import Answer, FakeServer, Received
from lane_kit import counts, leftovers

EXAMPLES = int(os.environ.get("EVENTROUTER_SIMULATIONS", "6"))
"""How many scenarios are played, for each kind of destination. Whoever sets it gets new ones at each run."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(60 + 120 * EXAMPLES)]
SECRET = "s3cr3t-key"
BEATS = 4000
"""Events that may follow while poison fails on: attempts count only while others succeed."""


class Posts(Destination):
    """Posts each batch as an array, of which nothing has to be repeated as it was."""

    name = "posts"
    batch_size = 100

    class Options(Destination.Options):
        url: str

    async def deliver(self, messages):
        response = await self.http.post(self.options.url, json=[message.payload for message in messages])
        check_response(response)


KINDS = {
    "a webhook with batches": (Webhook, {"batch_size": 6, "pin": True}),
    "a webhook": (Webhook, {"batch_size": 1}),
    "batches": (Posts, {"batch_size": 6, "apart": True}),
}


class Event(NamedTuple):
    """What is sent: to which shard, of which order key, and whether it is poison."""

    shard: int
    key: str
    poison: bool


class Outage(NamedTuple):
    """After `after` more requests so many `requests` fail, with this status."""

    after: int
    requests: int
    status: int


class Sink:
    """Answers 500 to whatever holds poison, and to everything during an outage; notes all that comes."""

    def __init__(self, poison: set[str], outages: Sequence[Outage], status: int) -> None:
        self._poison = poison
        self._status = status
        self._plan = [status for one in outages for status in [200] * one.after + [one.status] * one.requests]
        self._lock = threading.Lock()
        self.requests: list[tuple[str, tuple[str, ...], int]] = []
        """Batch id, events and the status of the answer."""

    def answer(self, received: Received) -> Answer:
        found = json.loads(received.body)
        events = tuple(one["n"] for one in (found if isinstance(found, list) else [found]))
        with self._lock:
            status = self._plan.pop(0) if self._plan else 200
            body = "away"
            if status == 200 and (bad := sorted(self._poison & set(events))):
                status, body = self._status, f"cannot take {bad[0]}: {SECRET}"
            self.requests.append((received.headers.get("webhook-id", ""), events, status))
        return Answer(status, body)

    @property
    def taken(self) -> list[str]:
        """In the order of arrival."""
        return [event for _, events, status in self.requests if status == 200 for event in events]


class Scenario:
    """Good events and poison in several shards, each served by a worker of its own."""

    def __init__(
        self, redis: Redis, kind: str, events: Sequence[Event], outages: Sequence[Outage], status: int
    ) -> None:
        self.redis = redis
        self.kind = kind
        self.events = {f"e{number:03}": event for number, event in enumerate(events)}
        self.poison = {name for name, event in self.events.items() if event.poison}
        self.sink = Sink(self.poison, outages, status)
        self.posts: list[Post] = []
        self.beats: dict[str, int] = {}
        """By name the shard of each event that came later."""

    async def run(self) -> None:
        await self.redis.flushall()
        with FakeServer(self.sink.answer) as server:
            cls, options = KINDS[self.kind]
            made = cls.Options(url=f"{server.url}/{SECRET}", allow_private=True)
            for shard in range(3):
                destination = cls(made, destination="crm", batch_size=options["batch_size"])
                more = {
                    "concurrency": 2,
                    "initial": 0.002,
                    "max_interval": 0.02,
                    "max_attempts": 8,
                    "secrets": (SECRET,),
                    **options,
                }
                self.posts.append(Post(self.redis, destination, shard=shard, **more))
            for post in self.posts:
                mine = [(name, one.key) for name, one in self.events.items() if one.shard == post.lane.shard]
                if mine:
                    await post.put(*mine)
            try:
                async with asyncio.timeout(100):
                    await self._serve()
            finally:
                for post in self.posts:
                    await post.sink.close()

    async def _serve(self) -> None:
        """Serves all lanes, side by side, and sends good events now and then, until all is settled."""
        beats = count()
        while await self._waits():
            if len(self.beats) < BEATS:
                shard = next(beats) % 3
                name = f"beat{len(self.beats)}"
                self.beats[name] = shard
                await self.posts[shard].put(name)
            await asyncio.gather(*(self._turn(post) for post in self.posts))

    async def _waits(self) -> bool:
        looks = [(await post.lanes.look(post.lane.shard, [], ["crm"]))[1] for post in self.posts]
        return looks != [[0]] * 3

    async def _turn(self, post: Post) -> None:
        claims, soonest = await post.lanes.sweep(post.lane.shard)
        await post.enqueue(claims)
        if not post.claims:
            await asyncio.sleep(min(max(soonest, 0.001), 0.01))
            return
        await asyncio.sleep(post.claims[0].delay)
        if (claim := await post.turn()) is not None:
            post.claims.append(claim)

    async def check(self) -> None:
        good = (set(self.events) | set(self.beats)) - self.poison
        assert set(self.sink.taken) == good
        letters = [letter for post in self.posts for letter in await post.letters()]
        assert sorted(letter.message_id for letter in letters) == sorted(self.poison)
        for letter in letters:
            assert letter.class_ == "attempts"
            assert letter.response in (f"cannot take {letter.message_id}: **********", "away")
        if self.kind == "a webhook with batches":
            items = defaultdict(set)
            for batch, events, _ in self.sink.requests:
                items[batch].add(events)
            assert {len(one) for one in items.values()} == {1}
        self._check_order()
        for post in self.posts:
            found = await counts(self.redis, post.lane.shard)
            told = (found.get("to:crm", 0), found.get("delivered:crm", 0) + found.get("dead:crm:attempts", 0))
            assert told[0] == told[1]
            left = await leftovers(self.redis, post.lane.shard)
            assert [key for key in left if key.rpartition(":")[2] in ("parked", "tries", "pins")] == []

    def _check_order(self) -> None:
        """A key's next delivery is not tried before the one before was taken, or has failed for good."""
        firsts: dict[str, int] = {}
        lasts: dict[str, int] = {}
        for at, (_, events, _) in enumerate(self.sink.requests):
            for event in events:
                firsts.setdefault(event, at)
                lasts[event] = at
        rows = defaultdict(list)
        for name, one in self.events.items():
            rows[one.shard, one.key].append(name)
        for names in rows.values():
            for before, after in pairwise(names):
                apart = (lasts if before in self.poison else self._first_taken())[before]
                assert firsts[after] > apart or (firsts[after] == firsts[before]), f"{after} overtook {before}"

    def _first_taken(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for at, (_, events, status) in enumerate(self.sink.requests):
            if status == 200:
                for event in events:
                    found.setdefault(event, at)
        return found


@pytest.fixture
def play(valkey: str) -> Iterator:
    """Plays a scenario and checks it; all of them in one event loop."""
    with asyncio.Runner() as runner:
        redis = Redis.from_url(valkey)

        async def go(*args) -> None:
            scenario = Scenario(redis, *args)
            await scenario.run()
            await scenario.check()

        yield lambda *args: runner.run(go(*args))
        runner.run(redis.aclose())


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver, "LINGER_SECONDS", 0.002)
    monkeypatch.setattr(poison, "SECONDS", 0.03)
    monkeypatch.setattr(poison, "PINNED_SECONDS", 0.3)
    monkeypatch.setattr(health_module, "FRESH_SECONDS", 0.01)


events = st.lists(
    st.builds(Event, st.integers(0, 2), st.sampled_from("abcdefgh"), st.sampled_from([False] * 5 + [True])),
    min_size=5,
    max_size=30,
)
outages = st.lists(
    st.builds(Outage, st.integers(1, 40), st.integers(1, 30), st.sampled_from([500, 502, 503])), max_size=4
)


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=EXAMPLES,
    derandomize="EVENTROUTER_SIMULATIONS" not in os.environ,
    database=None,
    deadline=None,
    phases=[Phase.generate],  # a scenario takes seconds: nobody would wait until one that fails is made smaller
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
@given(events=events, outages=outages, status=st.sampled_from([500, 503]))
def test_all_good_events_are_delivered_and_exactly_the_poison_is_dead(play, kind, events, outages, status):
    play(kind, events, outages, status)
