"""One row per user, in which the later event wins."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from eventrouter.builtin.warehouse.store import Store
from eventrouter.builtin.warehouse.upserts import fold, load_upserts
from eventrouter.builtin.warehouse.values import NUMBER, TEXT
from warehouse_kit import NOW, at, opened, transaction


@pytest.fixture
def store(warehouse_url: str) -> Iterator[Store]:
    with opened(warehouse_url) as store:
        store.add_columns("users", {"email": TEXT, "age": NUMBER, "order": TEXT})
        yield store


def user(second: int, id_: str = "u1", **traits: Any) -> dict[str, Any]:
    return {"id": id_, "timestamp": at(second), "received_at": at(second), "uuid_ts": NOW} | traits


def load(store: Store, *rows: dict[str, Any]) -> None:
    with transaction(store):
        load_upserts(store, "users", store.columns("users") or {}, rows)


def users(store: Store) -> list[tuple[Any, ...]]:
    return store.execute('SELECT id, timestamp, email, age, "order" FROM users ORDER BY id')


def test_a_later_value_wins_and_an_absent_one_takes_nothing_away(store: Store) -> None:
    load(store, user(1, email="old", age=7))
    load(store, user(2, email="new", order="x"))
    assert [("u1", at(2), "new", 7, "x")] == users(store)


def test_an_earlier_event_that_comes_late_only_fills_what_is_empty(store: Store) -> None:
    load(store, user(5, email="new"))
    load(store, user(1, email="old", age=7))
    assert [("u1", at(5), "new", 7, None)] == users(store)


def test_of_equal_times_the_last_one_wins(store: Store) -> None:
    load(store, user(1, email="a"), user(1, email="b"))
    assert [("u1", at(1), "b", None, None)] == users(store)
    load(store, user(1, email="c"))
    assert [("u1", at(1), "c", None, None)] == users(store)


def test_a_batch_around_the_stored_time_is_not_mixed_up(store: Store) -> None:
    load(store, user(5, email="stored"))
    load(store, user(7, age=7), user(3, email="older", order="older"))
    assert [("u1", at(7), "stored", 7, "older")] == users(store)


def test_users_are_apart(store: Store) -> None:
    load(store, user(1, "u2", email="b"), user(1, "u1", email="a"), user(2, "u2", age=7))
    assert [("u1", at(1), "a", None, None), ("u2", at(2), "b", 7, None)] == users(store)


def test_nothing_to_load_is_nothing_done(store: Store) -> None:
    load(store)
    assert [] == users(store)


def test_in_every_order_of_arrival_the_latest_event_holds_and_no_column_stays_empty(store: Store) -> None:
    rows = [user(1, email="a", age=1), user(2, email="b"), user(3, age=3, order="c")]
    for number, order in enumerate(itertools.permutations(rows)):
        for row in order:
            load(store, row | {"id": f"u{number}"})
    assert {(at(3), 3, "c")} == {(row[1], row[3], row[4]) for row in users(store)}
    assert {"a", "b"} == {row[2] for row in users(store)}


def test_fold_keeps_the_newest_of_each_column() -> None:
    folded = fold([user(3, email="c", age=None), user(1, email="a", age=1), user(2, email=None)])
    assert user(3, email="c", age=1) == folded
