"""SIGTERM while somebody else keeps the databases locked: it ends in time, and nothing is lost."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from system import System, until

RULES = """
version: 1
sources: { website: { write_key: key-website } }
warehouse: { url: "${WAREHOUSE:-}" }
state: { url: "${STATE:-}" }
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@contextmanager
def sqlite_locked(path: Path) -> Iterator[None]:
    """Meanwhile nobody else writes to the file."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def postgres_locked(url: str, *tables: str) -> Iterator[None]:
    """Meanwhile nobody else uses the tables."""
    with psycopg.connect(url) as other:
        other.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE".encode())
        yield
        other.rollback()


def tracks(url: str, event: str) -> int:
    """How many rows of `tracks` there are of an event."""
    try:
        with psycopg.connect(url) as connection:
            found = connection.execute("SELECT count(*) FROM tracks WHERE event = %s", (event,)).fetchone()
    except psycopg.errors.UndefinedTable:
        return 0
    return int(found[0]) if found else 0


def stops_in_time(system: System) -> None:
    time.sleep(1)  # until the events have come as far as they can
    started = time.monotonic()
    assert system.stop() == 0
    seconds = time.monotonic() - started
    print(f"stopped after {seconds:.1f} s")
    assert seconds < 30
    assert "killing it" not in system.log
    assert "Traceback" not in system.log


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["warehouse"], marks=pytest.mark.long, id="warehouse"),
        pytest.param(["state"], marks=pytest.mark.long, id="state"),
        pytest.param(["warehouse", "state"], id="both"),
    ],
)
def test_locked_sqlite_files_do_not_hold_up_the_end(start: Callable[..., System], names: list[str]) -> None:
    system = start(RULES)
    system.track("Before", "a", messageId="before")
    system.events(1, "Before")
    with ExitStack() as locks:
        for name in names:
            locks.enter_context(sqlite_locked(system.data / f"{name}.sqlite3"))
        for number in range(20):
            system.track("Locked", f"b{number}", messageId=f"locked-{number}")
        stops_in_time(system)
    system.start()
    assert len(system.events(20, "Locked")) == 20


def test_a_start_under_locks_can_be_ended(start: Callable[..., System]) -> None:
    system = start(RULES)
    system.events(0, "None")
    system.stop()
    with sqlite_locked(system.data / "warehouse.sqlite3"), sqlite_locked(system.data / "state.sqlite3"):
        system.start()
        system.track("Locked", "a", messageId="locked")
        stops_in_time(system)
    system.start()
    system.events(1, "Locked")


def test_locked_tables_of_postgresql_do_not_hold_up_the_end(start: Callable[..., System], postgres_url: str) -> None:
    system = start(RULES, {"WAREHOUSE": postgres_url, "STATE": postgres_url})
    system.track("Before", "a", messageId="before")
    until(lambda: tracks(postgres_url, "before") == 1)
    with postgres_locked(postgres_url, "events", "eventrouter_state.clock"):
        system.track("Locked", "a", messageId="locked-1")  # waits in the warehouse's lane
        system.track("Locked", "new", messageId="locked-2")  # waits in the log
        stops_in_time(system)
    system.start()
    until(lambda: tracks(postgres_url, "locked") == 2)
