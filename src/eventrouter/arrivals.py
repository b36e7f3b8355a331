"""What a turn waits for at its lane: new items, and the time when parked keys are due."""

from __future__ import annotations

import asyncio
import time

from .lane import Batch
from .lanes import Turn


class Arrivals:
    """What was read last tells what to wait for, by the server's clock."""

    def __init__(self, turn: Turn, seconds: float) -> None:
        """A wait for new items ends after so many seconds."""
        self._turn = turn
        self._seconds = seconds
        self._more: asyncio.Task[bool] | None = None
        """Waits for new items."""
        self._last_id = "0-0"
        self._ahead_ms = 0.0
        """How far the server's clock is ahead of our monotonic one."""
        self._next_due_ms = 0

    @property
    def now_ms(self) -> float:
        """The server's time."""
        return time.monotonic() * 1000 + self._ahead_ms

    def note(self, batch: Batch) -> None:
        """Takes note of what was just read."""
        self._next_due_ms = batch.next_due_ms
        self._ahead_ms = batch.now_ms - time.monotonic() * 1000

    def due_has_changed(self) -> None:
        """Parked keys came or went: the next read tells when one is due."""
        self._next_due_ms = 1

    def due_in(self) -> float | None:
        """Seconds until a parked key is due; None: none is parked."""
        return max((self._next_due_ms - self.now_ms) / 1000, 0.0) if self._next_due_ms else None

    def may_be_there(self) -> bool:
        """Whether a read may find something."""
        return self._more is None or self._more.done() or self.due_in() == 0.0

    def of_empty(self, last_id: str) -> None:
        """The lane is empty after this id: waits for what comes."""
        self._last_id = last_id
        self.more(last_id)

    def more(self, after: str = "") -> asyncio.Task[bool]:
        """The wait for items after the id `after`, by default the last one of the lane; or the one under way."""
        if self._more is None:
            self._more = asyncio.create_task(self._turn.wait(after or self._last_id, self._seconds))
        return self._more

    def forget(self) -> None:
        """Forgets the wait for new items when it has ended; raises what it met."""
        if self._more is not None and self._more.done():
            more, self._more = self._more, None
            more.result()

    async def linger(self, most: float | None) -> None:
        """Waits until there may be something to read, or for `most` seconds."""
        waits = [one for one in (self.due_in(), most) if one is not None]
        await asyncio.wait({self.more()}, timeout=min(waits, default=None))

    @property
    def tasks(self) -> list[asyncio.Task[bool]]:
        """What has to be cancelled when the turn ends."""
        return [self._more] if self._more else []
