"""A file of the spool: a SQLite database that one process has to itself; what was appended is on disk."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import structlog

from .errors import EventRouterError

log = structlog.get_logger("eventrouter.spool")

FORMAT = 1
"""The version of the tables (SQLite's `user_version`)."""
PAGE_BYTES = 16 * 1024
CHECKPOINT_BYTES = 16 * 1024 * 1024
"""How long the write-ahead log grows, about."""
CACHE_BYTES = 8 * 1024 * 1024
SMALL_BYTES = 1024 * 1024
"""A file of that size is not worth the work of making it smaller."""

_TABLES = """
CREATE TABLE entries (id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER, events INTEGER, bytes INTEGER, data BLOB);
CREATE TABLE unreadable (id INTEGER PRIMARY KEY, at_ms INTEGER, events INTEGER, bytes INTEGER, data BLOB);
"""


class ForeignFileError(EventRouterError):
    """The file was written by a version of eventrouter that this one doesn't know. It is left as it is."""


class Row(NamedTuple):
    """An entry as it lies in the file."""

    id: int
    at_ms: int
    """When it was appended, by this machine's clock."""
    events: int
    """How many accepted and refused events it holds."""
    data: bytes


class Totals(NamedTuple):
    """What waits in a file."""

    rows: int = 0
    events: int = 0
    bytes: int = 0
    oldest_ms: int = 0
    """When the first of it was appended; 0 when there is nothing."""


class SpoolFile:
    """An open file. Its methods block, and are called by one thread at a time. They raise `sqlite3.Error`.

    The kernel drops the lock when the process ends, so it tells the truth after `kill -9`. It lies on a file beside:
    SQLite's own lock would be lost with any descriptor of the database that this process closes. Neither file is ever
    removed: that could hit another process that just opens it.
    """

    def __init__(self, path: Path, lock: int) -> None:
        """Use `open`."""
        self.path = path
        self._lock = lock
        self._connection: sqlite3.Connection
        self._done = 0
        self._doubtful = True

    @classmethod
    def open(cls, path: Path) -> SpoolFile | None:
        """Opens the file, makes it when it is missing, and anew when it is damaged; None when another process has it.

        Raises `ForeignFileError` and `OSError`.
        """
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file = cls(path, lock)
            try:
                file._connect()
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
                file.start_anew(error)
        except BlockingIOError:
            os.close(lock)
            return None
        except BaseException:
            os.close(lock)
            raise
        return file

    def start_anew(self, error: sqlite3.Error) -> None:
        """Gives a damaged file another name, under which it can be looked at, and goes on with a new one."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        name = f"{self.path.stem}.damaged-{int(time.time() * 1000)}"
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").replace(self.path.with_name(f"{name}{suffix}"))
        hint = "what was in it is not delivered; `sqlite3 FILE .recover` shows what can be read"
        log.error(
            "a file of the spool is damaged", error=str(error), moved_to=str(self.path.with_name(name)), hint=hint
        )
        self._done, self._doubtful = 0, True
        self._connect()

    def _connect(self) -> None:
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        sync_directory(self.path.parent)
        self._connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        run = self._connection.execute
        run(f"PRAGMA page_size = {PAGE_BYTES}")
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        if sys.platform == "darwin":
            run("PRAGMA fullfsync = 1")  # there, fsync alone leaves the data in the drive's cache
            run("PRAGMA checkpoint_fullfsync = 1")
        run(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_BYTES // PAGE_BYTES}")
        run(f"PRAGMA cache_size = -{CACHE_BYTES // 1024}")
        run("BEGIN EXCLUSIVE")
        (version,) = run("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in _TABLES.split(";"):
                run(statement)
            run(f"PRAGMA user_version = {FORMAT}")
        run("COMMIT")
        if version not in (0, FORMAT):
            raise ForeignFileError(
                f"{self.path} has format {version}, this version reads {FORMAT}",
                hint="start the version that wrote it, so that it is drained",
            )
        self._settle_doubts()

    def append(self, at_ms: int, events: int, data: bytes) -> None:
        """Appends an entry; on return it is on disk. When it raises, the entry is not there."""
        with self._careful():
            self._connection.execute(
                "INSERT INTO entries (at_ms, events, bytes, data) VALUES (?, ?, ?, ?)", (at_ms, events, len(data), data)
            )

    def read(self, max_bytes: int, max_events: int) -> list[Row]:
        """The first entries, up to those sizes (the last one may go beyond); none when there are none."""
        rows: list[Row] = []
        query = "SELECT id, at_ms, events, data FROM entries WHERE id > ? ORDER BY id"
        with contextlib.closing(self._connection.execute(query, (self._done,))) as cursor:
            for values in cursor:
                row = Row(*values)
                rows.append(row)
                max_bytes -= len(row.data)
                max_events -= row.events
                if max_bytes <= 0 or max_events <= 0:
                    break
        return rows

    def remove(self, last_id: int) -> None:
        """Takes out the entries up to that one. When it raises, they may be there again after the next open only."""
        self._done = last_id
        with self._careful():
            self._connection.execute("DELETE FROM entries WHERE id <= ?", (last_id,))

    def set_aside(self, row: Row) -> None:
        """Moves an entry that can't be read to the table `unreadable`, where a person may look at it."""
        with self._careful():
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("INSERT INTO unreadable SELECT * FROM entries WHERE id = ?", (row.id,))
            self._connection.execute("DELETE FROM entries WHERE id = ?", (row.id,))
            self._connection.execute("COMMIT")

    def totals(self) -> Totals:
        """What waits."""
        query = "SELECT count(*), sum(events), sum(bytes), min(at_ms) FROM entries WHERE id > ?"
        return Totals(*(value or 0 for value in self._connection.execute(query, (self._done,)).fetchone()))

    def oldest_ms(self) -> int:
        """When the first entry was appended; 0 when there is none."""
        query = "SELECT at_ms FROM entries WHERE id > ? ORDER BY id LIMIT 1"
        found = self._connection.execute(query, (self._done,)).fetchone()
        return int(found[0]) if found else 0

    def compact(self) -> None:
        """Gives the space of removed entries back to the disk."""
        with self._careful():
            self._connection.execute("DELETE FROM entries WHERE id <= ?", (self._done,))
            (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
            if pages * PAGE_BYTES > SMALL_BYTES:
                self._connection.execute("VACUUM")
            self._settle_doubts(anyway=True)

    def close(self) -> None:
        """Closes the file and gives the lock free."""
        try:
            self._connection.close()
        finally:
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    @contextlib.contextmanager
    def _careful(self) -> Iterator[None]:
        self._settle_doubts()
        try:
            yield
        except BaseException:
            self._doubtful = True
            if self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            raise

    def _settle_doubts(self, *, anyway: bool = False) -> None:
        """After a failed write (and at the open: the last process may have met one) nothing follows in the same log.

        What failed to reach the disk once is not written again by a later fsync, which would succeed nevertheless. A
        checkpoint writes what was committed anew, into the main file, waits for the disk and begins an empty log.
        """
        if self._doubtful or anyway:
            busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise sqlite3.OperationalError("the write-ahead log could not be emptied")
            self._doubtful = False


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is at fault, and stays so."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def sync_directory(path: Path) -> None:
    """Waits until the entries of a directory are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
