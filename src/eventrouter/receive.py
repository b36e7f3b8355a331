"""A request's body as it arrives: bounded in size, in time, and in what all of them take together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from .acceptance import BodyError, Limits
from .errors import UnavailableError

Receive = Callable[[], Awaitable[Any]]

DRAIN_BYTES = 8 * 1024 * 1024
DRAIN_SECONDS = 5.0
"""How much of a refused body is read and thrown away, so that a client that is still sending sees the answer."""
PACE_SECONDS = 5.0
PACE_BYTES = 5 * 1024
"""What a body has to bring in which time, 1 KB/s, where bodies that are incomplete take much room."""


class Budget:
    """The bytes that all requests in progress may hold together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.incomplete_limit = limit // 2
        """How many of them bodies may hold of which more is on its way."""
        self.held = 0
        """How many bytes are held now."""
        self.incomplete = 0
        """How many bytes such bodies hold now."""

    @property
    def crowded(self) -> bool:
        """Whether incomplete bodies take half of what they may."""
        return self.incomplete * 2 >= self.incomplete_limit

    def hold(self) -> Hold:
        """A request's share: nothing at first, given back at the end of its `with` block."""
        return Hold(self)

    def take(self, count: int) -> None:
        """Adds `count` bytes (gives back when negative). Raises `UnavailableError` when there is no room for them."""
        if count > 0 and self.held + count > self._limit:
            raise self._full()
        self.held += count

    def take_incomplete(self, count: int) -> None:
        """The same, for bytes of an incomplete body: those have half of the room."""
        if count > 0 and self.incomplete + count > self.incomplete_limit:
            raise self._full()
        self.take(count)
        self.incomplete += count

    def _full(self) -> UnavailableError:
        return UnavailableError("the collector has too much to do", retry_after=1.0)


class Hold:
    """One request's share of a `Budget`."""

    __slots__ = ("_budget", "_incomplete", "_size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0
        self._incomplete = 0

    @property
    def crowded(self) -> bool:
        """Whether incomplete bodies, of all requests, take much room."""
        return self._budget.crowded

    def resize(self, size: int) -> None:
        """Holds `size` bytes from now on. Raises `UnavailableError` when there is no room for them."""
        if size != self._size:
            self._budget.take(size - self._size)
            self._size = size
        if self._incomplete:
            self._budget.incomplete -= self._incomplete
            self._incomplete = 0

    def grow(self, size: int) -> None:
        """The same, while these are the first bytes of a body that goes on."""
        self._budget.take_incomplete(size - self._size)
        self._size = self._incomplete = size

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resize(0)


class Disconnected(Exception):
    """The client went away before its body was complete: nobody is left to be answered."""


class Body:
    """The body of one request, `length` bytes by its header (None: the header does not say)."""

    def __init__(self, receive: Receive, length: int | None) -> None:
        self._receive = receive
        self._length = length
        self._complete = False

    async def read(self, limits: Limits, hold: Hold) -> bytes:
        """The whole body; its size stays held, and until it is complete what has arrived of it.

        Raises `BodyError` when it is too large or too slow, `UnavailableError` when there is no room for it (then the
        rest may still be on its way: see `drain`), and `Disconnected`.
        """
        limit = limits.max_batch_bytes
        if self._length is not None and self._length > limit:
            raise _too_large(limit)
        now = asyncio.get_running_loop().time
        start = now()
        end = start + limits.body_timeout
        first = b""
        rest: bytearray | None = None
        size = 0
        while True:
            goal = size + PACE_BYTES
            pace = start + PACE_SECONDS
            try:
                async with asyncio.timeout_at(pace if pace < end else end):
                    while size < goal:
                        chunk = self._take(await self._receive())
                        size += len(chunk)
                        if size > limit:
                            raise _too_large(limit)
                        if rest is not None:
                            rest += chunk
                        elif first:
                            rest = bytearray(first + chunk)
                        else:
                            first = chunk
                        if self._complete:
                            hold.resize(size)
                            return first if rest is None else bytes(rest)
                        hold.grow(size)
            except TimeoutError:
                if now() >= end:
                    reason = f"the body did not arrive within {limits.body_timeout:g} seconds"
                    raise BodyError("body_timeout", reason, status=408) from None
                if hold.crowded:
                    reason = f"the body brought less than {PACE_BYTES} bytes in {PACE_SECONDS:g} seconds"
                    raise BodyError("body_timeout", reason, status=408) from None
            start = now()

    async def drain(self) -> bool:
        """Reads what is left and throws it away; False when that is too much or takes too long."""
        if self._length is not None and self._length > DRAIN_BYTES:
            return self._complete
        left = DRAIN_BYTES
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._complete and left > 0:
                    left -= len(self._take(await self._receive()))
        except (TimeoutError, Disconnected):
            return False
        return self._complete

    def _take(self, message: Any) -> bytes:
        if message["type"] == "http.disconnect":
            raise Disconnected
        self._complete = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk


def _too_large(limit: int) -> BodyError:
    return BodyError("too_large", f"the body is larger than {limit} bytes", status=413)
