"""The spool: keeps events on the collector's own disk while the event log can't take them, in order, within bounds."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import structlog

from .acceptance import AcceptedEvent
from .errors import StartError, UnavailableError
from .records import RejectedEvent
from .spool_entry import encode_spooled
from .spool_files import Chunk, SpoolFiles

log = structlog.get_logger("eventrouter.spool")

Result = TypeVar("Result")

RESERVE_BYTES = 256 * 1024 * 1024
"""What the spool leaves free on its disk: the event log and the warehouse may lie there, too."""
RECOVERY_SECONDS = 5.0
"""How long a spool that failed to write is taken for broken; and when a client may come again."""
TELL_SECONDS = 60.0
"""The same trouble is told so often at most."""


class SpoolState(NamedTuple):
    """What waits on this collector's disk, and what went through it since the process started."""

    bytes: int = 0
    events: int = 0
    """Accepted and refused events that wait."""
    oldest_seconds: float = 0.0
    """The age of the first of them; 0 when none waits."""
    spooled: int = 0
    drained: int = 0
    unreadable: int = 0
    """Events that were set aside because the disk has changed them."""
    can_keep: bool = False
    """Whether it would take an event now."""
    max_bytes: int = 0
    """How much may wait."""


class Spool:
    """The spool of one collector. `open` before use, `close` after. All work on the disk happens in one thread."""

    def __init__(
        self, directory: Path, max_bytes: int, *, reserve: int = RESERVE_BYTES, now: Callable[[], float] = time.time
    ) -> None:
        """`max_bytes` bounds what waits of its own; `reserve` bytes of the disk stay free."""
        self.directory = directory
        self._max_bytes = max_bytes
        self._reserve = reserve
        self._now = now
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._files: SpoolFiles
        self._spooled = self._drained = 0
        self._failed_at = -RECOVERY_SECONDS
        self._told: dict[str, float] = {}

    async def open(self) -> None:
        """Opens the files. Raises `StartError` when that is not possible."""
        try:
            self._files = await self._run(lambda: SpoolFiles(self.directory, self._now))
        except (OSError, sqlite3.Error) as error:
            raise StartError(
                f"the spool {self.directory} can't be used: {error}",
                hint="give a place on a local disk, writable for this user, with --data-dir or EVENTROUTER_DATA_DIR;"
                " `collect: { spool: { max_bytes: 0 } }` in routes.yaml does without it",
            ) from None

    async def close(self) -> None:
        """Closes the files; what waits stays for the next start."""
        await self._run(self._files.close)
        self._thread.shutdown(wait=False)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._files.waiting.rows

    def holds_more_than(self, size: int, events: int) -> bool:
        """Whether more waits than so many bytes, or so many events."""
        return self._files.waiting.bytes > size or self._files.waiting.events > events

    def state(self) -> SpoolState:
        """The numbers, and whether there is room; asks the disk how much it has left."""
        waiting = self._files.waiting
        age = max(self._now() - waiting.oldest_ms / 1000, 0.0) if waiting.oldest_ms else 0.0
        is_broken = time.monotonic() - self._failed_at < RECOVERY_SECONDS
        return SpoolState(
            waiting.bytes,
            waiting.events,
            age,
            self._spooled,
            self._drained,
            self._files.unreadable,
            not is_broken and self._files.own_bytes < self._max_bytes and self._has_room(0),
            self._max_bytes,
        )

    async def append(self, events: Sequence[AcceptedEvent], rejected: Sequence[RejectedEvent]) -> None:
        """Returns when all of it is on disk. Raises `UnavailableError` when the spool is full, or the disk fails."""
        await self._run(lambda: self._append(events, rejected))
        self._spooled += len(events) + len(rejected)

    async def read(self) -> Chunk | None:
        """The first entries that wait, in order; None when there are none. Raises `sqlite3.Error`."""
        return await self._run(self._files.read)

    async def remove(self, chunk: Chunk) -> None:
        """Takes out what is kept elsewhere now."""
        try:
            await self._run(lambda: self._files.remove(chunk))
        except sqlite3.Error as error:
            hint = "after a restart its events are sent again, and dropped as duplicates"
            self._tell("the spool can't be emptied", error=str(error), path=str(self.directory), hint=hint)
        self._drained += chunk.count

    async def compact(self) -> None:
        """Gives disk space back; for when all is drained."""
        try:
            await self._run(self._files.compact)
        except sqlite3.Error as error:
            self._tell("the spool's files can't be made smaller", error=str(error), path=str(self.directory))

    async def adopt(self) -> bool:
        """Takes over what collectors that are gone left in the directory; returns whether there was any."""
        try:
            return await self._run(self._files.adopt)
        except (OSError, sqlite3.Error) as error:
            self._tell("the spools of other collectors can't be read", error=str(error), path=str(self.directory))
            return False

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _append(self, events: Sequence[AcceptedEvent], rejected: Sequence[RejectedEvent]) -> None:
        data = encode_spooled(events, rejected)
        waiting = self._files.own_bytes
        if waiting + len(data) > self._max_bytes:
            raise self._refusal("the spool is full", "see `collect.spool.max_bytes`", bytes=waiting)
        if not self._has_room(len(data)):
            raise self._refusal("the spool's disk is nearly full", f"make room for {self.directory}")
        try:
            self._files.append(len(events) + len(rejected), data)
        except (OSError, sqlite3.Error) as error:
            self._failed_at = time.monotonic()
            raise self._refusal("the spool can't be written", f"{self.directory}: {error}") from None

    def _has_room(self, more: int) -> bool:
        try:
            return shutil.disk_usage(self.directory).free - more >= self._reserve
        except OSError:
            return False

    def _refusal(self, what: str, hint: str, **facts: object) -> UnavailableError:
        self._tell(what, path=str(self.directory), hint=hint, **facts)
        return UnavailableError(f"the event log takes nothing, and {what}", hint=hint, retry_after=RECOVERY_SECONDS)

    def _tell(self, what: str, **facts: object) -> None:
        now = time.monotonic()
        if now - self._told.get(what, -TELL_SECONDS) >= TELL_SECONDS:
            self._told[what] = now
            log.error(what, **facts)
