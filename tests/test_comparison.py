"""The deep audit: whatever is missing in the warehouse is missed, and nothing else, while events move on too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from enrich_kit import Router, event, everything_to
from eventrouter import comparison, enrich
from eventrouter.builtin.warehouse.base import SqlWarehouse
from eventrouter.comparison import Comparison, Ids, compare
from eventrouter.events import event_digest
from eventrouter.lane import Append, Lane, Seen
from eventrouter.lanes import Lanes
from eventrouter.records import DeadLetterReplayed, RejectedEvent, pack, unpack
from eventrouter.times import write_time
from lane_kit import begin
from warehouse_kit import letter, messages, run, warehouse_at

WAREHOUSE = Lane(0, "warehouse").key


class System:
    """A router's log, and a warehouse that is loaded when the test says so."""

    def __init__(self, lanes: Lanes, warehouse: SqlWarehouse, url: str) -> None:
        self.lanes = lanes
        self.warehouse = warehouse
        self.url = url
        self.router = Router(lanes, route=everything_to())

    async def route(self, *numbers: int, received: datetime | None = None) -> None:
        at = write_time((received or datetime.now(UTC)).replace(tzinfo=None))
        await self.router.accept(*(event(number, receivedAt=at) for number in numbers))
        self.router.claims += [one for one in (await self.lanes.sweep(0, everything=True))[0] if one.lane.name == "log"]
        self.router.claims = self.router.claims[-1:]
        await self.router.run()

    async def load(self) -> None:
        """The warehouse takes what is on the way."""
        for item, fields in await self.lanes.redis.xrange(WAREHOUSE):
            await self.warehouse.deliver(messages(*unpack(fields[b"d"])))
            await self.lanes.redis.xdel(WAREHOUSE, item)

    async def compare(self, **bounds: Any) -> Comparison:
        return await compare(self.lanes, 2, self.warehouse, **bounds)


@pytest.fixture
async def system(lanes: Lanes, warehouse_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[System]:
    monkeypatch.setattr(enrich, "LINGER_SECONDS", 0.01)
    warehouse = warehouse_at(warehouse_url)
    yield System(lanes, warehouse, warehouse_url)
    await warehouse.close()


def numbers(found: Comparison) -> tuple[int, ...]:
    return found.compared, found.on_the_way, found.stored, found.refused, found.missing, found.strangers


async def test_nothing_is_missing_of_nothing(system: System) -> None:
    assert (0, 0, 0, 0, 0, 0) == numbers(await system.compare())


async def test_ids_are_found_on_the_way_and_in_the_warehouse(system: System) -> None:
    await system.route(1, 2, 3)
    assert (3, 3, 0, 0, 0, 0) == numbers(await system.compare())
    await system.load()
    await system.route(4)
    assert (4, 1, 3, 0, 0, 0) == numbers(await system.compare())


async def test_an_event_that_is_not_in_the_warehouse_is_missing(system: System) -> None:
    await system.route(1, 2, 3)
    await system.load()
    run(system.url, "DELETE FROM events WHERE id = 'm2'")
    assert (3, 0, 2, 0, 1, 0) == numbers(await system.compare())


async def test_records_that_vanished_on_the_way_are_missing(system: System) -> None:
    await system.route(1, 2)
    await system.lanes.redis.delete(WAREHOUSE)
    assert (2, 0, 0, 0, 2, 0) == numbers(await system.compare())


async def test_what_the_warehouse_refused_is_told_apart(system: System) -> None:
    await system.route(1, 2)
    await system.load()
    run(system.url, "DELETE FROM events WHERE id = 'm2'")
    note = RejectedEvent(
        id="refused_1", source="web", received_at="", code="warehouse_refused", message="", message_id="m2"
    )
    await system.warehouse.deliver(messages(note))
    assert (2, 0, 1, 1, 0, 0) == numbers(await system.compare())


async def test_events_that_waited_long_before_they_were_routed_are_found(system: System) -> None:
    await system.route(1, received=datetime.now(UTC) - timedelta(days=9))
    await system.route(2)
    await system.load()
    assert (2, 0, 2, 0, 0, 0) == numbers(await system.compare())


async def test_events_that_redis_does_not_remember_are_named(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "SKEW", timedelta(0))
    await system.route(1)
    await asyncio.sleep(0.01)
    await system.route(2, 3)
    await system.load()
    [part] = await system.lanes.redis.lrange("er:{0}:seen", 0, -1)
    await system.lanes.redis.srem(b"er:{0}:seen:" + part, event_digest("web", "m2"))
    found = await system.compare()
    assert (2, 0, 2, 0, 0, 1) == numbers(found)
    assert [("web", "m2")] == [one[1:] for one in found.examples]


async def test_a_range_is_rounded_out_to_the_parts_that_are_remembered(
    clock: Any, redis: Redis, tmp_path: Path
) -> None:
    lanes, warehouse = Lanes(redis), warehouse_at(f"sqlite:///{tmp_path / 'warehouse.sqlite3'}")
    for number in range(4):
        turn = await begin(lanes, ("k", "one"), lane=Lane(number % 2, f"log{number}"))
        await turn.settle(seen=Seen([b"digest %d" % number], 4 * 3_600_000, 100))
        await clock.tick(3_600_000)
    start = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)

    async def compared(since: float, until: float) -> tuple[int, str]:
        bounds = {"since": start + timedelta(hours=since), "until": start + timedelta(hours=until)}
        found = await compare(lanes, 2, warehouse, **bounds)
        assert found.missing == found.compared
        return found.compared, found.since

    # Shard 0 has parts that begin at 0 h and 2 h, shard 1 at 1 h and 3 h.
    assert (4, "2023-11-14T22:13:20.000Z") == await compared(0, 9)
    assert (1, "2023-11-14T22:13:20.000Z") == await compared(0.5, 0.9)
    assert (2, "2023-11-14T22:13:20.000Z") == await compared(1.5, 1.9)
    assert (2, "2023-11-15T00:13:20.000Z") == await compared(3.5, 3.9)
    await warehouse.close()


async def test_dead_letters_are_counted_in_the_warehouse_and_on_the_way(system: System) -> None:
    replayed = DeadLetterReplayed(source="website", message_id="m2", destination="crm", replayed_at="2026-11-25")
    await system.warehouse.deliver(messages(letter("m1"), letter("m2"), replayed))
    await system.lanes.append(0, [Append("warehouse", [("", 1, pack([letter("m3")]))], "to:warehouse")])
    assert {"crm:permanent": (1, 1)} == (await system.compare()).dead_letters


async def test_nothing_seems_to_be_missing_while_events_move_on(
    lanes: Lanes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrich, "LINGER_SECONDS", 0.001)
    monkeypatch.setattr(comparison, "PAGE", 7)
    url = f"sqlite:///{tmp_path / 'warehouse.sqlite3'}"
    warehouse = warehouse_at(url)
    system = System(lanes, warehouse, url)
    ended = False

    async def go_on() -> None:
        for batch in range(40):
            await system.route(*range(batch * 5, batch * 5 + 5))
            if batch % 3:
                await system.load()

    async def watch() -> list[Comparison]:
        found = []
        while not ended:
            found.append(await system.compare())
        return found

    watching = asyncio.create_task(watch())
    await go_on()
    ended = True
    found = await watching
    assert {0} == {one.missing for one in found}
    assert len(found) > 2
    await system.load()
    assert (200, 0, 200, 0, 0, 0) == numbers(await system.compare())
    await warehouse.close()


async def test_progress_is_told(system: System) -> None:
    await system.route(1, 2, 3)
    await system.load()
    await system.route(4)
    told: list[tuple[int, int]] = []
    await system.compare(progress=lambda done, total: told.append((done, total)))
    assert (4, 4) == told[-1]
    assert (1, 4) in told


def test_a_set_of_ids_gives_each_back_once() -> None:
    ids = Ids()
    many = [b"%012d" % number for number in range(1200)]
    ids.add(many)
    ids.add(many[:10])
    assert 1200 == ids.left
    assert set(many[:600]) == ids.take([*many[:600], b"nobody"])
    assert set() == ids.take(many[:600])
    assert 600 == ids.left
    ids.close()
