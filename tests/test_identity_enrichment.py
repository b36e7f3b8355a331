"""The identity enrichment as a worker uses it."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from eventrouter.builtin.identity import IdentityEnrichment
from eventrouter.builtin.identity.enrichment import open_store
from eventrouter.builtin.identity.postgres import PostgresStore
from eventrouter.builtin.identity.sqlite import SqliteStore
from eventrouter.errors import Retry, StartError
from eventrouter.records import Identity
from identity_kit import Warehouse, locked, new_identity, persons, stored


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'state.sqlite3'}"


@pytest.fixture
async def identity(url: str) -> AsyncIterator[IdentityEnrichment]:
    identity = new_identity(url, tidy_after=0.01)
    await identity.start()
    yield identity
    await identity.close()


def outbox(url: str) -> int:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    (count,) = connection.execute("SELECT count(*) FROM outbox").fetchone()
    connection.close()
    return int(count)


async def eventually(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not check():
            await asyncio.sleep(0.01)


async def test_every_event_gets_its_person(identity: IdentityEnrichment) -> None:
    events = [stored("a"), stored("a", "u", type="identify"), stored(user="u"), stored("b")]
    records = await identity.enrich(0, events)
    first, second, third, fourth = persons(events)
    assert first == second == third != fourth
    assert {(r.type, r.value, r.person_id) for r in records if isinstance(r, Identity)} == {
        ("anonymous_id", "a", first),
        ("user_id", "u", first),
        ("anonymous_id", "b", fourth),
    }


async def test_a_person_id_that_a_client_made_up_is_not_believed(identity: IdentityEnrichment) -> None:
    events = [stored("a", person_id="forged"), stored("null", person_id="forged")]
    await identity.enrich(0, events)
    assert "forged" not in persons(events)
    assert "person_id" not in events[1].event


async def test_the_same_batch_again_gives_the_same_persons_and_the_same_records(identity: IdentityEnrichment) -> None:
    first, again = ([stored("a"), stored("b", "u")] for _ in range(2))
    records = await identity.enrich(0, first)
    assert await identity.enrich(0, again) == records
    assert persons(again) == persons(first)


async def test_settled_records_are_not_told_again_and_soon_leave_the_outbox(
    identity: IdentityEnrichment, url: str
) -> None:
    await identity.enrich(0, [stored("a")])
    await identity.settled(0)
    assert await identity.enrich(0, [stored("a")]) == []
    await identity.settled(0)
    await eventually(lambda: outbox(url) == 0)


async def test_records_that_are_not_settled_stay_in_the_outbox(identity: IdentityEnrichment, url: str) -> None:
    await identity.enrich(0, [stored("a")])
    await identity.enrich(1, [stored("b")])
    await identity.settled(0)
    await eventually(lambda: outbox(url) == 1)
    assert len(await identity.enrich(1, [])) == 1


async def test_what_is_settled_while_another_shard_writes_leaves_the_outbox_too(
    identity: IdentityEnrichment, url: str
) -> None:
    await identity.enrich(0, [stored("a")])
    await identity.settled(0)
    await identity.enrich(0, [stored("b")])
    other = asyncio.create_task(identity.enrich(1, [stored("c")]))
    await asyncio.sleep(0)
    await identity.settled(0)
    await other
    await identity.settled(1)
    await eventually(lambda: outbox(url) == 0)


async def test_settling_what_was_not_returned_in_this_process_settles_nothing(
    identity: IdentityEnrichment, url: str
) -> None:
    await identity.settled(3)
    await identity.enrich(0, [stored("a")])
    failed = new_identity(url)
    await failed.settled(0)
    await failed.close()
    assert outbox(url) == 1


async def test_close_takes_out_what_is_settled(url: str) -> None:
    identity = new_identity(url)
    await identity.enrich(0, [stored("a")])
    await identity.settled(0)
    await identity.close()
    assert outbox(url) == 0


async def test_shards_may_be_enriched_at_once(identity: IdentityEnrichment) -> None:
    batches = [[stored(f"a{shard}", "u"), stored(f"a{shard}")] for shard in range(8)]
    await asyncio.gather(*(identity.enrich(shard, batch) for shard, batch in enumerate(batches)))
    assert len({person for batch in batches for person in persons(batch)}) == 1


async def test_a_locked_database_is_a_retry_that_leaves_the_events_alone_and_then_goes_on(
    identity: IdentityEnrichment, url: str
) -> None:
    assert isinstance(identity._store, SqliteStore)
    identity._store.close()
    identity._store.busy_timeout = 0.1
    other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    events = [stored("a")]
    with pytest.raises(Retry, match=r"state\.sqlite3: database is locked"):
        await identity.enrich(0, events)
    assert persons(events) == [None]
    other.close()
    await identity.enrich(0, events)
    assert persons(events) != [None]


async def test_a_database_that_is_away_at_the_start_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "mounted-later"
    identity = new_identity(f"sqlite:///{folder / 'state.sqlite3'}")
    await identity.start()
    with pytest.raises(Retry, match="does its folder exist") as caught:
        await identity.enrich(0, [stored("a")])
    assert caught.value.everyone
    folder.mkdir()
    assert len(await identity.enrich(0, [stored("a")])) == 1
    await identity.close()


async def test_a_file_that_is_no_database_stops_the_start_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    path.write_bytes(b"name,email\n" * 1000)
    identity = new_identity(f"sqlite:///{path}")
    with pytest.raises(StartError, match=f"{path}: this is no SQLite database. Name another file"):
        await identity.start()
    await identity.close()


async def test_a_database_that_does_not_answer_is_a_retry(url: str) -> None:
    identity = new_identity(url, patience=0.05)
    hold = threading.Event()
    blocked = identity._thread.submit(hold.wait)
    with pytest.raises(Retry, match="does not answer"):
        await identity.enrich(0, [stored("a")])
    hold.set()
    await asyncio.wrap_future(blocked)
    identity._patience = 10.0
    await identity.enrich(0, [stored("a")])
    await identity.close()


async def test_a_cancelled_turn_loses_nothing(url: str) -> None:
    identity = new_identity(url)
    turn = asyncio.create_task(identity.enrich(0, [stored("a")]))
    await asyncio.sleep(0)
    turn.cancel()
    await asyncio.gather(turn, return_exceptions=True)
    records = await identity.enrich(0, [stored("a")])
    assert [record.value for record in records if isinstance(record, Identity)] == ["a"]
    await identity.close()


async def test_close_is_quick_and_quiet_when_the_database_is_away(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    identity = new_identity(f"sqlite:///{path}")
    await identity.enrich(0, [stored("a")])
    await identity.settled(0)
    path.rename(tmp_path / "away")
    await identity.close()
    assert not path.exists()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_close_waits_for_no_lock_and_nothing_is_lost(
    database: str, url: str, request: pytest.FixtureRequest
) -> None:
    if database == "postgresql":
        url = request.getfixturevalue("postgres_url")
    identity = new_identity(url)
    await identity.start()
    kept = list(await identity.enrich(0, [stored("a")]))
    await identity.settled(0)
    with locked(url):
        turn = asyncio.create_task(identity.enrich(1, [stored("b")]))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await identity.close()
        assert time.monotonic() - began < 3
        with pytest.raises(Retry):
            await turn
    again = new_identity(url)
    # That it is settled was noted before the lock, or not at all.
    assert list(await again.enrich(0, [stored("a")])) in (kept, [])
    assert 1 == len(await again.enrich(1, [stored("b")]))
    await again.close()


async def test_a_lock_at_close_only_leaves_the_outbox_as_it_is(url: str, identity: IdentityEnrichment) -> None:
    await identity.enrich(0, [stored("a")])
    with locked(url):
        await identity.settled(0)
        began = time.monotonic()
        await identity.close()
        assert time.monotonic() - began < 3
    assert outbox(url) == 1


async def test_close_waits_for_no_server_that_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        identity = new_identity(f"postgresql://me:pw@127.0.0.1:{silent.getsockname()[1]}/app")
        turn = asyncio.create_task(identity.enrich(0, [stored("a")]))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await identity.close()
        assert time.monotonic() - began < 3
        with pytest.raises(Retry):
            await turn


CHILD = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
from identity_kit import new_identity, stored
import msgspec

async def main():
    identity = new_identity(sys.argv[1])
    for turn in range(10_000):
        records = await identity.enrich(turn % 2, [stored(f"a{turn}"), stored(f"a{turn}", f"u{turn % 50}")])
        print(msgspec.json.encode(records).decode(), flush=True)  # from here on they are kept
        await identity.settled(turn % 2)

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 7, 40])
async def test_after_a_kill_9_every_tie_reaches_the_warehouse(url: str, lines: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, url, str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    kept = [child.stdout.readline() for _ in range(lines)]
    child.kill()
    kept += [line for line in child.stdout if line.endswith("\n")]
    child.wait()
    child.stdout.close()

    warehouse = Warehouse()
    for line in kept:
        warehouse.load_json(line)
    identity = new_identity(url)
    for shard in range(2):
        warehouse.load(await identity.enrich(shard, []))
    await identity.close()
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    identifiers = connection.execute("SELECT type, value, person_id FROM identifiers").fetchall()
    merged = connection.execute("SELECT person_id, merged_into FROM persons WHERE merged_into IS NOT NULL").fetchall()
    connection.close()
    assert len(identifiers) >= lines
    assert sorted((*key, record.person_id) for key, record in warehouse.identities.items()) == sorted(identifiers)
    assert sorted((r.person_id, r.into_person_id) for r in warehouse.merges.values()) == sorted(merged)


def test_the_url_chooses_the_store() -> None:
    store = open_store("sqlite:////var/lib/my state%20?.sqlite3")
    assert isinstance(store, SqliteStore)
    assert store.path == Path("/var/lib/my state%20?.sqlite3")
    assert isinstance(open_store("postgres://me@db/app"), PostgresStore)
    assert isinstance(open_store("postgresql+psycopg://me@db/app"), PostgresStore)


@pytest.mark.parametrize(
    "url",
    [
        *["", "sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://me:s3cret@db/app", "state.sqlite3"],
        *["postgresql://me:s3cret@db:notaport/app?nonsense=1", "postgresql://me:s3cret@[db/app"],
    ],
)
def test_another_url_is_refused_without_telling_it(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        IdentityEnrichment.Options(url=url)
    assert "s3cret" not in str(caught.value)


def test_options_do_not_tell_the_password() -> None:
    assert "s3cret" not in repr(IdentityEnrichment.Options(url="postgresql://me:s3cret@db/app"))
