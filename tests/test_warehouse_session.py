"""What is done over one connection to a warehouse's database."""

from __future__ import annotations

from datetime import UTC, datetime

from eventrouter.builtin.warehouse.prepare import prepare
from eventrouter.builtin.warehouse.schema import OUR_TABLES
from eventrouter.builtin.warehouse.session import Session
from eventrouter.events import StoredEvent
from eventrouter.warehouse import EventId
from warehouse_kit import NOW, RECEIVED, event, letter, messages, record, store_at


def test_it_makes_the_tables_loads_into_them_and_answers_from_them(warehouse_url: str) -> None:
    store = store_at(warehouse_url)
    session = Session(store, NOW, max_tables=9, max_columns=99)
    assert OUR_TABLES <= store.relations()
    loaded = session.load(prepare(messages(record("m1"), letter("m1")), NOW), NOW)
    assert 1 == loaded.events
    found = StoredEvent("website", event("m1"))
    day = {"since": datetime(2026, 11, 24, tzinfo=UTC), "until": datetime(2026, 11, 25, tzinfo=UTC)}
    assert [found] == session.find_events([("website", "m1")])
    assert [found] == session.scan_events(**day, newest_first=True, limit=9, after=None)
    assert 1 == session.count_events(**day)
    assert [EventId(RECEIVED, "website", "m1")] == session.scan_ids(**day, limit=9, after=None)
    assert ["website"] == [row["source"] for row in session.find_stored("m1")]
    assert [] == session.find_rejected(message_id=None, code=None, limit=9, after="")
    assert {("crm", "permanent"): 1} == session.count_dead_letters()
    assert ["m1"] == [row["message_id"] for row in session.find_dead_letters()]
    store.close()
