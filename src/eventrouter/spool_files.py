"""The files of a spool: a collector's own, and those that dead collectors left, which are drained first."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import msgspec
import structlog

from .acceptance import AcceptedEvent
from .records import RejectedEvent
from .spool_entry import decode_spooled
from .spool_file import ForeignFileError, SpoolFile, Totals, is_damage, sync_directory

log = structlog.get_logger("eventrouter.spool")

CHUNK_BYTES = 4 * 1024 * 1024
CHUNK_EVENTS = 5000
"""How much is read at once."""


Stamp = tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Chunk:
    """The first entries of the spool, read at once: what `remove` takes out again."""

    file: SpoolFile
    last_id: int = 0
    rows: int = 0
    size: int = 0
    """Bytes in the file."""
    count: int = 0
    """How many events there are, the refused ones included."""
    events: list[AcceptedEvent] = field(default_factory=list)
    rejected: list[RejectedEvent] = field(default_factory=list)


class SpoolFiles:
    """The files DIRECTORY/NUMBER.sqlite3 of one collector, open. Its methods block, and are called by one thread.

    The lowest number that nobody holds is its own; what lies in other files that nobody holds is drained, too. They
    raise `OSError` and `sqlite3.Error`.
    """

    def __init__(self, directory: Path, now: Callable[[], float] = time.time) -> None:
        """Opens them."""
        self.directory = directory
        self.waiting = Totals()
        """What waits in all of them. Any thread may read it."""
        self.unreadable = 0
        """How many events were set aside because the disk has changed them."""
        self._now = now
        self._own: SpoolFile
        self._adopted: list[SpoolFile] = []
        self._adopted_bytes = 0
        self._free: dict[Path, Stamp | None] = {}
        """The files that nobody held at the last look; with a stamp, when there is nothing in them for us."""
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        sync_directory(directory.parent)
        existing = [int(path.stem) for path in directory.glob("*.sqlite3") if path.stem.isdigit()]
        found: list[SpoolFile] = []
        for number in count(1):
            if found and number > max(existing, default=0):
                break
            try:
                file = SpoolFile.open(directory / f"{number}.sqlite3")
            except ForeignFileError as error:
                log.error("a file of the spool is left alone", reason=str(error), hint=error.hint)
                continue
            if file is None:
                continue
            if found and not file.totals().rows:
                file.close()
            else:
                found.append(file)
        self._own, *self._adopted = found
        self._count()

    @property
    def own_bytes(self) -> int:
        """What waits in the own file alone. Any thread may read it."""
        return self.waiting.bytes - self._adopted_bytes

    def adopt(self) -> bool:
        """Takes over what lies in files whose collectors are gone; returns whether there was any.

        A file is taken at the second look that finds it free: at the first one its collector may be starting again.
        """
        ours = {file.path for file in (*self._adopted, self._own)}
        free: dict[Path, Stamp | None] = {}
        taken = len(self._adopted)
        for path in sorted(self.directory.glob("*.sqlite3")):
            if path in ours or not path.stem.isdigit():
                continue
            seen = self._free.get(path)
            if seen is not None and seen == _stamp(path):
                free[path] = seen
                continue
            try:
                file = SpoolFile.open(path)
            except ForeignFileError as error:
                log.error("a file of the spool is left alone", reason=str(error), hint=error.hint)
                free[path] = _stamp(path)
                continue
            if file is None:
                continue
            there = file.totals()
            if there.rows and path in self._free:
                log.warning("the spool of a collector that is gone is drained", path=str(path), events=there.events)
                self._adopted.append(file)
                self._count()
            else:
                file.close()
                free[path] = None if there.rows else _stamp(path)
        self._free = free
        return len(self._adopted) > taken

    def append(self, events: int, data: bytes) -> None:
        """Appends an entry of so many events to the own file; on return it is on disk."""
        at_ms = int(self._now() * 1000)
        try:
            self._own.append(at_ms, events, data)
        except sqlite3.Error as error:
            if is_damage(error):
                self._start_anew(self._own, error)
            raise
        there = self.waiting
        oldest_ms = there.oldest_ms if there.rows else at_ms
        self.waiting = Totals(there.rows + 1, there.events + events, there.bytes + len(data), oldest_ms)

    def read(self) -> Chunk | None:
        """The first entries that wait, in order; None when there are none."""
        while True:
            file = self._adopted[0] if self._adopted else self._own
            try:
                rows = file.read(CHUNK_BYTES, CHUNK_EVENTS)
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
                self._start_anew(file, error)
                continue
            if not rows and file is self._own:
                return None
            if not rows:
                self._adopted.remove(file)
                with contextlib.suppress(sqlite3.Error):
                    file.compact()
                    file.close()
                continue
            chunk = Chunk(file)
            for row in rows:
                try:
                    entry = decode_spooled(row.data)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    log.error("an entry of the spool can't be read", path=str(file.path), id=row.id, error=str(error))
                    file.set_aside(row)
                    self.unreadable += row.events
                    self._count()
                    continue
                chunk.last_id = row.id
                chunk.rows += 1
                chunk.size += len(row.data)
                chunk.count += row.events
                chunk.events += entry.events
                chunk.rejected += entry.rejected
            if chunk.rows:
                return chunk

    def remove(self, chunk: Chunk) -> None:
        """Takes out what was read. When it raises, the disk still has it, but only another process reads it again."""
        there = self.waiting
        self.waiting = Totals(there.rows - chunk.rows, there.events - chunk.count, there.bytes - chunk.size, 0)
        try:
            chunk.file.remove(chunk.last_id)
        finally:
            if chunk.file is not self._own:
                self._adopted_bytes -= chunk.size
            files = (*self._adopted, self._own)
            self.waiting = self.waiting._replace(oldest_ms=next(filter(None, (one.oldest_ms() for one in files)), 0))

    def compact(self) -> None:
        """Gives disk space back; for when all is drained."""
        self._own.compact()

    def close(self) -> None:
        """Closes them; what waits stays."""
        for file in (*self._adopted, self._own):
            with contextlib.suppress(sqlite3.Error):
                file.close()

    def _count(self) -> None:
        totals = [file.totals() for file in (*self._adopted, self._own)]
        self._adopted_bytes = sum(one.bytes for one in totals[:-1])
        rows, events, size = (sum(one[part] for one in totals) for part in range(3))
        self.waiting = Totals(rows, events, size, min((one.oldest_ms for one in totals if one.rows), default=0))

    def _start_anew(self, file: SpoolFile, error: sqlite3.Error) -> None:
        file.start_anew(error)
        self._count()


def _stamp(path: Path) -> Stamp:
    """What changes when something is appended to a file: sizes and times of it and of its write-ahead log."""
    found = []
    for part in (path, path.with_name(f"{path.name}-wal")):
        with contextlib.suppress(FileNotFoundError):
            status = part.stat()
            found.append((status.st_size, status.st_mtime_ns))
    return tuple(found)
