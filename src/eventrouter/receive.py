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


class Budget:
    """The bytes that all requests in progress may hold together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0
        """How many bytes are held now."""

    def hold(self) -> Hold:
        """A request's share: nothing at first, given back at the end of its `with` block."""
        return Hold(self)

    def take(self, count: int) -> None:
        """Adds `count` bytes (gives back when negative). Raises `UnavailableError` when there is no room for them."""
        if count > 0 and self.held + count > self._limit:
            raise UnavailableError("the collector has too much to do", retry_after=1.0)
        self.held += count


class Hold:
    """One request's share of a `Budget`."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0

    def resize(self, size: int) -> None:
        """Holds `size` bytes from now on. Raises `UnavailableError` when there is no room for them."""
        self._budget.take(size - self._size)
        self._size = size

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.take(-self._size)


class Disconnected(Exception):
    """The client went away before its body was complete: nobody is left to be answered."""


class Body:
    """The body of one request, `length` bytes by its header (None: the header does not say)."""

    def __init__(self, receive: Receive, length: int | None) -> None:
        self._receive = receive
        self._length = length
        self._complete = False

    async def read(self, limits: Limits, hold: Hold) -> bytes:
        """The whole body; its size stays held.

        Raises `BodyError` when it is too large or too slow, `UnavailableError` when there is no room for it (then the
        rest may still be on its way: see `drain`), and `Disconnected`.
        """
        limit = limits.max_batch_bytes
        if self._length is not None:
            _check_size(self._length, limit)
            hold.resize(self._length)
        first = b""
        rest: bytearray | None = None
        size = 0
        try:
            async with asyncio.timeout(limits.body_timeout):
                while True:
                    chunk = await self._next()
                    size += len(chunk)
                    _check_size(size, limit)
                    if self._length is None or size > self._length:
                        hold.resize(size)
                    if rest is not None:
                        rest += chunk
                    elif first:
                        rest = bytearray(first + chunk)
                    else:
                        first = chunk
                    if self._complete:
                        return first if rest is None else bytes(rest)
        except TimeoutError:
            reason = f"the body did not arrive within {limits.body_timeout:g} seconds"
            raise BodyError("body_timeout", reason, status=408) from None

    async def drain(self) -> bool:
        """Reads what is left and throws it away; False when that is too much or takes too long."""
        if self._length is not None and self._length > DRAIN_BYTES:
            return self._complete
        left = DRAIN_BYTES
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._complete and left > 0:
                    left -= len(await self._next())
        except (TimeoutError, Disconnected):
            return False
        return self._complete

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        self._complete = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise BodyError("too_large", f"the body is larger than {limit} bytes", status=413)
