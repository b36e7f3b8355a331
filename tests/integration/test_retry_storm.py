"""A dead sink that a hundred lanes send to: hardly anything reaches it, and when it is back it is not overrun."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from email.utils import formatdate

import pytest
from redis.asyncio import Redis

from deliver_kit import Post
from eventrouter import deliver
from eventrouter.builtin.webhook import Webhook
from eventrouter.health import health_key
from eventrouter.testing import Answer, FakeServer, Received

DESTINATIONS, SHARDS, EVENTS = 20, 5, 30
BATCH = 10

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


class Sink:
    """Notes what each destination sends, and how much of it at once."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.requests: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()
        """How often each event was."""
        self.at_once: Counter[str] = Counter()
        self.before_the_first: Counter[str] = Counter()
        """The most requests at once of each destination since it is back, before one of them was answered."""
        self._back: set[str] = set()
        self._lock = threading.Lock()

    def answer(self, received: Received) -> Answer:
        name = received.path.strip("/")
        with self._lock:
            self.requests[name] += 1
            self.at_once[name] += 1
            status = self.status
            if status == 200 and name not in self._back:
                self.before_the_first[name] = max(self.before_the_first[name], self.at_once[name])
        time.sleep(0.02)
        with self._lock:
            self.at_once[name] -= 1
            if status == 200:
                self._back.add(name)
                self.taken.update(f"{name} {one['n']}" for one in json.loads(received.body))
        return Answer(status, "away")


def webhook(url: str, name: str, batch_size: int = 1) -> Webhook:
    return Webhook(Webhook.Options(url=url, allow_private=True), destination=name, batch_size=batch_size)


async def serve(post: Post) -> None:
    """As a worker does: turn after turn, each after its delay, until the lane is empty."""
    while post.claims:
        claim = post.claims.pop(0)
        await asyncio.sleep(claim.delay)
        post.claims.append(claim)
        if (claim := await post.turn()) is not None:
            post.claims.append(claim)


async def failures(redis: Redis) -> Counter[str]:
    """How often each destination as a whole has failed in a row."""
    names = [f"d{number}" for number in range(DESTINATIONS)]
    return Counter({name: int(await redis.hget(health_key(name), "failures") or 0) for name in names})


@pytest.mark.parametrize("status", [500, 503])
async def test_a_hundred_lanes_of_a_dead_sink_send_one_probe_for_each_pause_and_one_when_it_is_back(
    redis: Redis, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "LINGER_SECONDS", 0.01)
    sink = Sink(status)
    with FakeServer(sink.answer) as server:
        posts = []
        for number in range(DESTINATIONS):
            for shard in range(SHARDS):
                name = f"d{number}"
                options = {"batch_size": BATCH, "pin": True, "initial": 0.3, "max_interval": 1.0}
                destination = webhook(f"{server.url}/{name}", name, BATCH)
                posts.append(Post(redis, destination, shard=shard, name=name, **options))
                await posts[-1].put(*(f"{shard}-{event}" for event in range(EVENTS)))
        # The first turn of every lane may meet the outage before any of them knows of it.
        for post in posts:
            if (claim := await post.turn()) is not None:
                post.claims.append(claim)
        first, began = await failures(redis), sink.requests.copy()
        assert max(began.values()) <= SHARDS
        serving = [asyncio.create_task(serve(post)) for post in posts]
        try:
            while min((await failures(redis)).values()) < 4:
                await asyncio.sleep(0.05)
            later = await failures(redis)
            during = sink.requests - began
            for name, number in during.items():
                # One may be under way. Each lane has a worker of its own here, which lets two single deliveries fail
                # by themselves before a third one speaks for the destination.
                assert number <= later[name] - first[name] + 1 + 2 * SHARDS, name
            sink.status = 200
            await asyncio.gather(*serving)
            for post in posts:  # what was parked when a lane's last turn ended
                await post.run(60)
        finally:
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)
            for post in posts:
                await post.sink.close()
        assert {1} == set(sink.before_the_first.values())
        assert DESTINATIONS == len(sink.before_the_first)
        assert (DESTINATIONS * SHARDS * EVENTS, {1}) == (len(sink.taken), set(sink.taken.values()))
        assert [] == [letter for post in posts for letter in await post.letters()]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_named_time_is_kept_to_by_every_lane_in_both_forms(redis: Redis, status: int, form: str) -> None:
    requests = []

    def answer(received: Received) -> Answer:
        requests.append(received)
        value = "200" if form == "seconds" else formatdate(time.time() + 200, usegmt=True)
        return Answer(status, "busy", {"Retry-After": value})

    with FakeServer(answer) as server:
        posts = [Post(redis, webhook(server.url, "crm"), shard=shard, timeout=30.0) for shard in range(3)]
        for post in posts:
            await post.put("a", "b")
            claim = await post.turn()
            assert claim is not None
            assert 100 < claim.delay <= 200
            post.claims.append(claim)
            await post.sink.close()
        assert 1 == len(requests)
        assert not any([await post.letters() for post in posts])
