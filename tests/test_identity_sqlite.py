"""The state database in a SQLite file."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventrouter.builtin.identity import schema
from eventrouter.builtin.identity.graph import key_of
from eventrouter.builtin.identity.sqlite import CHUNK, SqliteStore
from eventrouter.builtin.identity.store import OUTBOX_LIMIT, Changes, Moved, StateError

A = key_of("anonymous_id", "a")
U = key_of("user_id", "u")
TIME = "2026-11-24T17:00:00.123Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path, busy_timeout=0.2)
    yield store
    store.close()


def write(store: SqliteStore, changes: Changes, records: list[tuple[int, str]] | None = None) -> list[Moved]:
    store.begin([], 0, 0)
    moved = store.apply(changes)
    store.commit(0, records or [], {})
    return moved


def changes(**more: list[tuple[object, ...]]) -> Changes:
    return Changes(**{"persons": [], "identifiers": [], "users": [], "merges": [], **more})  # type: ignore[arg-type]


PERSON = changes(persons=[("p", None, TIME)], identifiers=[(A, "anonymous_id", "a", "p", None, TIME)])


def test_an_unknown_identifier_is_not_in_the_snapshot(store: SqliteStore) -> None:
    assert store.load([A, U], 0, 0) == ({}, [])


def test_what_was_written_is_found_again_after_reopening(store: SqliteStore, path: Path) -> None:
    write(store, PERSON)
    store.close()
    again = SqliteStore(path)
    assert again.load([A, U], 0, 0).snapshot == {A: ("p", None)}
    again.close()


def test_a_person_gets_its_user(store: SqliteStore) -> None:
    write(store, PERSON)
    write(store, changes(users=[(U, "p")], identifiers=[(U, "user_id", "u", "p", U, TIME)]))
    assert store.load([A, U], 0, 0).snapshot == {A: ("p", U), U: ("p", U)}


def test_a_merge_moves_all_identifiers_and_tells_which(store: SqliteStore, path: Path) -> None:
    write(store, PERSON)
    write(store, changes(persons=[("q", None, TIME)], identifiers=[(U, "user_id", "u", "q", U, TIME)]))
    assert write(store, changes(merges=[("q", U, "p")])) == [("anonymous_id", "a", "q")]
    assert store.load([A], 0, 0).snapshot == {A: ("q", U)}
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT merged_into FROM persons WHERE person_id = 'p'").fetchall() == [("q",)]
    connection.close()


def test_more_ids_than_fit_one_statement_are_found(store: SqliteStore) -> None:
    keys = [key_of("anonymous_id", str(number)) for number in range(2 * CHUNK + 1)]
    rows = [(key, "anonymous_id", "x", "p", None, TIME) for key in keys]
    write(store, changes(persons=[("p", None, TIME)], identifiers=rows))
    assert set(store.load(keys, 0, 0).snapshot) == set(keys)


def test_the_outbox_keeps_the_order_and_is_taken_out_up_to_what_is_settled(store: SqliteStore) -> None:
    write(store, changes(), [(5, "five"), (6, "six")])
    write(store, changes(), [(7, "seven")])
    assert store.load([], 0, 0).waiting == [(5, "five"), (6, "six"), (7, "seven")]
    assert store.load([], 0, 6).waiting == [(7, "seven")]
    assert store.load([], 1, 0).waiting == []
    store.forget({0: 6, 1: 100})
    assert store.load([], 0, 0).waiting == [(7, "seven")]


def test_at_most_so_many_waiting_records_are_read_at_once(store: SqliteStore) -> None:
    write(store, changes(), [(number, "r") for number in range(1, OUTBOX_LIMIT + 11)])
    assert store.load([], 0, 0).waiting[-1] == (OUTBOX_LIMIT, "r")
    assert len(store.load([], 0, OUTBOX_LIMIT).waiting) == 10


def test_seq_goes_on_from_the_highest(store: SqliteStore) -> None:
    write(store, changes(), [(5, "five"), (6, "six")])
    last, _ = store.begin([], 0, 0)
    store.rollback()
    assert last == 6


def test_a_rollback_leaves_nothing_behind(store: SqliteStore) -> None:
    store.begin([], 0, 0)
    store.apply(PERSON)
    store.rollback()
    assert store.load([A], 0, 0).snapshot == {}


def test_a_commit_survives_a_power_loss(store: SqliteStore) -> None:
    store.open()
    assert store._connection is not None
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_second_writer_waits_for_its_turn_and_sees_what_the_first_wrote(store: SqliteStore, path: Path) -> None:
    other = SqliteStore(path, busy_timeout=10)
    other.open()
    store.begin([], 0, 0)
    seen = []

    def second() -> None:
        seen.append(other.begin([A], 0, 0)[1].snapshot)
        other.rollback()

    thread = threading.Thread(target=second)
    thread.start()
    time.sleep(0.1)
    store.apply(PERSON)
    store.commit(0, [], {})
    thread.join()
    other.close()
    assert seen == [{A: ("p", None)}]


def test_a_file_locked_for_too_long_is_an_error_that_says_so(store: SqliteStore, path: Path) -> None:
    store.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError) as caught:
        store.begin([], 0, 0)
    assert store.load([A], 0, 0).snapshot == {}
    other.close()
    assert store.describe(caught.value) == "database is locked"


def test_a_missing_folder_is_an_error_with_advice(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "missing" / "state.sqlite3")
    with pytest.raises(sqlite3.OperationalError) as caught:
        store.open()
    assert "does its folder exist" in store.describe(caught.value)


def test_a_file_that_is_no_database_is_refused_with_advice(path: Path) -> None:
    path.write_bytes(b"name,email\n" * 1000)
    with pytest.raises(StateError, match="no SQLite database"):
        SqliteStore(path).open()


def test_a_file_that_vanished_is_not_silently_begun_anew(store: SqliteStore, path: Path) -> None:
    write(store, PERSON)
    moved = path.rename(path.with_suffix(".moved"))
    with pytest.raises(StateError, match="the file is gone"):
        store.load([A], 0, 0)
    moved.rename(path)
    assert store.load([A], 0, 0).snapshot == {A: ("p", None)}


def test_a_database_of_a_later_minor_version_is_used_as_it_is(store: SqliteStore, path: Path) -> None:
    write(store, PERSON)
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO migrations (version) VALUES (?)", (schema.VERSION + 1,))
        connection.execute("ALTER TABLE persons ADD COLUMN note TEXT")
    connection.close()
    assert store.load([A], 0, 0).snapshot == {A: ("p", None)}


def test_a_migration_that_fails_leaves_no_half_of_it(path: Path, store: SqliteStore) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE clock (mine TEXT)")
    connection.close()
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        store.open()
    with sqlite3.connect(path) as connection:
        assert [name for (name,) in connection.execute("SELECT name FROM sqlite_master")] == ["clock"]
    connection.close()


def test_abort_before_and_after_the_connection_is_harmless(store: SqliteStore) -> None:
    store.abort()
    store.open()
    store.abort()
    assert store.load([A], 0, 0).snapshot == {}
    store.close()
    store.close()
