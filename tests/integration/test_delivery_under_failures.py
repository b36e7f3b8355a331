"""Turns at a destination that fails in every way, at random: order, exactly one end for each delivery, nothing left."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from deliver_kit import Post, Sink
from eventrouter import deliver, health, lanes
from eventrouter.delivery import decode
from eventrouter.destination import Message
from eventrouter.errors import Reject, Retry
from eventrouter.lane import Lane
from lane_kit import counts, leftovers

EXAMPLES = int(os.environ.get("EVENTROUTER_SIMULATIONS", "60"))

FATES = (
    "ok",
    "ok",
    "ok",
    "retry",
    "retry",
    "refused",
    "unauthorized",
    "whole retry",
    "whole refused",
    "whole unauthorized",
    "away",
    "bug",
)


class Moody(Sink):
    """Answers by a plan, one fate for each message of each attempt; well at last. Checks what it gets as it comes."""

    def __init__(self, plan: Sequence[str], order: dict[str, list[str]], seconds: Sequence[float]) -> None:
        super().__init__()
        self.plan = list(plan)
        self.order = order
        self.pauses = list(seconds)
        self.seen: set[str] = set()
        self.under_way: set[str] = set()
        self.post: Any = None

    async def _waiting(self) -> set[str]:
        """What is not settled yet."""
        redis: Redis = self.post.redis
        streams = [self.post.lane.key, *await redis.keys(f"{self.post.lane.key}:park:*")]
        rows = [row for stream in streams for row in await redis.xrange(stream)]
        return {decode(fields[b"d"]).message_id for _, fields in rows}

    async def deliver(self, messages: Sequence[Message]) -> Any:
        ids = [message.message_id for message in messages]
        keys = {message.order_key for message in messages}
        assert not keys & self.under_way, "two attempts of one order key at once"
        self.under_way |= keys
        try:
            waiting = await self._waiting()
            for one in ids:
                if one not in self.seen:
                    siblings = next(ones for ones in self.order.values() if one in ones)
                    before = siblings[: siblings.index(one)]
                    early = [other for other in before if other in waiting and other not in ids]
                    assert not early, f"{one} came before {early} was settled"
            self.seen.update(ids)
            self.batches.append(ids)
            await asyncio.sleep(self.pauses.pop() if self.pauses else 0)
            outcomes: dict[str, Any] = {}
            for message in messages:
                match self.plan.pop() if self.plan else "ok":
                    case "retry":
                        outcomes[message.id] = Retry("later")
                    case "refused":
                        outcomes[message.id] = Reject("bad", status=400)
                    case "unauthorized":
                        outcomes[message.id] = Reject("who?", status=401)
                    case "whole retry":
                        raise Retry("all later")
                    case "whole refused":
                        raise Reject("all bad", status=400)
                    case "whole unauthorized":
                        raise Reject("who are you all?", status=403)
                    case "away":
                        raise ConnectionRefusedError("nobody there")
                    case "bug":
                        raise ZeroDivisionError
            return outcomes
        finally:
            self.under_way -= keys


async def play(url: str, seed: int, plan: Sequence[str]) -> None:
    random = Random(seed)
    keys = [f"key {number}" for number in range(random.choice((1, 3, 8)))]
    order: dict[str, list[str]] = {}
    ids: list[tuple[str, str]] = []
    for number in range(random.randrange(1, 25)):
        ids.append((f"message {number}", random.choice(keys)))
        order.setdefault(ids[-1][1], []).append(ids[-1][0])
    sink = Moody(plan, order, [random.choice((0, 0, 0.001, 0.003)) for _ in range(100)])
    async with Redis.from_url(url) as redis:
        await redis.flushall()
        sink.post = post = Post(
            redis,
            sink,
            batch_size=random.choice((1, 2, 5)),
            concurrency=random.choice((1, 3)),
            max_attempts=random.choice((2, 10)),
            pin=random.random() < 0.5,
        )
        cut = random.randrange(len(ids) + 1)
        await post.put(*ids[:cut])
        running = asyncio.create_task(post.run(20))
        await asyncio.sleep(random.choice((0, 0.002, 0.01)))
        if ids[cut:]:
            await post.put(*ids[cut:])
        await running
        await post.run(20)
        await sink.close()
        found = await counts(redis)
        dead = {letter.message_id for letter in await post.letters()}
        delivered = found.get("delivered:crm", 0)
        assert len(ids) == found["to:crm"] == delivered + len(dead)
        assert sum(number for field, number in found.items() if field.startswith("dead:crm:")) == len(dead)
        assert {one for one, _ in ids} - dead <= sink.seen
        await redis.delete(Lane(0, "warehouse").key, Lane(0, "warehouse").key + ":turn")
        await redis.zrem("er:{0}:leases", "warehouse")
        async with asyncio.timeout(5):
            while left := await leftovers(redis):
                await asyncio.sleep(0.01)
                claims, _ = await post.lanes.sweep(0)
                await post.enqueue(claims)
                if post.claims:
                    await post.turn()
                assert left is not None


@pytest.fixture
def runner(valkey: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.Runner]:
    monkeypatch.setattr(deliver, "LINGER_SECONDS", 0.005)
    monkeypatch.setattr(health, "HOLD_SECONDS", 0.01)
    monkeypatch.setattr(health, "FIRST_PROBE_SECONDS", 0.01)
    monkeypatch.setattr(lanes, "LEASE_MS", 500)
    with asyncio.Runner() as runner:
        yield runner


@settings(
    max_examples=EXAMPLES,
    derandomize="EVENTROUTER_SIMULATIONS" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(seed=st.integers(0, 10_000), plan=st.lists(st.sampled_from(FATES), max_size=40))
def test_however_it_fails_deliveries_come_in_order_and_each_has_one_end(runner, valkey, seed, plan):
    runner.run(play(valkey, seed, plan))
