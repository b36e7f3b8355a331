"""What is known of a database, and what a batch wants to add."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eventrouter.builtin.warehouse import schema
from eventrouter.builtin.warehouse.catalog import Catalog
from eventrouter.builtin.warehouse.store import Room, Store
from eventrouter.builtin.warehouse.values import NUMBER, TEXT
from warehouse_kit import NOW, opened, store_at, transaction


@pytest.fixture
def store(warehouse_url: str) -> Iterator[Store]:
    with opened(warehouse_url) as store:
        yield store


def catalog_of(store: Store, *, max_tables: int = 100, max_columns: int = 100) -> Catalog:
    return Catalog(store, max_tables=max_tables, max_columns=max_columns)


def test_a_new_column_is_pending_until_it_is_applied(store: Store) -> None:
    catalog = catalog_of(store)
    assert not catalog.pending
    assert NUMBER == catalog.column("users", "age", 7)
    assert NUMBER == catalog.column("users", "age", "seven")
    assert catalog.pending
    with transaction(store):
        assert catalog.confirm()
        catalog.apply(NOW)
    assert not catalog.pending
    assert NUMBER == (store.columns("users") or {})["age"]
    assert NUMBER == catalog_of(store).column("users", "age", "seven")


def test_a_new_event_has_a_table_with_all_its_columns(store: Store) -> None:
    catalog = catalog_of(store)
    assert "order_completed" == catalog.event_table("Order Completed")
    assert "order_completed" == catalog.event_table("orderCompleted")
    catalog.column("order_completed", "total", 7)
    with transaction(store):
        assert catalog.confirm()
        catalog.apply(NOW)
    assert schema.EVENT_TABLE | {"total": NUMBER} == store.columns("order_completed")
    assert [("order_completed", "order_completed", "Order Completed")] == store.execute(
        "SELECT event, table_name, event_text FROM eventrouter_tables"
    )
    assert not catalog.pending
    assert "order_completed" == catalog_of(store).event_table("order_completed")


def test_somebody_elses_table_is_left_alone(store: Store) -> None:
    store.execute("CREATE TABLE orders (id integer)")
    store.execute("CREATE VIEW _orders AS SELECT 1 AS a")
    catalog = catalog_of(store)
    assert "__orders" == catalog.event_table("orders")
    with transaction(store):
        assert catalog.confirm()
        catalog.apply(NOW)
    assert "__orders" == catalog_of(store).event_table("Orders")


def test_tables_and_columns_are_bounded(store: Store) -> None:
    catalog = catalog_of(store, max_tables=1, max_columns=len(schema.EVENT_TABLE) + 1)
    assert "one" == catalog.event_table("One")
    assert catalog.event_table("Two") is None
    assert "one" == catalog.event_table("one")
    assert TEXT == catalog.column("one", "a", "x")
    assert catalog.column("one", "b", "x") is None
    assert TEXT == catalog.column("one", "a", "y")


def room_of(store: Store, monkeypatch: pytest.MonkeyPatch, new: int, added: int) -> Catalog:
    monkeypatch.setattr(type(store), "room", lambda store: Room(new, added))
    return catalog_of(store)


def test_all_tables_together_have_no_more_columns_than_the_database_has_room_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = room_of(store, monkeypatch, new=3, added=9)
    assert "" == catalog.refusal("users")
    assert [TEXT, TEXT] == [catalog.column(table, "a", "x") for table in ("users", "pages")]
    assert "one" == catalog.event_table("One")
    assert [TEXT, None] == [catalog.column("one", name, "x") for name in ("a", "b")]
    assert {"too_many_columns"} == {catalog.refusal(table) for table in ("users", "one")}
    assert TEXT == catalog.column("pages", "a", "x")


def test_a_transaction_adds_no_more_columns_than_is_fast_but_makes_tables_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = room_of(store, monkeypatch, new=9, added=1)
    assert [TEXT, None] == [catalog.column("users", name, "x") for name in ("a", "b")]
    assert "too_many_new_columns" == catalog.refusal("pages")
    assert "one" == catalog.event_table("One")
    assert [TEXT, TEXT] == [catalog.column("one", name, "x") for name in ("a", "b")]


def test_each_transaction_asks_again_how_much_room_there_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = room_of(store, monkeypatch, new=9, added=1)
    with transaction(store):
        catalog.column("users", "a", "x")
        catalog.apply(NOW)
    assert catalog.column("users", "b", "x") is None
    catalog.begin()
    assert TEXT == catalog.column("users", "b", "x")


def test_a_faster_worker_makes_the_batch_look_again(warehouse_url: str, store: Store) -> None:
    slow, fast_store = catalog_of(store), store_at(warehouse_url)
    fast = catalog_of(fast_store)
    slow.event_table("One")
    slow.column("users", "age", 7)
    fast.event_table("One")
    fast.column("users", "age", "seven")
    with transaction(fast_store):
        assert fast.confirm()
        fast.apply(NOW)
    with transaction(store):
        assert not slow.confirm()
        assert not slow.pending
        assert TEXT == slow.column("users", "age", 7)
        assert "one" == slow.event_table("One")
        assert not slow.pending
    fast_store.close()


@pytest.mark.parametrize("what", ["table", "column"])
def test_either_alone_is_noticed(warehouse_url: str, store: Store, what: str) -> None:
    catalogs = [catalog_of(store), catalog_of(store_at(warehouse_url))]
    for catalog in catalogs:
        if what == "table":
            catalog.event_table("One")
        else:
            catalog.column("users", "age", 7)
    with transaction(catalogs[1]._store):
        assert catalogs[1].confirm()
        catalogs[1].apply(NOW)
    catalogs[1]._store.close()
    assert not catalogs[0].confirm()


def test_clear_forgets_what_was_pending(store: Store) -> None:
    catalog = catalog_of(store)
    catalog.column("users", "age", 7)
    catalog.clear()
    assert not catalog.pending
    assert "age" not in catalog.columns("users")


def test_a_missing_table_has_no_columns(store: Store) -> None:
    assert {} == catalog_of(store).columns("nowhere")


def test_long_names_are_not_remembered(store: Store) -> None:
    catalog = catalog_of(store)
    name = "x" * 300
    assert catalog.event_table(name) == catalog.event_table(name)
    assert {} == catalog._by_text
