"""A connection to a SQLite file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from eventrouter.builtin.warehouse import sqlite_store
from eventrouter.builtin.warehouse.migrations import migrate
from eventrouter.builtin.warehouse.sqlite_store import SqliteStore
from eventrouter.builtin.warehouse.store import Trouble
from eventrouter.builtin.warehouse.values import BOOLEAN, DOUBLE, INTEGER, NUMBER, OTHER, TEXT, TIMESTAMP
from warehouse_kit import NOW


@pytest.fixture
def store(tmp_path: Path):
    store = SqliteStore(tmp_path / "w.sqlite3")
    migrate(store, NOW)
    yield store
    store.close()


def row(id_: str, source: str = "website") -> tuple[object, ...]:
    return (id_, source, "track", None, None, None, NOW, NOW, "{}", "")


def test_a_commit_is_synced_and_readers_are_not_kept_out(store: SqliteStore) -> None:
    assert [("wal",)] == store.execute("PRAGMA journal_mode")
    assert [(2,)] == store.execute("PRAGMA synchronous")


def test_only_new_events_are_added_and_told(store: SqliteStore) -> None:
    store.begin()
    assert {("a", "website"), ("b", "website")} == store.insert_events([row("a"), row("b")])
    store.commit()
    store.begin()
    assert {("a", "app"), ("c", "website")} == store.insert_events([row("a"), row("a", "app"), row("c")])
    assert set() == store.insert_events([row("a"), row("b")])
    store.commit()
    assert [(4,)] == store.execute("SELECT count(*) FROM events")


def test_more_events_than_fit_into_one_question_are_found(store: SqliteStore) -> None:
    rows = [row(f"e{number}") for number in range(2500)]
    store.begin()
    assert 2500 == len(store.insert_events(rows))
    assert set() == store.insert_events(rows)
    store.commit()


def test_each_column_leaves_less_room(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    [(columns,)] = store.execute(
        "SELECT count(*) FROM sqlite_master m JOIN pragma_table_info(m.name) WHERE m.type = 'table'"
    )
    room = store.room()
    assert (sqlite_store.MAX_COLUMNS - columns, sqlite_store.MAX_READ_AGAIN // columns) == (room.new, room.added)
    store.add_columns("users", {"a": TEXT, "b": TEXT})
    assert room.new - 2 == store.room().new
    monkeypatch.setattr(sqlite_store, "MAX_COLUMNS", 10)
    assert 0 == store.room().new


def test_a_rollback_leaves_nothing(store: SqliteStore) -> None:
    store.begin()
    store.insert_events([row("a")])
    store.rollback()
    store.rollback()
    assert [(0,)] == store.execute("SELECT count(*) FROM events")


def test_insert_and_merge_write_rows(store: SqliteStore) -> None:
    store.insert("discarded_values", ["source", "value"], [("website", "1"), ("website", None)])
    assert [("1",), (None,)] == store.execute("SELECT value FROM discarded_values")
    columns = {"id": TEXT, "code": TEXT}
    for code in ("first", "second"):
        store.merge("rejected_events", columns, [("r1", code)], "ON CONFLICT (id) DO UPDATE SET code = excluded.code")
    assert [("r1", "second")] == store.execute("SELECT id, code FROM rejected_events")


def test_columns_and_their_kinds_are_read_back(store: SqliteStore) -> None:
    added = {"größe": NUMBER, "on": BOOLEAN, "d": DOUBLE, "t": TIMESTAMP, "x": TEXT, "i": INTEGER}
    store.add_columns("aliases", added)
    store.execute("ALTER TABLE aliases ADD COLUMN theirs BLOB")
    found = store.columns("aliases")
    assert found is not None
    assert added | {"theirs": OTHER} == {name: found[name] for name in (*added, "theirs")}
    assert store.columns("nothing") is None
    assert {"aliases", "resolved_events", "eventrouter_migrations"} <= store.relations()


def test_one_writer_waits_for_another(tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "BUSY_TIMEOUT", 0.1)
    other = SqliteStore(tmp_path / "w.sqlite3")
    store.begin()
    with pytest.raises(sqlite3.OperationalError) as caught:
        other.begin()
    assert Trouble.AWAY is other.trouble(caught.value)
    store.commit()
    other.begin()
    other.rollback()
    other.close()


@pytest.mark.parametrize("replace", [True, False])
def test_a_file_that_was_taken_away_is_not_written_to(tmp_path: Path, store: SqliteStore, replace: bool) -> None:
    path = tmp_path / "w.sqlite3"
    path.rename(tmp_path / "moved.sqlite3")
    if replace:
        path.touch()
    with pytest.raises(sqlite3.OperationalError, match="moved, replaced or deleted") as caught:
        store.begin()
    assert Trouble.AWAY is store.trouble(caught.value)


def caught_from(store: SqliteStore, sql: str, values: tuple[object, ...] = ()) -> Exception:
    with pytest.raises(Exception) as caught:
        store.execute(sql, values)
    return caught.value


def test_trouble_tells_whose_fault_it_is(tmp_path: Path, store: SqliteStore) -> None:
    assert Trouble.STALE is store.trouble(caught_from(store, "INSERT INTO nowhere VALUES (1)"))
    assert Trouble.DATA is store.trouble(caught_from(store, "INSERT INTO users (id) VALUES (NULL)"))
    assert Trouble.DATA is store.trouble(caught_from(store, "SELECT ?", (2**64,)))
    assert Trouble.DATA is store.trouble(caught_from(store, "SELECT ?", ("\ud800",)))
    assert Trouble.DATA is store.trouble(caught_from(store, "SELECT ?", (object(),)))
    assert Trouble.AWAY is store.trouble(MemoryError())
    assert Trouble.AWAY is store.trouble(PermissionError())
    (tmp_path / "text").write_text("not a database" * 100)
    with pytest.raises(sqlite3.DatabaseError) as caught:
        SqliteStore(tmp_path / "text")
    assert Trouble.AWAY is store.trouble(caught.value)


def test_a_full_disk_is_nobodys_fault(store: SqliteStore) -> None:
    [(pages,)] = store.execute("PRAGMA page_count")
    store.execute(f"PRAGMA max_page_count = {pages}")
    store.begin()
    with pytest.raises(sqlite3.OperationalError, match="full") as caught:
        store.insert("discarded_values", ["value"], [("x" * 5000,) for _ in range(200)])
    assert Trouble.AWAY is store.trouble(caught.value)
    store.rollback()


def test_what_is_not_null_is_told_of_rows_that_have_much(store: SqliteStore) -> None:
    columns = {f"c{number}": TEXT for number in range(250)} | {"100%": TEXT, "why?": TEXT}
    store.add_columns("users", columns)
    store.begin()
    for key, names in {"a": ["c0", "c249"], "b": ["c101"], "c": []}.items():
        store.insert("users", ["id", *names], [(key, *names)])
    store.commit()
    ids = ["a", "b", "c", "nobody"]
    assert {"a": {"c0", "c249"}, "b": {"c101"}} == store.filled("users", list(columns), ids, 0)
    assert {"a": {"id", "c0"}} == store.filled("users", ["id", "c0", "c1"], ids, 1)
    assert {"a", "b", "c"} == store.filled("users", ["c1"], ids, -1).keys()
