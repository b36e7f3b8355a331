"""Events become rows of the typed tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventrouter.builtin.warehouse import typed
from eventrouter.builtin.warehouse.catalog import Catalog
from eventrouter.builtin.warehouse.store import Room, Store
from eventrouter.builtin.warehouse.typed import Names, TypedRows
from warehouse_kit import NOW, RECEIVED, SENT, event, opened

BASE = {
    "source_name": "website",
    "anonymous_id": "anon",
    "user_id": None,
    "uuid_ts": NOW,
    "timestamp": SENT,
    "received_at": RECEIVED,
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(f"sqlite:///{tmp_path / 'w.sqlite3'}") as store:
        yield store


def rows_of(store: Store, *events: dict[str, Any], max_values: int = 1000, **limits: int) -> TypedRows:
    catalog = Catalog(store, **{"max_tables": 100, "max_columns": 200} | limits)
    rows = TypedRows(catalog, Names(), NOW, max_values)
    for one in events:
        rows.add("website", one)
    return rows


def discarded(rows: TypedRows) -> list[tuple[Any, ...]]:
    return [row[1:7] for row in rows.discarded]


def test_a_track_event_has_a_row_in_tracks_and_one_in_its_own_table(store: Store) -> None:
    rows = rows_of(
        store,
        event(
            "m1",
            context={"ip": "::1", "page": {"url": "/"}},
            properties={"total": 9.5, "items": [1]},
            originalTimestamp="2026-11-24T18:00:00+01:00",
            sentAt="2026-11-24",
        ),
    )
    base = BASE | {
        "id": "m1",
        "event": "order_completed",
        "event_text": "Order Completed",
        "original_timestamp": "2026-11-24T17:00:00.000Z",
        "sent_at": "2026-11-24T00:00:00.000Z",
        "context_ip": "::1",
        "context_page_url": "/",
    }
    assert {"tracks": [base], "order_completed": [base | {"total": 9.5, "items": "[1]"}]} == rows.rows
    assert [] == rows.discarded


@pytest.mark.parametrize("type_", ["page", "screen"])
def test_a_page_has_its_name_from_the_event_else_from_its_properties(store: Store, type_: str) -> None:
    rows = rows_of(
        store,
        event("m1", type_, name="Home", category="A", properties={"name": "Home", "category": "B", "url": "/"}),
        event("m2", type_, properties={"name": "Inner", "category": "C"}),
        event("m3", type_),
    )
    assert [
        BASE | {"id": "m1", "name": "Home", "category": "A", "_category": "B", "url": "/"},
        BASE | {"id": "m2", "name": "Inner", "category": "C"},
        BASE | {"id": "m3", "name": None, "category": None},
    ] == rows.rows[f"{type_}s"]


def test_an_identify_is_a_row_and_its_user_another(store: Store) -> None:
    traits = {"email": "a@b.c", "id": "u1", "userId": "other", "address": {"city": "Rome"}}
    rows = rows_of(store, event("m1", "identify", userId="u1", traits=traits, context={"ip": "::1"}))
    own = {"email": "a@b.c", "_user_id": "other", "address_city": "Rome", "context_ip": "::1"}
    assert {"identifies": [BASE | {"id": "m1", "user_id": "u1"} | own]} == rows.rows
    assert [{"id": "u1", "timestamp": SENT, "received_at": RECEIVED, "uuid_ts": NOW} | own] == rows.upserts["users"]


def test_an_anonymous_identify_makes_no_user(store: Store) -> None:
    rows = rows_of(store, event("m1", "identify", traits={"email": "a"}), event("m2", "identify", userId=""))
    assert [] == rows.upserts["users"]
    assert 2 == len(rows.rows["identifies"])


def test_a_group_is_a_row_and_its_account_another(store: Store) -> None:
    rows = rows_of(store, event("m1", "group", groupId="g1", traits={"name": "Acme", "id": "g1", "group_id": "x"}))
    own = {"name": "Acme", "_group_id": "x"}
    assert {"groups": [BASE | {"id": "m1", "group_id": "g1"} | own]} == rows.rows
    assert [{"id": "g1", "timestamp": SENT, "received_at": RECEIVED, "uuid_ts": NOW} | own] == rows.upserts["accounts"]


def test_an_alias_names_both_ids(store: Store) -> None:
    rows = rows_of(store, event("m1", "alias", userId="new", previousId="old"))
    assert {"aliases": [BASE | {"id": "m1", "user_id": "new", "previous_id": "old"}]} == rows.rows


def test_an_unknown_type_has_no_typed_row(store: Store) -> None:
    assert {} == rows_of(store, event("m1", "delete")).rows


def test_ids_that_are_no_strings_become_text(store: Store) -> None:
    [row] = rows_of(store, event("m1", "page", anonymousId=7, userId={"a": 1})).rows["pages"]
    assert ("7", '{"a":1}') == (row["anonymous_id"], row["user_id"])


def test_what_does_not_fit_is_discarded_with_its_reason(store: Store) -> None:
    rows = rows_of(
        store,
        event("m1", properties={"total": 10, "ok": True, "at": "2026-11-24", "text": "a"}),
        event("m2", properties={"total": "ten", "ok": 1, "at": "now", "text": 5, "fine": 1}),
        event("m3", properties={"total": 10.5}),
    )
    assert [
        ("order_completed", "total", "m2", '"ten"', "number", "type_mismatch"),
        ("order_completed", "ok", "m2", "1", "boolean", "type_mismatch"),
        ("order_completed", "at", "m2", '"now"', "timestamp", "type_mismatch"),
    ] == discarded(rows)
    assert [10, None, 10.5] == [row.get("total") for row in rows.rows["order_completed"]]
    assert {"text": "5", "fine": 1} == {key: rows.rows["order_completed"][1][key] for key in ("text", "fine")}
    assert ("website", RECEIVED) == (rows.discarded[0][0], rows.discarded[0][7])


def test_a_time_that_cannot_be_read_is_discarded_once(store: Store) -> None:
    rows = rows_of(store, event("m1", sentAt="soon", originalTimestamp=17))
    assert [
        ("tracks", "original_timestamp", "m1", "17", "timestamp", "type_mismatch"),
        ("tracks", "sent_at", "m1", '"soon"', "timestamp", "type_mismatch"),
    ] == discarded(rows)
    assert rows.rows["tracks"][0]["sent_at"] is None


def test_of_two_names_for_one_column_the_loser_is_discarded(store: Store) -> None:
    rows = rows_of(store, event("m1", properties={"userName": "a", "user_name": "b"}, context={"a b": 1, "aB": 2}))
    assert [
        ("tracks", "context_a_b", "m1", "2", "number", "name_clash"),
        ("order_completed", "context_a_b", "m1", "2", "number", "name_clash"),
        ("order_completed", "user_name", "m1", '"a"', "text", "name_clash"),
    ] == discarded(rows)


def test_beyond_the_limit_of_columns_values_are_discarded(store: Store) -> None:
    rows = rows_of(store, event("m1", properties={"a": 1, "b": 2, "c": 3}), max_columns=13)
    assert {"a": 1, "b": 2} == {key: rows.rows["order_completed"][0].get(key) for key in ("a", "b")}
    assert [("order_completed", "c", "m1", "3", None, "too_many_columns")] == discarded(rows)


def test_beyond_what_a_transaction_may_add_values_are_discarded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(store), "room", lambda store: Room(new=100, added=1))
    rows = rows_of(store, event("m1", "page", properties={"a": 1, "b": 2}), event("m2", properties={"a": 1, "b": 2}))
    assert [("pages", "b", "m1", "2", None, "too_many_new_columns")] == discarded(rows)
    assert {"a": 1, "b": 2} == {key: rows.rows["order_completed"][0].get(key) for key in ("a", "b")}


def test_beyond_the_limit_of_values_in_a_row_they_are_discarded(store: Store) -> None:
    rows = rows_of(store, event("m1", properties={"a": 1, "b": 2, "c": 3}), max_values=10)
    assert 10 == len(rows.rows["order_completed"][0])
    assert ["b", "c"] == [row[1] for row in discarded(rows)]
    assert {"too_many_values"} == {row[5] for row in discarded(rows)}


def test_beyond_the_limit_of_tables_an_event_is_in_tracks_only(store: Store) -> None:
    rows = rows_of(store, event("m1"), event("m2", event="Other", properties={"a": 1}), max_tables=1)
    assert ["tracks", "order_completed"] == list(rows.rows)
    assert [None, "Other"] == [rows.rows["tracks"][1][key] for key in ("event", "event_text")]
    assert [("Other", None, "m2", None, None, "too_many_tables")] == discarded(rows)


def test_thousands_of_discarded_values_are_counted_not_kept(store: Store) -> None:
    rows = rows_of(store, event("m1", properties={f"p{number}": 1 for number in range(5000)}), max_columns=11)
    found = discarded(rows)
    assert typed.MAX_DISCARDS + 1 == len(found)
    assert ("order_completed", None, "m1", str(5000 - typed.MAX_DISCARDS), None, "more_values") == found[-1]


def test_an_id_that_no_index_takes_makes_no_user(store: Store) -> None:
    rows = rows_of(store, event("m1", "identify", userId="x" * 1001), event("m2", "identify", userId="x" * 1000))
    assert ["m2"] == [row["id"] for row in rows.rows["identifies"][1:]]
    assert ["x" * 1000] == [row["id"] for row in rows.upserts["users"]]
    assert ["id_too_long"] == [row[5] for row in discarded(rows)]


def test_a_clock_that_runs_ahead_does_not_win_for_ever(store: Store) -> None:
    rows = rows_of(store, event("m1", "identify", userId="u1", timestamp="2099-01-01T00:00:00.000Z"))
    assert RECEIVED == rows.upserts["users"][0]["timestamp"]
    assert "2099-01-01T00:00:00.000Z" == rows.rows["identifies"][0]["timestamp"]


@pytest.mark.parametrize("junk", [None, "text", 5, [1], {}])
def test_what_is_no_object_has_no_columns(store: Store, junk: Any) -> None:
    rows = rows_of(store, event("m1", context=junk, properties=junk), event("m2", "identify", userId="u", traits=junk))
    assert BASE | {"id": "m1", "event": "order_completed", "event_text": "Order Completed"} == rows.rows["tracks"][0]
    assert 1 == len(rows.upserts["users"])
