"""The warehouse on a SQLite file: where it is, and what it says when it cannot be used."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from eventrouter.builtin.warehouse import SqliteWarehouse, sqlite_store
from eventrouter.errors import Retry, StartError, UnavailableError
from warehouse_kit import messages, record, run, select, warehouse_at


async def deliver_one(url: str) -> None:
    warehouse = warehouse_at(url)
    try:
        await warehouse.deliver(messages(record("m1")))
    finally:
        await warehouse.close()


async def test_an_absolute_and_a_relative_url_name_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in (f"sqlite:///{tmp_path / 'a.sqlite3'}", "sqlite:///b.sqlite3", "sqlite:///c%20d.sqlite3?timeout=1"):
        await deliver_one(url)
    assert {"a.sqlite3", "b.sqlite3", "c d.sqlite3"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:/nonsense", "sqlite://host/x", "nonsense"]
)
def test_a_url_without_a_file_is_an_error(url: str) -> None:
    with pytest.raises(StartError, match="does not name a file") as caught:
        SqliteWarehouse(SqliteWarehouse.Options(url=url))
    assert "sqlite:////absolute" in caught.value.hint


async def test_a_missing_directory_is_an_error_until_it_is_there(tmp_path: Path) -> None:
    warehouse = warehouse_at(f"sqlite:///{tmp_path / 'later' / 'w.sqlite3'}")
    with pytest.raises(StartError, match="does not exist") as caught:
        await warehouse.start()
    assert "create it" in caught.value.hint
    with pytest.raises(Retry, match=r"does not exist.*create it") as retry:
        await warehouse.deliver(messages(record("m1")))
    assert retry.value.everyone
    (tmp_path / "later").mkdir()
    assert await warehouse.deliver(messages(record("m1"))) is None
    await warehouse.close()


async def test_a_directory_is_no_warehouse(tmp_path: Path) -> None:
    warehouse = warehouse_at(f"sqlite:///{tmp_path}")
    with pytest.raises(StartError, match="is a directory"):
        await warehouse.start()
    await warehouse.close()


async def test_a_file_that_is_no_database_is_an_error_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite3"
    path.write_text("precious " * 1000)
    warehouse = warehouse_at(f"sqlite:///{path}")
    with pytest.raises(StartError, match="is not a SQLite database"):
        await warehouse.start()
    with pytest.raises(Retry, match="is not a SQLite database"):
        await warehouse.deliver(messages(record("m1")))
    assert path.read_text().startswith("precious precious")
    await warehouse.close()


async def test_a_lock_that_is_held_too_long_is_a_retry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "BUSY_TIMEOUT", 0.05)
    url = f"sqlite:///{tmp_path / 'w.sqlite3'}"
    warehouse = warehouse_at(url)
    await warehouse.start()
    holder = sqlite3.connect(tmp_path / "w.sqlite3", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(Retry, match=r"locked.*another program"):
        await warehouse.deliver(messages(record("m1")))
    holder.execute("ROLLBACK")
    holder.close()
    await warehouse.deliver(messages(record("m1")))
    await warehouse.close()
    assert [(1,)] == select(url, "SELECT count(*) FROM events")


async def test_who_only_reads_makes_no_file(tmp_path: Path) -> None:
    warehouse = warehouse_at(f"sqlite:///{tmp_path / 'w.sqlite3'}")
    warehouse.reads_only = True
    with pytest.raises(StartError, match=r"there is no warehouse .* yet") as caught:
        await warehouse.start()
    await warehouse.close()
    assert ("--data-dir" in caught.value.hint, []) == (True, list(tmp_path.iterdir()))


async def test_who_only_reads_waits_for_no_writer_and_not_long_for_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "READ_TIMEOUT", 0.05)
    url = f"sqlite:///{tmp_path / 'w.sqlite3'}"
    await deliver_one(url)
    warehouse = warehouse_at(url)
    warehouse.reads_only = True
    holder = sqlite3.connect(tmp_path / "w.sqlite3", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    await warehouse.start()
    assert 1 == await warehouse.count_events()
    await warehouse.close()
    holder.execute("ROLLBACK")
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN IMMEDIATE")
    holder.execute("DELETE FROM events")
    warehouse = warehouse_at(url)
    warehouse.reads_only = True
    with pytest.raises(UnavailableError, match="database is locked") as caught:
        await warehouse.count_events()
    await warehouse.close()
    holder.close()
    assert "another program" in caught.value.hint


async def test_a_file_that_was_deleted_is_made_anew_and_the_log_says_why(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'w.sqlite3'}"
    warehouse = warehouse_at(url)
    await warehouse.deliver(messages(record("m1")))
    for path in tmp_path.iterdir():
        path.unlink()
    with capture_logs() as logged:
        await warehouse.deliver(messages(record("m2")))
    await warehouse.close()
    assert [("m2",)] == select(url, "SELECT id FROM events")
    [told] = logged
    assert "the warehouse is opened again" == told["event"]
    assert "w.sqlite3 was moved, replaced or deleted while it was in use" in told["reason"]


async def test_readers_see_whole_batches_while_it_is_written(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'w.sqlite3'}"
    warehouse = warehouse_at(url)
    await warehouse.start()
    reader = sqlite3.connect(tmp_path / "w.sqlite3")
    reader.execute("BEGIN")
    assert (0,) == reader.execute("SELECT count(*) FROM events").fetchone()
    await warehouse.deliver(messages(record("m1"), record("m2")))
    assert (0,) == reader.execute("SELECT count(*) FROM events").fetchone()
    reader.rollback()
    assert (2,) == reader.execute("SELECT count(*) FROM events").fetchone()
    reader.close()
    await warehouse.close()


KILLED = """
import asyncio, os, sys
sys.path[:0] = [{tests!r}]
from warehouse_kit import messages, record, warehouse_at

async def main():
    warehouse = warehouse_at({url!r})
    number = 0
    while True:
        await warehouse.deliver(messages(*(record(f"m{{number + one}}") for one in range(50))))
        number += 50
        print(number, flush=True)

asyncio.run(main())
"""


def test_what_was_delivered_survives_a_kill_and_is_whole(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'w.sqlite3'}"
    code = KILLED.format(tests=str(Path(__file__).parent), url=url)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    told = 0
    for _ in range(10):
        told = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    [counts] = select(
        url, "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM tracks), count(*) FROM order_completed"
    )
    assert 1 == len(set(counts))
    assert counts[0] >= told
    assert 0 == counts[0] % 50


async def test_a_dropped_table_costs_no_event(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'w.sqlite3'}"
    warehouse = warehouse_at(url)
    await warehouse.deliver(messages(record("m1")))
    run(url, "DROP TABLE tracks")
    await warehouse.deliver(messages(record("m2"), record("m3", "page")))
    await warehouse.close()
    assert [("m1",), ("m2",), ("m3",)] == select(url, "SELECT id FROM events ORDER BY id")
    assert [("m3",)] == select(url, "SELECT id FROM pages")
    assert [("warehouse_refused", "m2")] == select(url, "SELECT code, message_id FROM rejected_events")


def test_errors_name_the_file_and_what_to_do(tmp_path: Path) -> None:
    warehouse = warehouse_at(f"sqlite:///{tmp_path / 'w.sqlite3'}")
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL  # type: ignore[misc]
    message, hint = warehouse.explain(error)
    assert f"the warehouse {tmp_path / 'w.sqlite3'}: database or disk is full" == message
    assert "free space on the disk" == hint
    assert ("ValueError: x", "") == warehouse.explain(ValueError("x"))


async def test_an_unwritable_file_is_unavailable_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        error = sqlite3.OperationalError("attempt to write a readonly database")
        error.sqlite_errorcode = sqlite3.SQLITE_READONLY  # type: ignore[misc]
        raise error

    monkeypatch.setattr(sqlite_store.SqliteStore, "__init__", refuse)
    warehouse = warehouse_at(f"sqlite:///{tmp_path / 'w.sqlite3'}")
    with pytest.raises(UnavailableError, match="readonly") as caught:
        await warehouse.start()
    assert "right to write" in caught.value.hint
    await warehouse.close()
