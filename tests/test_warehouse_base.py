"""Batches in trouble, on both databases: nothing is lost, no neighbour pays, what ran runs again without a trace."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from eventrouter.builtin.warehouse import base
from eventrouter.builtin.warehouse.base import SqlWarehouse
from eventrouter.builtin.warehouse.load import Item, Loaded, Loader
from eventrouter.builtin.warehouse.store import Trouble
from eventrouter.errors import Retry, UnavailableError
from eventrouter.events import StoredEvent
from eventrouter.records import DeadLetter, EventRecord, Identity
from eventrouter.warehouse import Warehouse
from warehouse_kit import NOW, at, event, letter, locked, messages, record, run, select, warehouse_at


@pytest.fixture
async def warehouse(warehouse_url: str) -> AsyncIterator[SqlWarehouse]:
    warehouse = warehouse_at(warehouse_url)
    yield warehouse
    await warehouse.close()


async def test_deliver_works_without_start_and_start_may_come_twice(
    warehouse_url: str, warehouse: SqlWarehouse
) -> None:
    assert await warehouse.deliver(messages(record("m1"))) is None
    await warehouse.start()
    await warehouse.start()
    assert [(1,)] == select(warehouse_url, "SELECT count(*) FROM order_completed")


async def test_the_rest_of_eventrouter_finds_events_and_dead_letters(warehouse: SqlWarehouse) -> None:
    await warehouse.deliver(messages(record("m1"), letter("m1"), letter("m2", last_at=at(20), class_="attempts")))
    assert [StoredEvent("website", event("m1"))] == await warehouse.find_events([("website", "m1")])
    assert ["m1", "m2"] == [row["message_id"] for row in await warehouse.find_dead_letters()]
    assert ["m2"] == [row["message_id"] for row in await warehouse.find_dead_letters(class_="attempts")]
    assert [] == await warehouse.find_dead_letters(event="Order Completed")
    assert 1 == len(await warehouse.find_dead_letters(limit=1))
    assert ["m1"] == [row["message_id"] for row in await warehouse.find_dead_letters(message_id="m1")]
    assert {("crm", "permanent"): 1, ("crm", "attempts"): 1} == await warehouse.count_dead_letters()


async def test_tables_of_an_older_version_are_left_as_they_are_by_who_only_reads(
    warehouse_url: str, warehouse: SqlWarehouse
) -> None:
    await warehouse.deliver(messages(record("m1"), letter("m1")))
    run(warehouse_url, "DELETE FROM eventrouter_migrations WHERE version = 3")
    run(warehouse_url, "ALTER TABLE dead_letters DROP COLUMN again")
    reader = warehouse_at(warehouse_url)
    reader.reads_only = True
    await reader.start()
    assert ["m1"] == [row["id"] for row in await reader.find_stored("m1")]
    with pytest.raises(UnavailableError, match="again") as caught:
        await reader.find_dead_letters()
    await reader.close()
    assert "those of an older version" in caught.value.hint
    assert [(2,)] == select(warehouse_url, "SELECT count(*) FROM eventrouter_migrations")


async def test_the_rest_of_eventrouter_finds_events_by_time_and_by_id(warehouse: SqlWarehouse) -> None:
    await warehouse.deliver(messages(record("m1"), record("m2", receivedAt=at(5))))
    newest, oldest = await warehouse.scan_ids()
    assert (("website", "m1"), ("website", "m2", at(5))) == (newest[1:], (*oldest[1:], oldest[0]))
    assert [oldest] == await warehouse.scan_ids(after=newest)
    assert ["website"] == [row["source"] for row in await warehouse.find_stored("m1")]
    assert [] == await warehouse.find_rejected(code="unreadable")


async def test_late_duplicates_and_discarded_values_are_counted(warehouse: SqlWarehouse) -> None:
    batch = messages(record("m1", properties={"a": 1}), record("m2", properties={"a": "x"}))
    await warehouse.deliver(batch)
    await warehouse.deliver(batch)
    assert (2, 1, 0) == (warehouse.late_duplicates, warehouse.discarded, warehouse.refused)


def deep() -> dict[str, Any]:
    value: dict[str, Any] = {"end": 1}
    for _ in range(400):
        value = {"a": value}
    return value


HOSTILE: list[dict[str, Any]] = [
    {"nul": "a\0b", "\0key": 1},
    {"surrogate": "\ud800", "\udfff": 1},
    {"deep": deep()},
    {"huge": 10**4000, "negative": -(2**64), "float": 1e308},
    {"": 1, "!!!": 2, "🎉": 3, "   ": 4},
    {'"; DROP TABLE events; --': 1, "a'b": 2, "%s": 3, ":x": 4, "?": 5, "{}": 6},
    {f"p{number}": number for number in range(5000)},
    {f"short_text_{number}": "x" * 20 for number in range(1200)},
    {"order": 1, "select": 2, "ctid": 3, "rowid": 4, "_rowid_": 5, "oid": 6, "xmin": 7, "id": 8, "timestamp": 9},
    {"x" * 1000: 1, "ü" * 500: 2, "x" * 1001: 3},
    {"big": "x" * 30_000, "list": [[[]]] * 500},
    {"when": "2026-02-30", "then": "0001-01-01T00:00:00+14:00", "later": "9999-12-31T23:59:59-14:00"},
    {"tab": "a\tb\\N", "end": "\\.", "quote": '"{}"', "null": "NULL", "copy": "\\N"},
]


async def test_hostile_events_cost_no_neighbour_and_no_event(warehouse_url: str, warehouse: SqlWarehouse) -> None:
    warehouse.max_columns = 300  # type: ignore[misc]  # a thousand take SQLite seconds
    records: list[EventRecord] = []
    for number, properties in enumerate(HOSTILE):
        records.append(record(f"good{number}", event=f"Good {number % 3}", properties={"number": number}))
        records.append(record(f"bad{number}", event=f"Hostile {number}", properties=properties))
        records.append(record(f"context{number}", "page", context=properties))
        records.append(record(f"traits{number}", "identify", userId=f"u{number}", traits=properties))
        records.append(record(f"name{number}", event=next(iter(properties))))
    await warehouse.deliver(messages(*records))
    assert [(len(records), len(records))] == select(warehouse_url, "SELECT count(*), count(DISTINCT id) FROM events")
    assert [(3 * len(HOSTILE),)] == select(warehouse_url, "SELECT count(*) FROM tracks")
    assert [(len(HOSTILE),)] == select(warehouse_url, "SELECT count(*) FROM users")
    assert (0, 0) == (warehouse.refused, warehouse.late_duplicates)
    await warehouse.deliver(messages(*records))
    assert len(records) == warehouse.late_duplicates
    assert [("a\tb\\N", "\\.", "\\N")] == select(warehouse_url, 'SELECT tab, "_end", "copy" FROM hostile_12')


async def test_what_no_database_takes_is_kept_as_a_note(warehouse_url: str, warehouse: SqlWarehouse) -> None:
    broken = EventRecord(source="website", event={"type": "track"})
    batch = messages(record("m1"), broken, record("m2"))
    await warehouse.deliver(batch)
    await warehouse.deliver(batch)
    assert [("m1",), ("m2",)] == select(warehouse_url, "SELECT id FROM tracks ORDER BY id")
    assert [
        (
            "warehouse_refused",
            "website",
            '{"record":"event","source":"website","event":{"type":"track"},"person_id":null,"rules":""}',
        )
    ] == select(warehouse_url, "SELECT code, source, payload FROM rejected_events")


class Sabotage:
    """A loader that fails where it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loads: list[int] = []
        self.refuses: dict[str, bool] = {}
        load = Loader.load

        def sabotaged(loader: Loader, items: list[Item], now: str) -> Loaded:
            self.loads.append(len(items))
            for item in items:
                untyped_too = self.refuses.get(getattr(item.record, "event", {}).get("messageId", ""))
                if untyped_too or (untyped_too is False and item.typed):
                    raise ValueError("sabotage")
            return load(loader, items, now)

        monkeypatch.setattr(Loader, "load", sabotaged)


async def test_the_one_at_fault_is_found_by_halving(
    warehouse_url: str, warehouse: SqlWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage = Sabotage(monkeypatch)
    sabotage.refuses = {"m37": False}
    await warehouse.deliver(messages(*(record(f"m{number}") for number in range(100))))
    assert [(100, 99)] == select(warehouse_url, "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM tracks)")
    assert [("m37", "kept in events, but not in the typed tables: ValueError: sabotage")] == select(
        warehouse_url, "SELECT message_id, message FROM rejected_events"
    )
    assert 1 == warehouse.refused
    assert len(sabotage.loads) < 20


async def test_an_event_that_not_even_events_takes_is_kept_as_a_note(
    warehouse_url: str, warehouse: SqlWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sabotage(monkeypatch).refuses = {"m1": True}
    await warehouse.deliver(messages(record("m0"), record("m1", properties={"a": 1}), record("m2")))
    assert [("m0",), ("m2",)] == select(warehouse_url, "SELECT id FROM events ORDER BY id")
    [(message, payload)] = select(warehouse_url, "SELECT message, payload FROM rejected_events")
    assert "ValueError: sabotage" == message
    assert '"properties":{"a":1}' in payload


async def test_when_not_even_a_note_can_be_kept_the_batch_waits(
    warehouse: SqlWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Loaded:
        raise ValueError("all is lost")

    monkeypatch.setattr(Loader, "load", broken)
    with pytest.raises(Retry, match="all is lost"):
        await warehouse.deliver(messages(record("m1")))
    assert 0 == warehouse.refused


async def test_records_of_every_kind_that_cannot_be_loaded_are_noted(
    warehouse_url: str, warehouse: SqlWarehouse
) -> None:
    bad = DeadLetter(**{**dict.fromkeys(DeadLetter.__struct_fields__, "x"), "attempts": 2**70, "status": None})
    long = Identity(type="user_id", value="x", person_id="p", seq=2**70, seen_at=NOW)
    await warehouse.deliver(messages(record("m1"), bad, long, letter("m2")))
    assert [("m1",)] == select(warehouse_url, "SELECT id FROM tracks")
    assert [("m2",)] == select(warehouse_url, "SELECT message_id FROM dead_letters")
    assert [(2,)] == select(warehouse_url, "SELECT count(*) FROM rejected_events WHERE code = 'warehouse_refused'")


async def test_many_lanes_at_once_lose_nothing(warehouse_url: str, warehouse: SqlWarehouse) -> None:
    other = warehouse_at(warehouse_url)

    async def lane(number: int) -> None:
        for batch in range(4):
            records = [
                record(f"m{number}-{batch}-{one}", event=f"Event {one % 5}", properties={f"p{batch}_{one % 7}": one})
                for one in range(30)
            ]
            users = [
                record(f"i{number}-{batch}-{one}", "identify", userId=f"u{one % 4}", traits={f"t{number}": batch})
                for one in range(10)
            ]
            shared = [record(f"shared{one}", userId="u") for one in range(20)]
            await (warehouse if number % 2 else other).deliver(messages(*records, *users, *shared))

    await asyncio.gather(*(lane(number) for number in range(6)))
    await other.close()
    assert [(6 * 4 * 40 + 20,)] == select(warehouse_url, "SELECT count(*) FROM events")
    assert [(6 * 4 * 30 + 20,)] == select(warehouse_url, "SELECT count(*) FROM tracks")
    assert [(4, 4, 4)] == select(warehouse_url, "SELECT count(*), count(t0), count(t5) FROM users")
    assert (0, 0) == (warehouse.refused, other.refused)
    assert 6 * 4 * 20 - 20 == warehouse.late_duplicates + other.late_duplicates


async def test_somebody_who_is_faster_again_and_again_does_not_stop_a_batch(
    warehouse_url: str, warehouse: SqlWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    await warehouse.deliver(messages(record("m1")))
    load, failures = Loader.load, iter(range(base.TRIES - 1))
    store_class = type(warehouse._idle[0].store)

    def slow(loader: Loader, items: list[Item], now: str) -> Loaded:
        if next(failures, None) is not None:
            raise ValueError("somebody else was faster")
        return load(loader, items, now)

    monkeypatch.setattr(Loader, "load", slow)
    monkeypatch.setattr(store_class, "trouble", lambda *_: Trouble.AGAIN)
    await warehouse.deliver(messages(record("m2")))
    assert [(2,)] == select(warehouse_url, "SELECT count(*) FROM tracks")
    assert 0 == warehouse.refused


async def test_a_table_that_an_operator_has_dropped_is_made_anew(warehouse_url: str, warehouse: SqlWarehouse) -> None:
    other = warehouse_at(warehouse_url)
    await warehouse.deliver(messages(record("m1", properties={"total": "ten"})))
    await other.deliver(messages(record("m2")))
    run(warehouse_url, "DROP TABLE order_completed")
    await warehouse.deliver(messages(record("m3", properties={"total": 10})))
    await other.deliver(messages(record("m4", properties={"total": 11})))
    await other.close()
    assert [("m3", 10), ("m4", 11)] == select(warehouse_url, "SELECT id, total FROM order_completed ORDER BY id")
    assert [(0, 1)] == select(
        warehouse_url,
        "SELECT (SELECT count(*) FROM rejected_events), (SELECT count(*) FROM eventrouter_tables)",
    )


async def test_a_whole_batch_in_trouble_is_through_in_time(warehouse_url: str, warehouse: SqlWarehouse) -> None:
    await warehouse.start()
    run(warehouse_url, "DROP TABLE tracks")
    began = time.monotonic()
    await warehouse.deliver(messages(*(record(f"m{number}") for number in range(100))))
    assert time.monotonic() - began < 30
    assert [(100, 100)] == select(
        warehouse_url, "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM rejected_events)"
    )


async def test_close_waits_for_no_lock_and_what_was_cut_short_is_loaded_later(
    warehouse_url: str, warehouse: SqlWarehouse
) -> None:
    await warehouse.start()
    batches = [messages(record("m1"), letter("m1")), messages(record("m2")), messages(record("m3"))]
    with locked(warehouse_url):
        deliveries = [asyncio.create_task(warehouse.deliver(batch)) for batch in batches]
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await warehouse.close()
        outcomes = await asyncio.gather(*deliveries, return_exceptions=True)
        assert time.monotonic() - began < 3
        assert [Retry] * 3 == [type(outcome) for outcome in outcomes]
        if warehouse_url.startswith("postgresql"):
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'relation'"
            )
            assert [(0,)] == select(warehouse_url, waiting)
    assert [(0,)] == select(warehouse_url, "SELECT count(*) FROM events")
    with pytest.raises(Retry, match="is being closed"):
        await warehouse.deliver(batches[0])
    other = warehouse_at(warehouse_url)
    for batch in batches:
        await other.deliver(batch)
    await other.close()
    assert [("m1",), ("m2",), ("m3",)] == select(warehouse_url, "SELECT id FROM tracks ORDER BY id")
    assert 0 == other.late_duplicates


async def test_close_cuts_a_long_load_short(
    warehouse_url: str, warehouse: SqlWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    await warehouse.start()
    load = Loader.load
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

    def slow(loader: Loader, items: list[Item], now: str) -> Loaded:
        loader.store.execute(endless)
        return load(loader, items, now)

    monkeypatch.setattr(Loader, "load", slow)
    delivery = asyncio.create_task(warehouse.deliver(messages(record("m1"))))
    await asyncio.sleep(0.2)
    began = time.monotonic()
    await warehouse.close()
    assert 0.4 < time.monotonic() - began < 2.5
    with pytest.raises(Retry):
        await delivery


async def test_a_batch_that_is_nearly_done_ends_before_the_warehouse_closes(
    warehouse_url: str, warehouse: SqlWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    await warehouse.start()
    load = Loader.load

    def slow(loader: Loader, items: list[Item], now: str) -> Loaded:
        time.sleep(0.2)
        return load(loader, items, now)

    monkeypatch.setattr(Loader, "load", slow)
    delivery = asyncio.create_task(warehouse.deliver(messages(record("m1"))))
    await asyncio.sleep(0.05)
    await warehouse.close()
    assert await delivery is None
    assert [("m1",)] == select(warehouse_url, "SELECT id FROM events")


async def test_a_start_that_is_cancelled_waits_for_no_lock(warehouse_url: str, warehouse: SqlWarehouse) -> None:
    await warehouse.start()
    other = warehouse_at(warehouse_url)
    with locked(warehouse_url):
        start = asyncio.create_task(other.start())
        await asyncio.sleep(0.2)
        began = time.monotonic()
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
        assert time.monotonic() - began < 3
        assert start.cancelled()
    with pytest.raises(Retry, match="is being closed"):
        await other.deliver(messages(record("m1")))


async def test_close_waits_for_no_server_that_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        warehouse = warehouse_at(f"postgresql://me:pw@127.0.0.1:{silent.getsockname()[1]}/app")
        delivery = asyncio.create_task(warehouse.deliver(messages(record("m1"))))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await warehouse.close()
        assert time.monotonic() - began < 3.5
        with pytest.raises(Retry, match="is being closed"):
            await delivery


def test_a_back_end_has_to_say_how_it_opens() -> None:
    bare = SqlWarehouse(Warehouse.Options(url="x"))
    with pytest.raises(TypeError, match="does not define open"):
        bare.open()


async def test_a_user_with_more_traits_than_a_row_holds_costs_nobody_anything(
    warehouse_url: str, warehouse: SqlWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = 0
    load = Loader.load

    def count(*args: Any) -> Loaded:
        nonlocal loads
        loads += 1
        return load(*args)

    monkeypatch.setattr(Loader, "load", count)
    for number in range(3):
        traits = {f"trait {number} {one}": "w" * 60 for one in range(290)}
        wide = record(f"wide{number}", "identify", userId="wide", traits=traits | {"seen": number})
        good = [record(f"m{number}{one}", "identify", userId=f"u{one}", traits={"seen": number}) for one in range(9)]
        await warehouse.deliver(messages(*good[:5], wide, *good[5:]))
    assert 3 == loads
    assert (0, [(10,)]) == (warehouse.refused, select(warehouse_url, "SELECT count(*) FROM users WHERE seen = 2"))
    assert [(30,)] == select(warehouse_url, "SELECT count(*) FROM identifies")
    lost = (
        "SELECT id, reason, min(value) FROM discarded_values WHERE table_name = 'users' AND id = 'wide2' GROUP BY 1, 2"
    )
    found = (
        []
        if warehouse_url.startswith("sqlite")
        else [("wide2", "more_values", "190"), ("wide2", "too_many_values", '"' + "w" * 60 + '"')]
    )
    assert found == sorted(select(warehouse_url, lost))
