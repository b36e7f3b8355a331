"""A merged row takes no more values than a row of the database holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from eventrouter.builtin.warehouse.store import Store
from eventrouter.builtin.warehouse.upserts import load_upserts
from eventrouter.builtin.warehouse.values import TEXT
from eventrouter.builtin.warehouse.widths import Excess, narrow
from warehouse_kit import NOW, at, opened, transaction

ROOM = 6
"""Values in a row: id, three times, and two traits."""


@pytest.fixture
def store(warehouse_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with opened(warehouse_url) as store:
        store.add_columns("users", dict.fromkeys("abcde", TEXT))
        monkeypatch.setattr(store, "max_values", ROOM)
        yield store


def user(id_: str = "u1", **traits: Any) -> dict[str, Any]:
    return {"id": id_, "timestamp": at(1), "received_at": at(1), "uuid_ts": NOW} | traits


def merge(store: Store, *rows: dict[str, Any]) -> list[Excess]:
    kinds = store.columns("users") or {}
    with transaction(store):
        excess = narrow(store, "users", kinds, rows)
        load_upserts(store, "users", kinds, rows)
    return excess


def users(store: Store) -> list[tuple[Any, ...]]:
    return store.execute("SELECT id, a, b, c, d, e FROM users ORDER BY id")


def test_a_full_row_gets_no_further_column_but_new_values_for_those_that_it_has(store: Store) -> None:
    assert [] == merge(store, user(a="1"))
    assert [Excess(0, "c", "1")] == merge(store, user(b="1", c="1"))
    assert [Excess(0, "d", "2")] == merge(store, user(a="2", d="2"))
    assert [("u1", "2", "1", None, None, None)] == users(store)


def test_rows_of_one_batch_are_counted_together(store: Store) -> None:
    excess = merge(store, user(a="1"), user("u2", c="1"), user(b="2", c="2", a="2"), user(d="3", b="3"))
    assert [Excess(2, "c", "2"), Excess(3, "d", "3")] == excess
    assert [("u1", "2", "3", None, None, None), ("u2", None, None, "1", None, None)] == users(store)


def test_a_row_that_is_too_wide_already_is_merged_in_what_it_has(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "max_values", 9)
    merge(store, user(a="1", b="1", c="1", d="1"))
    monkeypatch.setattr(store, "max_values", ROOM)
    assert [Excess(0, "e", "2")] == merge(store, user(a="2", d="2", e="2"))
    assert [("u1", "2", "1", "1", "2", None)] == users(store)


def test_what_is_null_takes_no_room(store: Store) -> None:
    assert [] == merge(store, user(a="1", b=None, c=None, d="1"))
    assert [] == merge(store, user(b=None, c=None))
    assert [("u1", "1", None, None, "1", None)] == users(store)


def test_a_narrow_table_is_not_asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "max_values", 9)
    monkeypatch.delattr(type(store), "filled")
    assert [] == merge(store, user(a="1", b="1", c="1", d="1", e="1"))


def test_nothing_to_merge_is_nothing_too_much(store: Store) -> None:
    assert [] == narrow(store, "users", store.columns("users") or {}, [])
