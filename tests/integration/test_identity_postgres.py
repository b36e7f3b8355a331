"""The state database in a real PostgreSQL."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from psycopg.conninfo import make_conninfo

from eventrouter.builtin.identity import schema
from eventrouter.builtin.identity.graph import key_of
from eventrouter.builtin.identity.postgres import PostgresStore
from eventrouter.builtin.identity.store import OUTBOX_LIMIT, Changes, StateError
from eventrouter.errors import Retry
from eventrouter.events import StoredEvent
from eventrouter.masking import MASK
from eventrouter.records import Identity
from identity_kit import check_crowd, check_history, new_identity, persons, stored, turns

A = key_of("anonymous_id", "a")
U = key_of("user_id", "u")
TIME = "2026-11-24T17:00:00.123Z"
TABLES = ["identifiers", "persons", "outbox", "clock", "migrations"]


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    store = PostgresStore(postgres_url)
    yield store
    store.close()


def write(store: PostgresStore, records: list[tuple[int, str]], *, shard: int = 0, **more: object) -> list[object]:
    store.begin([], 0, 0)
    moved = store.apply(Changes(**{"persons": [], "identifiers": [], "users": [], "merges": [], **more}))  # type: ignore[arg-type]
    store.commit(shard, records, {})
    return list(moved)


def write_person(store: PostgresStore) -> None:
    write(store, [], persons=[("p", None, TIME)], identifiers=[(A, "anonymous_id", "a", "p", None, TIME)])


def truncate(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("DROP SCHEMA IF EXISTS eventrouter_state CASCADE")


def test_its_tables_lie_in_a_schema_of_their_own(store: PostgresStore, postgres_url: str) -> None:
    store.open()
    with psycopg.connect(postgres_url) as connection:
        found = connection.execute("SELECT schemaname, tablename FROM pg_tables WHERE schemaname !~ '^pg_|^info'")
        assert sorted(found.fetchall()) == sorted(("eventrouter_state", table) for table in TABLES)


def test_many_processes_may_start_on_an_empty_database_at_once(postgres_url: str) -> None:
    stores = [PostgresStore(postgres_url) for _ in range(6)]
    failures: list[Exception] = []

    def start(store: PostgresStore) -> None:
        try:
            store.open()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=start, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    assert failures == []


def test_a_user_without_the_right_to_create_works_once_the_tables_are_there(
    store: PostgresStore, postgres_url: str
) -> None:
    role = f"lowly_{uuid.uuid4().hex}"
    store.open()
    with psycopg.connect(postgres_url) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN")
        connection.execute(f"GRANT USAGE ON SCHEMA eventrouter_state TO {role}")
        connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA eventrouter_state TO {role}")
    lowly = PostgresStore(make_conninfo(postgres_url, user=role))
    write_person(lowly)
    lowly.close()
    assert store.load([A], 0, 0).snapshot == {A: ("p", None)}
    store.close()
    truncate(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        connection.execute(f"DROP ROLE {role}")


def test_a_later_minor_version_is_used_as_it_is(store: PostgresStore, postgres_url: str) -> None:
    write_person(store)
    store.close()
    with psycopg.connect(postgres_url) as connection:
        connection.execute("INSERT INTO eventrouter_state.migrations (version) VALUES (%s)", (schema.VERSION + 1,))
        connection.execute("ALTER TABLE eventrouter_state.persons ADD COLUMN note TEXT")
    assert store.load([A], 0, 0).snapshot == {A: ("p", None)}


def test_nothing_asked_nothing_found(store: PostgresStore) -> None:
    assert store.load([], 0, 0) == ({}, [])
    assert store.load([A], 0, 0) == ({}, [])


def test_rows_are_written_and_found(store: PostgresStore) -> None:
    write_person(store)
    assert store.load([A, U], 0, 0).snapshot == {A: ("p", None)}
    write(store, [], users=[(U, "p")], identifiers=[(U, "user_id", "u", "p", U, TIME)])
    assert store.load([A, U], 0, 0).snapshot == {A: ("p", U), U: ("p", U)}


def test_a_merge_moves_all_identifiers_and_tells_which(store: PostgresStore) -> None:
    write_person(store)
    write(store, [], persons=[("q", None, TIME)], identifiers=[(U, "user_id", "u", "q", U, TIME)])
    assert write(store, [], merges=[("q", U, "p")]) == [("anonymous_id", "a", "q")]
    assert store.load([A], 0, 0).snapshot == {A: ("q", U)}


def test_the_outbox_keeps_the_order_is_bounded_and_is_taken_out_up_to_what_is_settled(store: PostgresStore) -> None:
    write(store, [(number, "r") for number in range(1, OUTBOX_LIMIT + 11)])
    write(store, [(9_007_199_254_740_000, "é\\u0000")], shard=1)
    assert store.load([], 0, 0).waiting == [(number, "r") for number in range(1, OUTBOX_LIMIT + 1)]
    store.forget({0: OUTBOX_LIMIT + 9, 1: 5})
    assert store.load([], 0, 0).waiting == [(OUTBOX_LIMIT + 10, "r")]
    assert store.load([], 1, 0).waiting == [(9_007_199_254_740_000, "é\\u0000")]
    assert store.begin([], 0, 0)[0] == 9_007_199_254_740_000
    store.rollback()


def test_a_rollback_leaves_nothing_behind_and_frees_the_turn(store: PostgresStore, postgres_url: str) -> None:
    store.begin([], 0, 0)
    store.apply(Changes([("p", None, TIME)], [(A, "anonymous_id", "a", "p", None, TIME)], [], []))
    store.rollback()
    other = PostgresStore(postgres_url)
    assert other.begin([A], 0, 0)[1].snapshot == {}
    other.rollback()
    other.close()


def test_a_second_writer_waits_for_its_turn_and_sees_what_the_first_wrote(
    store: PostgresStore, postgres_url: str
) -> None:
    other = PostgresStore(postgres_url)
    other.open()
    store.begin([], 0, 0)
    seen = []

    def second() -> None:
        seen.append(other.begin([A], 0, 0)[1].snapshot)
        other.rollback()

    thread = threading.Thread(target=second)
    thread.start()
    time.sleep(0.2)
    assert seen == []
    store.apply(Changes([("p", None, TIME)], [(A, "anonymous_id", "a", "p", None, TIME)], [], []))
    store.commit(0, [], {})
    thread.join()
    other.close()
    assert seen == [{A: ("p", None)}]


@pytest.mark.parametrize("value", ["x" * 32_000, "née 💡", "a\0b", "' OR 1=1 --", "%s {} $1", "\\", '{"a"}'])
async def test_a_value_of_any_kind_is_an_identifier(postgres_url: str, value: str) -> None:
    identity = new_identity(postgres_url)
    events = [stored(value, value + "2")]
    records = await identity.enrich(0, events)
    again = [stored(value), stored(user=value + "2")]
    assert await identity.enrich(0, again) == records
    assert persons(again) == persons(events) * 2
    await identity.close()


async def test_records_are_told_again_after_a_crash_until_they_are_settled(postgres_url: str) -> None:
    crashed, identity = new_identity(postgres_url), new_identity(postgres_url)
    records = await crashed.enrich(0, [stored("a", "u")])
    assert len([record for record in records if isinstance(record, Identity)]) == 2
    assert await identity.enrich(0, [stored("a")]) == records
    await identity.settled(0)
    assert await identity.enrich(0, [stored("a")]) == []
    await identity.close()
    assert await crashed.enrich(0, []) == []
    await crashed.close()


async def test_many_workers_at_once_lose_no_tie_and_make_no_person_twice(postgres_url: str) -> None:
    await check_crowd(lambda: new_identity(postgres_url), workers=6, batches=60)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(turns)
def test_any_history_ends_as_the_rules_say(
    postgres_url: str, history: list[tuple[int, int, list[StoredEvent], str]]
) -> None:
    truncate(postgres_url)
    asyncio.run(check_history(history, lambda: new_identity(postgres_url)))


async def test_a_connection_that_is_cut_is_a_retry_and_the_next_batch_goes_on(postgres_url: str) -> None:
    identity = new_identity(postgres_url)
    await identity.enrich(0, [stored("a")])
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'eventrouter identity'"
            " AND datname = current_database()"
        )
    events = [stored("a")]
    with pytest.raises(Retry, match="the state database postgresql://"):
        await identity.enrich(0, events)
    assert persons(events) == [None]
    await identity.enrich(0, events)
    assert persons(events) != [None]
    await identity.close()


async def test_a_server_that_falls_silent_is_a_retry_and_frees_the_thread(postgres_url: str) -> None:
    identity = new_identity(postgres_url, patience=0.3)
    await identity.enrich(0, [stored("a")])
    with psycopg.connect(postgres_url) as connection:
        connection.execute("LOCK TABLE eventrouter_state.identifiers IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Retry, match="does not answer"):
            await identity.enrich(0, [stored("a")])
    async with asyncio.timeout(5):
        await asyncio.wrap_future(identity._thread.submit(lambda: None))
    assert len(await identity.enrich(0, [stored("a")])) == 1
    await identity.close()


async def test_a_server_that_is_away_is_a_retry_without_the_password(unused_tcp_port: int) -> None:
    url = f"postgresql://me:s3cr%40t@127.0.0.1:{unused_tcp_port}/app"
    identity = new_identity(url)
    await identity.start()
    with pytest.raises(Retry, match=r"postgresql://127\.0\.0\.1/app: .*refused") as caught:
        await identity.enrich(0, [stored("a")])
    assert caught.value.everyone
    assert "s3cr" not in caught.value.reason
    await identity.close()


def test_what_the_server_says_is_told_in_one_line_without_the_password() -> None:
    store = PostgresStore("postgresql://me:s3cr%40t@db/app")
    error = psycopg.OperationalError("no\n  password=s3cr@t or s3cr%40t")
    assert store.describe(error) == f"no password={MASK} or {MASK}"


def test_what_libpq_cannot_read_is_refused_without_telling_it() -> None:
    with pytest.raises(StateError, match="write postgresql://") as caught:
        PostgresStore("postgresql://me:s3cret@db/app?nonsense=1")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.fixture
def unused_tcp_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
