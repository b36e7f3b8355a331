"""A connection to a PostgreSQL database."""

from __future__ import annotations

import threading

import psycopg
import pytest
import sqlalchemy as sa

from eventrouter.builtin.warehouse.migrations import migrate
from eventrouter.builtin.warehouse.postgres_store import PostgresStore, hint_for
from eventrouter.builtin.warehouse.store import Trouble
from eventrouter.builtin.warehouse.values import BOOLEAN, DOUBLE, INTEGER, NUMBER, OTHER, TEXT, TIMESTAMP
from warehouse_kit import NOW, run, select, store_at


@pytest.fixture
def store(postgres_url: str):
    store = store_at(postgres_url)
    migrate(store, NOW)
    yield store
    store.close()


def row(id_: str, source: str = "website", payload: str = "{}") -> tuple[object, ...]:
    return (id_, source, "track", None, None, None, NOW, NOW, payload, "")


def test_only_new_events_are_added_and_told(store: PostgresStore) -> None:
    store.begin()
    assert {("a", "website"), ("b", "website")} == store.insert_events([row("a"), row("b")])
    store.commit()
    store.begin()
    assert {("a", "app"), ("c", "website")} == store.insert_events([row("a"), row("a", "app"), row("c")])
    store.commit()
    assert [(4,)] == store.execute("SELECT count(*) FROM events")


def test_there_is_room_for_as_many_columns_as_one_likes(store: PostgresStore) -> None:
    assert min(store.room()) > 10**9


def test_the_payload_is_kept_to_the_letter(store: PostgresStore) -> None:
    payload = '{"b": 1e300, "a": "tab\\t quote\\" back\\\\ ü", "big": 123456789012345678901234567890}'
    store.begin()
    store.insert_events([row("a", payload=payload)])
    store.commit()
    assert [(payload,)] == store.execute("SELECT payload::text FROM events")


def test_times_come_back_as_they_went(store: PostgresStore) -> None:
    store.begin()
    store.insert_events([row("a")])
    store.commit()
    assert [(NOW,)] == store.execute("SELECT received_at FROM events")


def test_insert_and_merge_write_every_kind(store: PostgresStore) -> None:
    columns = {"id": TEXT, "b": BOOLEAN, "n": NUMBER, "d": DOUBLE, "t": TIMESTAMP, "i": INTEGER, "x": TEXT}
    store.execute(
        "CREATE TABLE kinds (id text PRIMARY KEY, b bool, n numeric, d float8, t timestamptz, i int8, x text)"
    )
    hard = 'tab\t "quote" back\\slash {brace}, NULL \n ü'
    rows = [("1", True, 7, 1.5, NOW, -(2**63), hard), ("2", False, 7.25, 1e300, None, None, "NULL"), ("3", *[None] * 6)]
    store.insert("kinds", list(columns), rows)
    inserted = store.execute("SELECT * FROM kinds ORDER BY id")
    store.execute("DELETE FROM kinds")
    store.merge("kinds", columns, rows, "ON CONFLICT DO NOTHING")
    store.merge("kinds", columns, rows, "ON CONFLICT DO NOTHING")
    assert rows == inserted == store.execute("SELECT * FROM kinds ORDER BY id")


def test_columns_and_their_kinds_are_read_back(store: PostgresStore) -> None:
    added = {"größe": NUMBER, "on": BOOLEAN, "d": DOUBLE, "t": TIMESTAMP, "x": TEXT, "i": INTEGER}
    store.add_columns("aliases", added)
    store.add_columns("aliases", added)
    store.execute("ALTER TABLE aliases ADD COLUMN theirs uuid, ADD COLUMN gone text")
    store.execute("ALTER TABLE aliases DROP COLUMN gone")
    found = store.columns("aliases")
    assert found is not None
    assert added | {"theirs": OTHER} == {name: found[name] for name in (*added, "theirs")}
    assert "gone" not in found
    assert store.columns("nothing") is None
    assert {"aliases", "resolved_events", "eventrouter_migrations"} <= store.relations()


def test_another_schemas_tables_are_not_seen(postgres_url: str, store: PostgresStore) -> None:
    run(postgres_url, "CREATE SCHEMA own")
    own = store_at(postgres_url + "&options=-csearch_path%3Down,public")
    assert set() == own.relations()
    assert own.columns("users") is None
    own.close()


def test_locks_are_held_until_the_transaction_ends(postgres_url: str, store: PostgresStore) -> None:
    other = store_at(postgres_url)
    other.execute("SET lock_timeout = '50ms'")
    for lock in ("lock_schema", "lock_merges"):
        store.begin()
        getattr(store, lock)()
        other.begin()
        with pytest.raises(psycopg.errors.LockNotAvailable) as caught:
            getattr(other, lock)()
        assert Trouble.AWAY is other.trouble(caught.value)
        other.rollback()
        store.commit()
        other.begin()
        getattr(other, lock)()
        other.rollback()
    other.close()


def test_a_commit_is_durable_even_where_the_database_says_otherwise(postgres_url: str) -> None:
    [(name,)] = select(postgres_url, "SELECT current_database()")
    run(postgres_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    store = store_at(postgres_url)
    assert [("on",)] == store.execute("SHOW synchronous_commit")
    store.close()


def trouble_of(store: PostgresStore, sql: str, values: tuple[object, ...] = ()) -> Trouble:
    with pytest.raises(Exception) as caught:
        store.execute(sql, values)
    return store.trouble(caught.value)


def test_trouble_tells_whose_fault_it_is(store: PostgresStore) -> None:
    assert Trouble.STALE is trouble_of(store, "INSERT INTO nowhere VALUES (1)")
    assert Trouble.STALE is trouble_of(store, "INSERT INTO users (nothing) VALUES (1)")
    assert Trouble.AGAIN is trouble_of(store, "CREATE TABLE users (id text)")
    assert Trouble.AGAIN is trouble_of(store, "INSERT INTO users (id) VALUES ('a'), ('a')")
    assert Trouble.DATA is trouble_of(store, "INSERT INTO users (id) VALUES (NULL)")
    assert Trouble.DATA is trouble_of(store, "SELECT 'x'::bigint")
    assert Trouble.DATA is trouble_of(store, "SELECT ?", ("\0",))
    assert Trouble.DATA is trouble_of(store, "SELECT ?", ("\ud800",))
    noise = "SELECT string_agg(md5(n::text), '') FROM generate_series(1, 200) n"
    assert Trouble.DATA is trouble_of(store, f"INSERT INTO users (id) VALUES (({noise}))")
    assert Trouble.AWAY is trouble_of(store, "SET TRANSACTION READ ONLY; CREATE TABLE no (no int)")
    assert Trouble.AWAY is trouble_of(store, "SET statement_timeout = 10; SELECT pg_sleep(5)")
    assert Trouble.AWAY is store.trouble(MemoryError())


def test_a_lost_connection_is_nobodys_fault(postgres_url: str, store: PostgresStore) -> None:
    [(pid,)] = store.execute("SELECT pg_backend_pid()")
    run(postgres_url, f"SELECT pg_terminate_backend({pid})")
    assert Trouble.AWAY is trouble_of(store, "SELECT 1")
    store.rollback()


def test_a_deadlock_is_worth_another_try(postgres_url: str, store: PostgresStore) -> None:
    other = store_at(postgres_url)
    store.execute("SET deadlock_timeout = '50ms'")
    other.execute("SET deadlock_timeout = '10s'")
    store.begin()
    store.execute("LOCK TABLE pages")
    other.begin()
    other.execute("LOCK TABLE users")
    thread = threading.Thread(target=other.execute, args=("LOCK TABLE pages",))
    thread.start()
    assert Trouble.AGAIN is trouble_of(store, "LOCK TABLE users")
    store.rollback()
    thread.join()
    other.rollback()
    other.close()


def test_a_server_that_is_not_there_is_an_operational_error() -> None:
    with pytest.raises(psycopg.OperationalError):
        PostgresStore(sa.make_url("postgresql+psycopg://u:p@127.0.0.1:1/d"))


def test_errors_come_with_advice() -> None:
    assert "raise max_connections" in hint_for(psycopg.errors.TooManyConnections())
    assert "end the long transaction" in hint_for(psycopg.errors.LockNotAvailable())
    assert "check that the server runs" in hint_for(psycopg.OperationalError())
    assert "" == hint_for(psycopg.errors.NotNullViolation())


def test_what_is_not_null_is_told_of_rows_that_have_much(store: PostgresStore) -> None:
    columns = {f"c{number}": TEXT for number in range(250)} | {"100%": TEXT}
    store.add_columns("users", columns)
    store.begin()
    for key, names in {"a": ["c0", "c249"], "b": ["c101"], "c": []}.items():
        store.insert("users", ["id", *names], [(key, *names)])
    store.commit()
    ids = ["a", "b", "c", "nobody"]
    assert {"a": {"c0", "c249"}, "b": {"c101"}} == store.filled("users", list(columns), ids, 0)
    assert {"a": {"id", "c0"}} == store.filled("users", ["id", "c0", "c1"], ids, 1)
    assert {"a", "b", "c"} == store.filled("users", ["c1"], ids, -1).keys()
