"""A connection to a SQLite warehouse: WAL, every commit synced, one writer at a time."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from ..sqlite_wait import SLICE_SECONDS, wait_for_lock
from . import schema
from .store import Room, Row, Trouble, chunks, placeholders
from .values import BOOLEAN, DOUBLE, INTEGER, NUMBER, OTHER, TEXT, TIMESTAMP, Kind

BUSY_TIMEOUT: Final = 30.0
"""Seconds that a writer waits for another one."""
READ_TIMEOUT: Final = 2.0
"""Seconds that a reader waits. Writers are not in its way, but who recovers or locks the whole file is."""

CHECKPOINT_PAGES: Final = 8000
"""Pages (of 4 KB) in the write-ahead log at which it is copied into the database: fewer, larger copies load faster."""

MAX_COLUMNS: Final = 20_000
"""Columns of all tables together. Whoever opens the file reads them all, and so does everybody after each change."""

MAX_READ_AGAIN: Final = 3_000_000
"""Columns that a transaction may make SQLite read again: for each one that is added it reads them all (0.7 µs each)."""

_KINDS: Final[dict[str, Kind]] = {
    "TEXT": TEXT,
    "BOOLEAN": BOOLEAN,
    "NUMERIC": NUMBER,
    "DOUBLE": DOUBLE,
    "REAL": DOUBLE,
    "TIMESTAMP": TIMESTAMP,
    "BIGINT": INTEGER,
    "INTEGER": INTEGER,
}
_AWAY: Final = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_NOTADB,
    }
)
_INSERT_EVENT: Final = f"INSERT INTO events VALUES ({placeholders(len(schema.events.columns))})"


class SqliteStore:
    """`Store` on a SQLite file. Raises what `sqlite3` raises, at the latest when the first transaction begins."""

    dialect: sa.Dialect = sqlite.dialect(paramstyle="named")
    max_values = 10_000

    def __init__(self, path: Path, closing: threading.Event | None = None, *, reads_only: bool = False) -> None:
        """Once `closing` is set, nothing waits for another writer any more. With `reads_only` no file is made."""
        self._path = path
        self._closing = closing or threading.Event()
        self._patience = READ_TIMEOUT if reads_only else BUSY_TIMEOUT
        self._connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={'ro' if reads_only else 'rwc'}",
            uri=True,
            timeout=SLICE_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
        )
        try:
            if not reads_only:
                self.execute("PRAGMA journal_mode = WAL")
                self.execute("PRAGMA synchronous = FULL")
                self.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
                self.execute(f"PRAGMA journal_size_limit = {2 * CHECKPOINT_PAGES * 4096}")
            self.execute("PRAGMA cache_size = -32768")
            self._file = self._identity()
        except BaseException:
            self._connection.close()
            raise

    def _identity(self) -> tuple[int, int]:
        status = self._path.stat()
        return status.st_dev, status.st_ino

    def close(self) -> None:
        self._connection.close()

    def interrupt(self) -> None:
        with contextlib.suppress(sqlite3.ProgrammingError):  # it was closed just now
            self._connection.interrupt()

    def begin(self) -> None:
        # A file that was moved or deleted would still take what we write, and nobody would see it again.
        try:
            same = self._identity() == self._file
        except FileNotFoundError:
            same = False
        if not same:
            raise sqlite3.OperationalError(f"{self._path} was moved, replaced or deleted while it was in use")
        self.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.execute("COMMIT")

    def rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def execute(self, sql: str, values: Row = ()) -> list[tuple[Any, ...]]:
        return self._wait(sql, values)

    def query(self, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return self._wait(sql, dict(values))

    def _wait(self, sql: str, values: Row | dict[str, Any]) -> list[tuple[Any, ...]]:
        return wait_for_lock(lambda: self._connection.execute(sql, values).fetchall(), self._patience, self._closing)

    def insert_events(self, rows: Sequence[Row]) -> set[tuple[str, str]]:
        by_source: dict[str, list[str]] = {}
        for row in rows:
            by_source.setdefault(row[1], []).append(row[0])
        known: set[tuple[str, str]] = set()
        for source, ids in by_source.items():
            for some in chunks(ids, 1000):
                sql = f"SELECT id FROM events WHERE source = ? AND id IN ({placeholders(len(some))})"
                known.update((row[0], source) for row in self.execute(sql, (source, *some)))
        new = [row for row in rows if (row[0], row[1]) not in known] if known else rows
        self._connection.executemany(_INSERT_EVENT, new)
        return {(row[0], row[1]) for row in new}

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        names = ", ".join(map(schema.quote, columns))
        self._connection.executemany(
            f"INSERT INTO {schema.quote(table)} ({names}) VALUES ({placeholders(len(columns))})", rows
        )

    def merge(self, table: str, columns: Mapping[str, Kind], rows: Sequence[Row], rest: str) -> None:
        names = ", ".join(map(schema.quote, columns))
        self._connection.executemany(
            f"INSERT INTO {schema.quote(table)} ({names}) VALUES ({placeholders(len(columns))}) {rest}", rows
        )

    def filled(self, table: str, columns: Sequence[str], ids: Sequence[str], least: int) -> dict[str, set[str]]:
        found = {}
        flags = ", ".join(f"{schema.quote(column)} IS NOT NULL" for column in columns)
        for some in chunks(ids, 500):
            sql = f"SELECT id, {flags} FROM {schema.quote(table)} WHERE id IN ({placeholders(len(some))})"
            for key, *row in self.execute(sql, some):
                if sum(row) > least:
                    found[key] = set(compress(columns, row))
        return found

    def lock_schema(self) -> None:
        """Nothing to do: a transaction that may write keeps every other writer out."""

    def lock_merges(self) -> None:
        """Nothing to do, for the same reason."""

    def relations(self) -> set[str]:
        return {row[0] for row in self.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}

    def columns(self, table: str) -> dict[str, Kind] | None:
        rows = self.execute("SELECT name, upper(type) FROM pragma_table_info(?)", (table,))
        return {name: _KINDS.get(type_, OTHER) for name, type_ in rows} or None

    def add_columns(self, table: str, columns: Mapping[str, Kind]) -> None:
        for name, kind in columns.items():
            type_ = schema.type_name(kind, self.dialect)
            self.execute(f"ALTER TABLE {schema.quote(table)} ADD COLUMN {schema.quote(name)} {type_}")

    def room(self) -> Room:
        [(there,)] = self.execute(
            "SELECT count(*) FROM sqlite_master AS m JOIN pragma_table_info(m.name) WHERE m.type = 'table'"
        )
        return Room(new=max(MAX_COLUMNS - there, 0), added=MAX_READ_AGAIN // max(there, 1))

    def trouble(self, error: Exception) -> Trouble:
        if isinstance(error, MemoryError | OSError):
            return Trouble.AWAY
        if not isinstance(error, sqlite3.Error) or isinstance(error, sqlite3.ProgrammingError):
            return Trouble.DATA
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return Trouble.AWAY if isinstance(error, sqlite3.OperationalError) else Trouble.DATA
        # Extended result codes carry the plain one in their lowest byte.
        if code & 0xFF in _AWAY:
            return Trouble.AWAY
        return Trouble.STALE if code & 0xFF in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA) else Trouble.DATA
