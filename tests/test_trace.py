"""The story of an event, wherever it is: in the log, in lanes, in the warehouse, or refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from enrich_kit import Router as Routing
from enrich_kit import event
from eventrouter import enrich
from eventrouter.builtin.warehouse.base import SqlWarehouse
from eventrouter.counters import read_snapshot
from eventrouter.events import StoredEvent, order_key
from eventrouter.fates import Fates
from eventrouter.lane import Append, Lane, Park, Removal
from eventrouter.lanes import Lanes
from eventrouter.outcome_log import Failed, dead_entries, entry
from eventrouter.records import DeadLetter, EventRecord, IdentityMerge, RejectedEvent, pack, unpack
from eventrouter.redelivery import redelivery
from eventrouter.route import Router
from eventrouter.trace import IN_LOG, ON_THE_WAY, STORED, Tracer
from lane_kit import take
from routes_kit import HEAD, load
from warehouse_kit import messages, warehouse_at

CONFIG = load(HEAD + '  - { name: all, to: [crm, alerts], when: event == "Order Completed" }\n')


class World:
    """A router's log, lanes and a warehouse, of which tests decide what moves on."""

    def __init__(self, lanes: Lanes, warehouse: SqlWarehouse) -> None:
        self.lanes = lanes
        self.warehouse = warehouse
        self.routing = Routing(
            lanes,
            version=CONFIG.version,
            route=Router(CONFIG).route,
            backlogs=dict.fromkeys(CONFIG.destinations, 100),
        )

    async def accept(self, *numbers: int, **options: str) -> None:
        await self.routing.accept(*(event(number) for number in numbers), **options)

    async def route(self) -> None:
        await self.routing.run()

    async def load(self) -> None:
        """The warehouse takes what is on its way."""
        key = Lane(0, "warehouse").key
        for item, fields in await self.lanes.redis.xrange(key):
            await self.warehouse.deliver(messages(*unpack(fields[b"d"])))
            await self.lanes.redis.xdel(key, item)

    async def trace(self, message_id: str, *, redis: bool = True, warehouse: bool = True) -> dict[str, Any]:
        snapshot = await read_snapshot(self.lanes, 1, CONFIG.destinations) if redis else None
        return await Tracer(
            Fates(Router(CONFIG), CONFIG, snapshot),
            list(CONFIG.destinations),
            1,
            self.lanes.redis if redis else None,
            self.warehouse if warehouse else None,
        ).trace(message_id, ["web", "app"])

    async def story(self, message_id: str) -> dict[str, Any]:
        """Of the only event with this id."""
        [found] = (await self.trace(message_id))["events"]
        return dict(found)


@pytest.fixture
async def world(lanes: Lanes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(enrich, "LINGER_SECONDS", 0.01)
    lanes.outcome_bytes = 100_000
    warehouse = warehouse_at(f"sqlite:///{tmp_path / 'warehouse.sqlite3'}")
    yield World(lanes, warehouse)
    await warehouse.close()


def states(story: dict[str, Any]) -> dict[str, str]:
    return {fate["destination"]: fate["state"] for fate in story["destinations"]}


async def test_an_event_in_the_log_is_not_routed_yet(world: World) -> None:
    await world.accept(1)
    story = await world.story("m1")
    assert (IN_LOG, "web", "track", "Order Completed", []) == tuple(
        story[name] for name in ("state", "source", "type", "name", "destinations")
    )


async def test_an_event_that_was_routed_waits_for_the_warehouse_and_its_destinations(world: World) -> None:
    await world.accept(1)
    await world.route()
    story = await world.story("m1")
    assert (ON_THE_WAY, CONFIG.version) == (story["state"], story["rules"])
    assert {"crm": "waiting", "alerts": "filtered", "off": "filtered"} == states(story)


async def test_an_event_in_the_warehouse_has_its_person_of_then_and_today(world: World) -> None:
    await world.warehouse.deliver(
        messages(
            EventRecord(source="web", event=event(1), person_id="p1", rules="older"),
            IdentityMerge(person_id="p1", into_person_id="p2", seq=1, merged_at="2026-11-25"),
        )
    )
    story = await world.story("m1")
    assert (STORED, "p1", "p2", "older") == tuple(
        story[name] for name in ("state", "person_id", "person_today", "rules")
    )
    assert {"crm": "unknown", "alerts": "unknown", "off": "unknown"} == states(story)


async def test_what_became_of_deliveries_is_told_with_what_was_tried(world: World, redis: Redis) -> None:
    await world.accept(1, 2, 3)
    await world.route()
    await world.load()
    [claim] = [claim for claim in world.routing.ahead if claim.lane.name == "crm"]
    turn = await take(world.lanes, claim)
    one, two, three = (await turn.read()).items
    one.tries = b'{"made":1,"attempts":1,"reason":"HTTP 500"}'
    letter = DeadLetter(
        source="web",
        message_id="m2",
        destination="crm",
        route="all",
        class_="permanent",
        reason="HTTP 400",
        attempts=1,
        first_at="2026-11-24T17:00:05.000Z",
        last_at="2026-11-24T17:00:05.000Z",
        status=400,
    )
    retried = entry(1000, "crm", [], [Failed("web", "m1", 1, "", "HTTP 500", 500)])
    await turn.settle(
        [Removal(two, "dead:crm:permanent"), Removal(three, "delivered:crm")],
        [Park(one.key, 60_000, [one])],
        appends=[Append("warehouse", [("", 1, pack([letter]))], "to:warehouse")],
        outcomes=[retried, *dead_entries(2000, [letter])],
    )
    [crm, *_] = (await world.story("m1"))["destinations"]
    assert ("waiting", "HTTP 500", 1) == (crm["state"], crm["reason"], crm["attempts"])
    assert crm["next_try_at"] is not None
    assert [("retry", "HTTP 500", 500)] == [(one["outcome"], one["reason"], one["status"]) for one in crm["history"]]
    # The record of a dead letter counts on its way, too.
    for _ in range(2):
        [crm, *_] = (await world.story("m2"))["destinations"]
        assert ("dead", "permanent", "HTTP 400", 400) == tuple(
            crm[name] for name in ("state", "class", "reason", "status")
        )
        await world.load()
    [crm, *_] = (await world.story("m3"))["destinations"]
    assert ("delivered", "sent by “all”, and neither waiting nor dead") == (crm["state"], crm["reason"])


@pytest.mark.parametrize("key", ["", "web:m1"], ids=["history", "a dead letter"])
async def test_what_is_sent_again_and_parked_waits(world: World, key: str) -> None:
    await world.accept(1)
    await world.route()
    again = redelivery(StoredEvent("web", event(1)), "crm", {}, "all", "v", key=key or order_key(event(1)))
    [claim] = [claim for claim in world.routing.ahead if claim.lane.name == "crm"]
    turn = await take(world.lanes, claim)
    [live] = (await turn.read()).items
    await turn.settle([Removal(live, "delivered:crm")], appends=[Append("crm", [again[1:4]], "to:crm")])
    [item] = (await turn.read()).items
    await turn.settle(parks=[Park(item.key, 60_000, [item])])
    assert "waiting" == states(await world.story("m1"))["crm"]


async def test_the_events_of_several_sources_are_each_told(world: World) -> None:
    await world.accept(1)
    await world.accept(1, source="app")
    await world.route()
    assert ["app", "web"] == sorted(one["source"] for one in (await world.trace("m1"))["events"])
    await world.load()
    assert [STORED, STORED] == [one["state"] for one in (await world.trace("m1"))["events"]]


async def test_a_refused_event_tells_why_on_its_way_too(world: World) -> None:
    refused = RejectedEvent(
        id="r1", source="web", received_at="2026-11-24T17:00:00.000Z", code="bad", message="no", message_id="m1"
    )
    await world.lanes.append(0, [Append("warehouse", [("", 1, pack([refused]))], "to:warehouse")])
    for _ in range(2):
        found = await world.trace("m1")
        assert ([], ["bad"], ["web"]) == (
            found["events"],
            [one["code"] for one in found["rejected"]],
            [one["source"] for one in found["rejected"]],
        )
        await world.load()


async def test_an_id_that_was_routed_is_remembered_without_its_event(world: World, redis: Redis) -> None:
    await world.accept(1)
    await world.route()
    await redis.delete(Lane(0, "warehouse").key)
    found = await world.trace("m1")
    assert ([], ["web"], [0], [None]) == (
        found["events"],
        *([one[name] for one in found["remembered"]] for name in ("source", "shard", "until")),
    )
    assert [] == (await world.trace("m2"))["remembered"]


async def test_while_redis_is_away_the_warehouse_tells_what_it_knows(world: World) -> None:
    await world.accept(1)
    await world.route()
    await world.load()
    [story] = (await world.trace("m1", redis=False))["events"]
    assert {"crm": "unknown", "alerts": "filtered", "off": "filtered"} == states(story)


async def test_while_the_warehouse_is_away_the_lanes_tell_what_they_know(world: World) -> None:
    await world.accept(1)
    await world.route()
    [story] = (await world.trace("m1", warehouse=False))["events"]
    assert (ON_THE_WAY, "waiting") == (story["state"], states(story)["crm"])


async def test_what_was_too_long_to_be_looked_through_is_told_and_leaves_it_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.accept(1, 2, 3)
    await world.route()
    await world.load()
    monkeypatch.setattr("eventrouter.lane_search.MOST_BYTES", 100)
    monkeypatch.setattr("eventrouter.lane_search.PAGE", 1)
    found = await world.trace("m3")
    assert ["lane crm of shard 0"] == found["not_looked"]
    assert "unknown" == states(found["events"][0])["crm"]


async def test_what_cannot_be_read_is_passed_over(world: World) -> None:
    await world.accept(1)
    await world.route()
    await world.load()
    await world.lanes.append(0, [Append(name, [("", 1, b"m1 nonsense")]) for name in ("log", "warehouse", "crm")])
    assert "waiting" == states(await world.story("m1"))["crm"]
