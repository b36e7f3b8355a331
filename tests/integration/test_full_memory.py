"""A server whose memory runs full while a destination takes nothing: the others and the collectors go on."""

from __future__ import annotations

import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from enrich_kit import Router, event
from eventrouter import enrich
from eventrouter.errors import UnavailableError
from eventrouter.lane import Lane, Removal
from eventrouter.records import DeadLetter, unpack
from lane_kit import counts, take

MEGABYTE = 1024 * 1024
ROOM = 24 * MEGABYTE
EVENTS, AT_ONCE, PAD = 8000, 100, 8000


def with_their_payload(*destinations: str):
    """Rules that send every event as it is to each of these."""

    def route(events: Any) -> Any:
        deliveries = [
            SimpleNamespace(
                destination=name, index=index, data=msgspec.Raw(msgspec.json.encode(one.event)), route="all"
            )
            for index, one in enumerate(events)
            for name in destinations
        ]
        return SimpleNamespace(deliveries=deliveries, failed=[], filtered={})

    return route


class Shard:
    """A shard with its router, a destination that takes everything, and one that takes nothing."""

    def __init__(self, redis: Any, router: Router) -> None:
        self.redis = redis
        self.router = router
        self.most = 0
        self.letters: Counter[str] = Counter()

    async def watch(self) -> None:
        self.most = max(self.most, (await self.redis.info("memory"))["used_memory"])

    async def route(self) -> None:
        if self.router.claims:
            if claim := await self.router.run():
                self.router.claims = [claim]
            await self.watch()

    async def drain(self, name: str) -> None:
        """Takes what waits in a lane, as far as it is claimed."""
        for claim in [claim for claim in self.router.ahead if claim.lane.name == name]:
            self.router.ahead.remove(claim)
            turn = await take(self.router.lanes, claim)
            while (batch := await turn.read(give_back=True)).status != "idle":
                await turn.settle([Removal(item, f"delivered:{name}") for item in batch.items])
                for item in batch.items:
                    if name == "warehouse":
                        for record in unpack(item.data):
                            if isinstance(record, DeadLetter):
                                self.letters[f"{record.destination}:{record.class_}"] += 1
        await self.watch()


@pytest.fixture
async def shard(redis, lanes, monkeypatch):
    monkeypatch.setattr(enrich, "LINGER_SECONDS", 0.005)
    before = (await redis.config_get("maxmemory"))["maxmemory"]
    await redis.config_set("maxmemory", (await redis.info("memory"))["used_memory"] + ROOM)
    rules = {"route": with_their_payload("clogged", "flows"), "backlogs": {"clogged": 10**6, "flows": 10**6}}
    yield Shard(redis, Router(lanes, **rules))
    await redis.config_set("maxmemory", before)


async def fill(shard: Shard, *drained: str, seconds: float = 60.0) -> int:
    """Sends events like a collector that repeats what is refused; the number of those that were kept."""
    accepted, ends = 0, time.monotonic() + seconds
    while accepted < EVENTS and time.monotonic() < ends:
        try:
            await shard.router.accept(*(event(accepted + one, f"key {one}", pad="x" * PAD) for one in range(AT_ONCE)))
            accepted += AT_ONCE
        except UnavailableError:
            pass
        await shard.watch()
        await shard.route()
        for name in drained:
            await shard.drain(name)
    return accepted


async def test_a_destination_that_takes_nothing_fills_no_memory_that_others_need(shard, redis):
    assert EVENTS == await fill(shard, "flows", "warehouse")
    await shard.route()
    await shard.drain("flows")
    await shard.drain("warehouse")
    limit = int((await redis.config_get("maxmemory"))["maxmemory"])
    assert shard.most < limit
    found = Counter(await counts(redis))
    waiting = (await shard.router.lanes.look(0, [], ["log", "clogged", "flows", "warehouse"]))[1]
    assert [0, found["to:clogged"] - found["dead:clogged:backlog_full"], 0, 0] == waiting
    assert EVENTS == found["accepted"] == found["log_out"] == found["routed"]
    assert EVENTS == found["to:clogged"] == found["to:flows"] == found["delivered:flows"]
    assert {"clogged:backlog_full": found["dead:clogged:backlog_full"]} == dict(shard.letters)
    assert EVENTS + found["dead:clogged:backlog_full"] == found["to:warehouse"] == found["delivered:warehouse"]
    assert 0 < waiting[1] < EVENTS / 2


async def test_with_the_warehouse_away_the_server_fills_up_and_no_further(shard, redis):
    accepted = await fill(shard, "flows", seconds=4.0)
    assert AT_ONCE * 5 < accepted < EVENTS
    limit = int((await redis.config_get("maxmemory"))["maxmemory"])
    assert 0.7 * limit < shard.most < limit
    assert accepted == (await counts(redis))["accepted"]
    while await redis.xlen(Lane(0, "log").key) or await redis.xlen(Lane(0, "warehouse").key):
        await shard.route()
        await shard.drain("warehouse")
        await shard.drain("flows")
    found = Counter(await counts(redis))
    assert accepted == found["routed"] == found["to:flows"] == found["to:clogged"]
    dead = sum(number for field, number in found.items() if field.startswith("dead:"))
    assert accepted + dead == found["delivered:warehouse"]
    assert shard.most < limit
