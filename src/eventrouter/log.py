"""The event log: accepted events are appended, and kept, before anybody is told so; with Redis away, in the spool."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog
from redis.exceptions import RedisError

from .acceptance import AcceptedEvent
from .errors import EventRouterError, UnavailableError
from .lane import Claim
from .lanes import Lanes
from .log_write import LogWriter, Unkept
from .records import RejectedEvent
from .spool import Spool
from .spool_files import CHUNK_BYTES, CHUNK_EVENTS, Chunk

log = structlog.get_logger("eventrouter.log")

MAX_PENDING_BYTES = 64 * 1024 * 1024
"""How much may wait for the next write; beyond it requests are answered 503."""
MAX_WRITE_BYTES = 4 * 1024 * 1024
"""How much one write takes at most."""
STALL_SECONDS = 2.0
"""After so long without an answer to a write, what comes later goes to the spool."""
WRITE_SECONDS = 5.0
"""How long a write waits for its answer, where there is a spool."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two looks for a server that is away: doubled each time, up to the longest."""
QUIET_SECONDS, REMIND_SECONDS = 10.0, 60.0
"""A spool that comes and goes is told so often at most; one that stays, so often."""
HALF_BYTES, HALF_EVENTS = CHUNK_BYTES // 2, CHUNK_EVENTS // 2
LOOK_SECONDS = 60.0
"""How often it looks for what collectors that are gone left in the spool's directory."""
STOP_SECONDS = 1.0
"""How long the step that drains the spool may take to end."""


class _Request:
    """What one request wants to have kept."""

    __slots__ = ("done", "events", "rejected", "size")

    def __init__(self, events: Sequence[AcceptedEvent], rejected: Sequence[RejectedEvent]) -> None:
        self.events = events
        self.rejected = rejected
        self.size = sum(len(event.data) for event in events) + sum(200 + len(one.payload) for one in rejected)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self, error: Exception | None = None) -> None:
        """Tells who waits, if they still do."""
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class EventLog:
    """Appends to the log, many requests at once: while one write is under way, later requests gather for the next.

    A write is one pipeline with one step per shard, so that it costs one round trip and one fsync however many requests
    share it. With a spool, what Redis doesn't take (it is away, full, or silent) goes there, and so does all that comes
    later, until the spool is drained: an append that begins after another one has returned stays behind it. Without
    promise is the order of appends that overlap.
    """

    def __init__(
        self, lanes: Lanes, shards: int, enqueue: Callable[[Sequence[Claim]], Awaitable[None]], *, writes: int = 2
    ) -> None:
        """`enqueue` hands the claims of lanes that nobody serves to arq; `writes` are under way at once at most."""
        self._writer = LogWriter(lanes, shards, enqueue)
        self._pending: list[_Request] = []
        self._pending_bytes = 0
        self._free = writes
        self._tasks: set[asyncio.Task[None]] = set()
        self.spool: Spool | None = None
        self.reason = ""
        """Why events go to the spool; empty when they don't."""
        self._reach: Callable[[], Awaitable[None]] | None = None
        self._drainer: asyncio.Task[None] | None = None
        self._chunk: Chunk | None = None
        """What was read from the spool, and not kept in the log yet."""
        self._committing = self._moving = False
        self._gate_open = True
        self._stopping = asyncio.Event()
        self._told_at = self._began_at = -QUIET_SECONDS

    def use(self, spool: Spool, reach: Callable[[], Awaitable[None]]) -> None:
        """Takes an open spool into use, and drains what an earlier process left in it.

        `reach` returns when the server can be written to, and raises (an `OSError`, `RedisError`, `EventRouterError`)
        when it can't.
        """
        self.spool, self._reach = spool, reach
        if not spool.is_empty:
            self.spool_from_now("an earlier process left events in the spool")
        self._spawn(self._look_around(spool))

    async def append(self, events: Sequence[AcceptedEvent], rejected: Sequence[RejectedEvent] = ()) -> None:
        """Returns when every event and every rejection is durable.

        Raises `UnavailableError` when they can't be kept; some of them may be kept nevertheless: the client repeats
        all, and dedup absorbs those.
        """
        if not events and not rejected:
            return
        request = _Request(events, rejected)
        if self._pending_bytes + request.size > MAX_PENDING_BYTES:
            raise UnavailableError("too much waits to be written", hint="send more slowly", retry_after=1.0)
        self._pending.append(request)
        self._pending_bytes += request.size
        self._start_write()
        await request.done

    async def close(self) -> None:
        """Waits for the writes under way; what the spool holds stays there. Closes the spool."""
        self._stopping.set()
        if self._drainer is not None:
            await asyncio.wait([self._drainer], timeout=STOP_SECONDS)
            self._drainer.cancel()
            await asyncio.wait([self._drainer])
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._writer.close()
        if self.spool is not None:
            spool, self.spool = self.spool, None
            await spool.close()

    # Writing

    def _start_write(self) -> None:
        if self.reason:
            if self._pending and not self._committing and self._gate_open:
                # While the spool is drained it takes half a chunk for each one that leaves it, and none when little is
                # left (that waits for its turn in memory): else the spool of a busy collector would never be empty.
                self._committing, self._gate_open = True, not self._moving
                limits = (HALF_BYTES, HALF_EVENTS) if self._moving else (MAX_WRITE_BYTES, CHUNK_EVENTS)
                self._spawn(self._write_spool(self._take(*limits)))
            return
        while self._pending and self._free:
            self._free -= 1
            self._spawn(self._write(self._take(MAX_WRITE_BYTES)))

    def _take(self, max_bytes: int, max_events: float = float("inf")) -> list[_Request]:
        size = taken = events = 0
        for request in self._pending:
            taken += 1
            size += request.size
            events += len(request.events)
            if size >= max_bytes or events >= max_events:
                break
        batch, self._pending = self._pending[:taken], self._pending[taken:]
        self._pending_bytes -= size
        return batch

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, batch: list[_Request]) -> None:
        stalled = patience = None
        if self.spool is not None:
            patience = WRITE_SECONDS
            stalled = asyncio.get_running_loop().call_later(
                STALL_SECONDS, self.spool_from_now, "the event log does not answer"
            )
        try:
            unkept = await self._writer.write(*_gather(batch), patience)
        finally:
            self._free += 1
            if stalled is not None:
                stalled.cancel()
        if unkept is None:
            for request in batch:
                request.end()
        else:
            self._place_unkept(batch, unkept)
        self._start_write()

    def _place_unkept(self, batch: list[_Request], unkept: Unkept) -> None:
        rest: list[_Request] = []
        for request in batch:
            request.events, request.rejected = unkept.of(request.events, request.rejected)
            if request.events or request.rejected:
                rest.append(request)
            else:
                request.end()
        if self.spool is not None and unkept.is_passing:
            self._pending[:0] = rest
            self._pending_bytes += sum(request.size for request in rest)
            self.spool_from_now(unkept.reason)
            return
        if not unkept.is_passing:
            log.error("the event log refuses what is appended", error=unkept.reason)
        elif not isinstance(unkept.error, UnavailableError):
            log.warning("the event log is away", error=unkept.reason)
        for request in rest:
            request.end(unkept.unavailable())

    async def _write_spool(self, batch: list[_Request]) -> None:
        assert self.spool is not None
        error: Exception | None = None
        try:
            await self.spool.append(*_gather(batch))
        except UnavailableError as full:
            error = full
        except Exception:
            log.exception("the spool failed")
            error = UnavailableError("the spool failed", retry_after=2.0)
        self._committing = False
        for request in batch:
            request.end(error)
        self._start_write()

    # Draining

    def spool_from_now(self, reason: str) -> None:
        """What is pending, and what comes, goes to the spool, until it is drained."""
        if self.reason:
            return
        self.reason = reason
        self._began_at = now = time.monotonic()
        if now - self._told_at >= QUIET_SECONDS and self.spool is not None:
            self._told_at = now
            log.warning("events go to the spool", reason=reason, path=str(self.spool.directory))
        if not self._stopping.is_set():
            self._drainer = asyncio.ensure_future(self._drain())
        self._start_write()

    async def _drain(self) -> None:
        assert self.spool is not None
        spool, pause, reminded_at = self.spool, FIRST_PAUSE, time.monotonic()
        before = spool.state().drained
        try:
            while not self._stopping.is_set():
                problem = await self._drain_step(spool)
                if not problem:
                    pause = FIRST_PAUSE
                    if self._committing or not spool.is_empty:
                        continue
                    self._leave_spool(spool, spool.state().drained - before)
                    return
                self.reason = problem
                self._open_gate()
                if time.monotonic() - reminded_at >= REMIND_SECONDS:
                    reminded_at = time.monotonic()
                    there = spool.state()
                    log.warning("events wait in the spool", reason=problem, events=there.events, bytes=there.bytes)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            self._open_gate()

    def _leave_spool(self, spool: Spool, events: int) -> None:
        """From now on events go to the log again; those that were held back meanwhile are the first."""
        self.reason = ""
        if self._told_at == self._began_at:
            seconds = round(time.monotonic() - self._began_at, 1)
            log.info("the spool is drained; events go to the event log again", events=events, seconds=seconds)
        self._spawn(spool.compact())

    async def _look_around(self, spool: Spool) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), LOOK_SECONDS)
                return
            if await spool.adopt():
                self.spool_from_now("a collector that is gone left events in its spool")

    def _open_gate(self) -> None:
        self._moving, self._gate_open = False, True
        self._start_write()

    async def _drain_step(self, spool: Spool) -> str:
        """Moves what lies in the spool to the log; returns what keeps it from that, if anything does."""
        assert self._reach is not None
        try:
            await self._reach()
            self._moving = True
            while not self._stopping.is_set():
                self._chunk = chunk = self._chunk or await spool.read()
                if chunk is None:
                    return ""
                unkept = await self._writer.write(chunk.events, chunk.rejected)
                if unkept is not None:
                    chunk.events, chunk.rejected = unkept.of(chunk.events, chunk.rejected)
                    return unkept.reason
                self._chunk = None
                await spool.remove(chunk)
                if spool.holds_more_than(HALF_BYTES, HALF_EVENTS):
                    self._gate_open = True
                    self._start_write()
            return ""
        except (TimeoutError, OSError, RedisError, EventRouterError) as away:
            hint = f"; {away.hint}" if isinstance(away, EventRouterError) and away.hint else ""
            return f"{away}{hint}" if isinstance(away, EventRouterError) else f"{type(away).__name__}: {away}"
        except sqlite3.Error as error:
            return f"the spool can't be read: {error}"
        except Exception as bug:
            log.exception("draining the spool failed")
            return f"{type(bug).__name__}: {bug}"


def _gather(batch: Sequence[_Request]) -> tuple[list[AcceptedEvent], list[RejectedEvent]]:
    """All that a batch wants to have kept, in its order."""
    return (
        [event for request in batch for event in request.events],
        [record for request in batch for record in request.rejected],
    )
