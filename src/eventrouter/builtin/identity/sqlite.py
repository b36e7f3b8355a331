"""The state database in a SQLite file of its own."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..sqlite_wait import SLICE_SECONDS, wait_for_lock
from . import schema
from .graph import Key
from .store import OUTBOX_LIMIT, Changes, Loaded, Moved, StateError, Store

CHUNK = 500
"""Keys per statement: the text of the statement stays the same, so that it is compiled once."""

BUSY_TIMEOUT = 30.0
"""Seconds to wait for another process's write."""

_FIND = f"SELECT key, person_id, user_key FROM identifiers WHERE key IN ({', '.join('?' * CHUNK)})"
_WAITING = "SELECT seq, record FROM outbox WHERE shard = ? AND seq > ? ORDER BY seq LIMIT ?"


class SqliteStore(Store):
    """A file in WAL mode with synchronous=FULL: a commit survives a power loss; readers never wait for the writer."""

    errors = (StateError, OSError, sqlite3.Error)

    def __init__(self, path: Path, *, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self.path = path
        self.busy_timeout = busy_timeout
        self._hurry = threading.Event()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        return str(self.path)

    def describe(self, error: Exception) -> str:
        if isinstance(error, sqlite3.OperationalError) and "unable to open" in str(error):
            return f"{error}: does its folder exist, and may this user write there?"
        return str(error) or type(error).__name__

    def open(self) -> None:
        if self._connection is not None:
            if self._identity() == self._file:
                return
            self.close()
        if self._file is not None and not self.path.exists():
            raise StateError("the file is gone. Put it back, or restart to begin with an empty one")
        connection = sqlite3.connect(
            self.path, timeout=SLICE_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=32
        )
        try:
            self._wait(connection, "PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA cache_size = -16384")
            self._migrate(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.DatabaseError) and error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                raise StateError("this is no SQLite database. Name another file, or move this one away") from None
            raise
        self._connection = connection
        self._file = self._identity()

    def _wait(self, connection: sqlite3.Connection, sql: str) -> list[Any]:
        """The rows of a statement for which other processes may have to be waited for."""
        return wait_for_lock(lambda: connection.execute(sql).fetchall(), self.busy_timeout, self._hurry)

    def _identity(self) -> tuple[int, int] | None:
        """Tells a file from another one that was put in its place; None when it is gone."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return None
        return (stat.st_dev, stat.st_ino)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        self._wait(connection, "BEGIN IMMEDIATE")
        try:
            connection.execute(schema.VERSIONS_TABLE.format(schema=""))
            version = connection.execute(schema.READ_VERSION.format(schema="")).fetchone()[0]
            for statement in schema.statements(version, schema="", bytes_="BLOB", options=" WITHOUT ROWID"):
                connection.execute(statement)
            self._wait(connection, "COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StateError("the connection is closed")
        return self._connection

    def load(self, keys: Sequence[Key], shard: int, after: int) -> Loaded:
        self.open()
        connection = self._connected()
        return wait_for_lock(lambda: _load(connection, keys, shard, after), self.busy_timeout, self._hurry)

    def begin(self, keys: Sequence[Key], shard: int, after: int) -> tuple[int, Loaded]:
        self.open()
        connection = self._connected()
        self._wait(connection, "BEGIN IMMEDIATE")
        last: int = connection.execute("SELECT seq FROM clock").fetchone()[0]
        return last, _load(connection, keys, shard, after)

    def apply(self, changes: Changes) -> list[Moved]:
        connection = self._connected()
        moved: list[Moved] = []
        for into, user_key, gone in changes.merges:
            connection.execute("UPDATE persons SET merged_into = ? WHERE person_id = ?", (into, gone))
            rows = connection.execute(
                "UPDATE identifiers SET person_id = ?, user_key = ? WHERE person_id = ?"
                " RETURNING type, value, person_id",
                (into, user_key, gone),
            )
            moved += [Moved(*row) for row in rows.fetchall()]
        connection.executemany("UPDATE identifiers SET user_key = ? WHERE person_id = ?", changes.users)
        connection.executemany(
            "INSERT INTO persons (person_id, merged_into, created_at) VALUES (?, ?, ?)", changes.persons
        )
        connection.executemany(
            "INSERT INTO identifiers (key, type, value, person_id, user_key, seen_at) VALUES (?, ?, ?, ?, ?, ?)",
            changes.identifiers,
        )
        return moved

    def commit(self, shard: int, records: Sequence[tuple[int, str]], settled: Mapping[int, int]) -> None:
        connection = self._connected()
        _forget(connection, settled)
        if records:
            connection.executemany(
                "INSERT INTO outbox (shard, seq, record) VALUES (?, ?, ?)", [(shard, *row) for row in records]
            )
            connection.execute("UPDATE clock SET seq = ?", (records[-1][0],))
        self._wait(connection, "COMMIT")

    def rollback(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def forget(self, settled: Mapping[int, int]) -> None:
        self.open()
        connection = self._connected()
        self._wait(connection, "BEGIN IMMEDIATE")
        try:
            _forget(connection, settled)
            self._wait(connection, "COMMIT")
        except BaseException:
            self.rollback()
            raise

    def abort(self) -> None:
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(sqlite3.ProgrammingError):  # it was closed just now
                connection.interrupt()

    def hurry(self) -> None:
        self._hurry.set()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _load(connection: sqlite3.Connection, keys: Sequence[Key], shard: int, after: int) -> Loaded:
    snapshot: dict[Key, tuple[str, Key | None]] = {}
    for start in range(0, len(keys), CHUNK):
        some: list[Key | None] = list(keys[start : start + CHUNK])
        some += [None] * (CHUNK - len(some))
        for key, person_id, user_key in connection.execute(_FIND, some).fetchall():
            snapshot[key] = (person_id, user_key)
    waiting = connection.execute(_WAITING, (shard, after, OUTBOX_LIMIT)).fetchall()
    return Loaded(snapshot, waiting)


def _forget(connection: sqlite3.Connection, settled: Mapping[int, int]) -> None:
    for shard, seq in settled.items():
        connection.execute("DELETE FROM outbox WHERE shard = ? AND seq <= ?", (shard, seq))
