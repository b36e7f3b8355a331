"""The event log: accepted events are appended, and kept, before anybody is told so."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog
from redis.exceptions import RedisError

from .errors import UnavailableError
from .events import shard_of
from .lane import Append, Claim
from .lanes import Lanes
from .log_entry import encode_entry
from .records import RejectedEvent, pack

log = structlog.get_logger("eventrouter.log")

MAX_PENDING_BYTES = 64 * 1024 * 1024
"""How much may wait for the next write; beyond it requests are answered 503."""
MAX_WRITE_BYTES = 4 * 1024 * 1024
"""How much one write takes at most."""


class Accepted(Protocol):
    """An accepted event: its order key, and the JSON of its `StoredEvent`."""

    @property
    def order_key(self) -> str: ...
    @property
    def data(self) -> bytes: ...


class _Request:
    """What one request wants to have kept; `missing` counts the shards whose write is still under way."""

    __slots__ = ("done", "events", "rejected", "size")

    def __init__(self, events: Sequence[Accepted], rejected: Sequence[RejectedEvent]) -> None:
        self.events = events
        self.rejected = rejected
        self.size = sum(len(event.data) for event in events) + 200 * len(rejected)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class EventLog:
    """Appends to the log, many requests at once: while one write is under way, later requests gather for the next.

    A write is one pipeline with one step per shard, so that it costs one round trip and one fsync however many requests
    share it.
    """

    def __init__(
        self, lanes: Lanes, shards: int, enqueue: Callable[[Sequence[Claim]], Awaitable[None]], *, writes: int = 2
    ) -> None:
        """`enqueue` hands the claims of lanes that nobody serves to arq; `writes` are under way at once at most."""
        self._lanes = lanes
        self._shards = shards
        self._enqueue = enqueue
        self._pending: list[_Request] = []
        self._pending_bytes = 0
        self._free = writes
        self._tasks: set[asyncio.Task[None]] = set()

    async def append(self, events: Sequence[Accepted], rejected: Sequence[RejectedEvent] = ()) -> None:
        """Returns when every event and every rejection is durable.

        Raises `UnavailableError` when Redis is away or at its memory budget; some of the events may be kept
        nevertheless: the client repeats all, and dedup absorbs those.
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
        """Waits for the writes under way."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    def _start_write(self) -> None:
        if not self._free or not self._pending:
            return
        size = taken = 0
        for request in self._pending:
            taken += 1
            size += request.size
            if size >= MAX_WRITE_BYTES:
                break
        batch, self._pending = self._pending[:taken], self._pending[taken:]
        self._pending_bytes -= size
        self._free -= 1
        self._spawn(self._write(batch))

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, batch: list[_Request]) -> None:
        error: BaseException | None = None
        claims: list[Claim] = []
        try:
            claims = await self._write_shards(batch)
        except UnavailableError as unavailable:
            error = unavailable
        except (TimeoutError, RedisError, OSError) as away:
            log.warning("the event log is away", error=type(away).__name__, detail=str(away))
            error = UnavailableError(
                "the event log is not reachable", hint="the events were not kept; send them again", retry_after=2.0
            )
        except BaseException as bug:
            error = UnavailableError("the event log failed", retry_after=2.0)
            log.exception("the event log failed")
            if not isinstance(bug, Exception):
                raise
        finally:
            self._free += 1
            for request in batch:
                if request.done.done():
                    continue
                if error is None:
                    request.done.set_result(None)
                else:
                    request.done.set_exception(error)
            self._start_write()
        if claims:
            # The events are kept: a claim that doesn't reach arq is found by the sweep.
            self._spawn(self._enqueue(claims))

    async def _write_shards(self, batch: list[_Request]) -> list[Claim]:
        events: dict[int, list[bytes]] = {}
        records: dict[int, list[RejectedEvent]] = {}
        for request in batch:
            for event in request.events:
                events.setdefault(shard_of(event.order_key, self._shards), []).append(event.data)
            for rejected in request.rejected:
                records.setdefault(shard_of(rejected.id, self._shards), []).append(rejected)
        results = await self._lanes.append_all(
            {
                shard: _shard_appends(events.get(shard, []), records.get(shard, []))
                for shard in sorted(events.keys() | records.keys())
            }
        )
        claims: list[Claim] = []
        refused: Exception | None = None
        for result in results.values():
            if isinstance(result, Exception):
                refused = result
            else:
                claims += result
        if refused is not None:
            if claims:
                self._spawn(self._enqueue(claims))
            raise refused
        return claims


def _shard_appends(events: Sequence[bytes], rejected: Sequence[RejectedEvent]) -> tuple[list[Append], Counter[str]]:
    """What one shard's step appends, and the counters of the rejected events."""
    appends: list[Append] = []
    counts: Counter[str] = Counter()
    if events:
        appends.append(Append("log", [("", len(events), encode_entry(events))], "accepted"))
    if rejected:
        appends.append(Append("warehouse", [("", len(rejected), pack(rejected))], "to:warehouse"))
        counts.update(f"rejected:{record.source}:{record.code}" for record in rejected)
    return appends, counts
