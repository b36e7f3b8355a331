"""A write to the event log: many events in one round trip, one step per shard; and what became of each shard's part."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import structlog
from redis.exceptions import RedisError, ResponseError

from .acceptance import AcceptedEvent
from .errors import UnavailableError
from .events import shard_of
from .lane import Append, Claim
from .lanes import Lanes
from .log_entry import encode_entry, source_of
from .records import RejectedEvent, pack

log = structlog.get_logger("eventrouter.log")

ENTRY_BYTES = 128 * 1024
"""A larger entry is made only of a single event: the router takes whole ones, and each event may go to many lanes."""

PASSING = ("BUSY ", "CLUSTERDOWN", "MASTERDOWN", "MISCONF", "NOREPLICAS", "TRYAGAIN", "UNBLOCKED")
"""How those passing refusals begin for which redis-py has no class of their own."""


@dataclass(frozen=True, slots=True)
class Unkept:
    """What a write did not keep: the parts of `shards` (None: of all, or nobody knows), and why."""

    error: Exception
    shards: frozenset[int] | None
    number: int
    """Of shards in all."""

    @property
    def is_passing(self) -> bool:
        """Whether the same write may succeed later."""
        if isinstance(self.error, ResponseError):
            # A class of its own: READONLY, NOPERM, OOM and the like. The others are WRONGTYPE, or a bug of a step.
            return type(self.error) is not ResponseError or str(self.error).startswith(PASSING)
        return isinstance(self.error, (UnavailableError, TimeoutError, RedisError, OSError))

    @property
    def reason(self) -> str:
        """Why, in a line for operators."""
        text = str(self.error)
        if isinstance(self.error, UnavailableError):
            return text
        return f"{type(self.error).__name__}: {text}" if text else type(self.error).__name__

    def of(
        self, events: Sequence[AcceptedEvent], rejected: Sequence[RejectedEvent]
    ) -> tuple[list[AcceptedEvent], list[RejectedEvent]]:
        """Those of `events` and `rejected` that were not kept."""
        if self.shards is None:
            return list(events), list(rejected)
        return (
            [event for event in events if shard_of(event.order_key, self.number) in self.shards],
            [record for record in rejected if shard_of(record.id, self.number) in self.shards],
        )

    def unavailable(self) -> UnavailableError:
        """The error for clients."""
        if isinstance(self.error, UnavailableError):
            return self.error
        if self.is_passing:
            return UnavailableError(
                "the event log is not reachable", hint="the events were not kept; send them again", retry_after=2.0
            )
        return UnavailableError("the event log failed", retry_after=2.0)


class LogWriter:
    """Writes to the event log."""

    def __init__(self, lanes: Lanes, shards: int, enqueue: Callable[[Sequence[Claim]], Awaitable[None]]) -> None:
        """`enqueue` hands the claims of lanes that nobody serves to arq."""
        self._lanes = lanes
        self._shards = shards
        self._enqueue = enqueue
        self._tasks: set[asyncio.Task[None]] = set()

    async def write(
        self, events: Sequence[AcceptedEvent], rejected: Sequence[RejectedEvent], seconds: float | None = None
    ) -> Unkept | None:
        """Returns None when all of it is durable, else what is not. Gives the server up after `seconds`."""
        parts: dict[int, tuple[list[bytes], list[RejectedEvent]]] = {}
        for event in events:
            parts.setdefault(shard_of(event.order_key, self._shards), ([], []))[0].append(event.data)
        for record in rejected:
            parts.setdefault(shard_of(record.id, self._shards), ([], []))[1].append(record)
        try:
            async with asyncio.timeout(seconds):
                results = await self._lanes.append_all({shard: _appends(*parts[shard]) for shard in sorted(parts)})
        except Exception as error:
            unkept = Unkept(error, None, self._shards)
            if not unkept.is_passing:
                log.exception("the event log failed")
            return unkept
        claims: list[Claim] = []
        refused: dict[int, Exception] = {}
        for shard, result in results.items():
            if isinstance(result, Exception):
                refused[shard] = result
            else:
                claims += result
        if claims:
            # The events are kept: a claim that doesn't reach arq is found by the sweep.
            self._spawn(self._enqueue(claims))
        if not refused:
            return None
        return Unkept(_worst(refused.values()), frozenset(refused), self._shards)

    async def close(self) -> None:
        """Waits until all claims are handed over."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _worst(errors: Iterable[Exception]) -> Exception:
    """The error that says most: one that doesn't pass by itself, if there is one."""
    found = list(errors)
    return next((error for error in found if not Unkept(error, None, 0).is_passing), found[0])


def _appends(events: Sequence[bytes], rejected: Sequence[RejectedEvent]) -> tuple[list[Append], Counter[str]]:
    """What one shard's step appends, and the counters of its sources."""
    appends: list[Append] = []
    counts: Counter[str] = Counter()
    if events:
        entries = [("", len(part), encode_entry(part)) for part in _parts(events)]
        appends.append(Append("log", entries, "accepted"))
        counts.update({f"accepted:{source}": number for source, number in Counter(map(source_of, events)).items()})
    if rejected:
        appends.append(Append("warehouse", [("", len(rejected), pack(rejected))], "to:warehouse"))
        counts.update(f"rejected:{record.source}:{record.code}" for record in rejected)
    return appends, counts


def _parts(events: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The events of each entry, in order."""
    first = size = 0
    for number, event in enumerate(events):
        if size + len(event) > ENTRY_BYTES and number > first:
            yield events[first:number]
            first, size = number, 0
        size += len(event)
    yield events[first:]
