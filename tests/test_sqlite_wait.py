"""Waiting for another connection's lock: as long as asked for, and no longer than until it is to end."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventrouter.builtin.sqlite_wait import is_busy, wait_for_lock


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=0.05, isolation_level=None, check_same_thread=False)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[sqlite3.Connection, sqlite3.Connection]]:
    """Two connections to a file; the first holds its lock."""
    first, second = connect(tmp_path / "x.sqlite3"), connect(tmp_path / "x.sqlite3")
    first.execute("BEGIN IMMEDIATE")
    yield first, second
    first.close()
    second.close()


def test_a_lock_that_ends_in_time_is_waited_for(both: tuple[sqlite3.Connection, sqlite3.Connection]) -> None:
    first, second = both
    timer = threading.Timer(0.4, lambda: first.execute("ROLLBACK"))
    timer.start()
    wait_for_lock(lambda: second.execute("BEGIN IMMEDIATE"), 10, threading.Event())
    assert second.in_transaction
    timer.join()


def test_a_lock_that_stays_is_told(both: tuple[sqlite3.Connection, sqlite3.Connection]) -> None:
    started = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="database is locked") as caught:
        wait_for_lock(lambda: both[1].execute("BEGIN IMMEDIATE"), 0.3, threading.Event())
    assert is_busy(caught.value)
    assert 0.3 <= time.monotonic() - started < 2


def test_a_wait_ends_when_it_is_to_end(both: tuple[sqlite3.Connection, sqlite3.Connection]) -> None:
    stopped = threading.Event()
    timer = threading.Timer(0.2, stopped.set)
    timer.start()
    started = time.monotonic()
    with pytest.raises(sqlite3.OperationalError):
        wait_for_lock(lambda: both[1].execute("BEGIN IMMEDIATE"), 30, stopped)
    assert time.monotonic() - started < 2
    timer.join()


def test_other_errors_are_not_waited_for(both: tuple[sqlite3.Connection, sqlite3.Connection]) -> None:
    tried: list[int] = []
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        wait_for_lock(lambda: tried.append(1) or both[1].execute("SELECT * FROM x"), 30, threading.Event())
    assert [1] == tried
    assert not is_busy(sqlite3.OperationalError("database is locked"))
    assert not is_busy(ValueError())
