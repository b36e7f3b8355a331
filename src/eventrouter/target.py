"""A destination as the lanes see it: how it is served, by whom it is tried, and who is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from .attempts import Attempts
from .calls import Calls
from .delivery import InHand
from .health import Health
from .lane import Claim, Item
from .records import DeadLetter
from .verdict import Failure, Verdict, is_final

MIN_UNITS = 500
"""A turn has so many messages in hand, at least: behind many of one order key others should be seen."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How a destination is served. Times in seconds; None: without a bound."""

    batch_size: int = 1
    """Messages of one attempt, at most."""
    batch_wait: float = 0.0
    """How long an incomplete batch waits for more."""
    concurrency: int = 8
    """Attempts of one lane at once."""
    max_age: float | None = 72 * 3600.0
    max_attempts: int = 10
    pin: bool = False
    """Whether a retry must repeat the very same batch."""
    sends: bool = True
    """False: nothing is sent for now, so that nobody knows what may be repeated."""
    apart: bool = False
    """Whether a batch holds one delivery of each key."""

    read_bytes: int = 16 * 1024 * 1024
    """Bytes of stored deliveries that a turn has in hand, about."""

    @property
    def read_units(self) -> int:
        """How many messages a turn has in hand, tried or not."""
        return max(2 * self.batch_size * self.concurrency, MIN_UNITS)


class Flag(Protocol):
    """Something that ends a turn soon, once it is set."""

    def is_set(self) -> bool: ...


class Service:
    """How many turns a target is served in, and whether it is to be served no more."""

    def __init__(self) -> None:
        self.turns = 0
        self.retired = False


class Ends:
    """Set when the worker stops, or the target was replaced."""

    def __init__(self, stopping: Flag, service: Service) -> None:
        self._stopping = stopping
        self._service = service

    def is_set(self) -> bool:
        return self._service.retired or self._stopping.is_set()


class Counts:
    """What a destination counted by itself, until a settlement has kept it."""

    def __init__(self, take: Callable[[], Mapping[str, int]] = dict) -> None:
        """`take` tells what was counted since it was asked last, for the counters of all shards."""
        self._take = take
        self._left: Counter[str] = Counter()

    @contextmanager
    def taken(self) -> Iterator[Counter[str]]:
        """All of it, for the settlement that is made within; when that fails, it is there for the next one.

        Where only the answer was lost, it is kept twice: better than not at all.
        """
        counts, self._left = self._left + Counter(self._take()), Counter()
        try:
            yield counts
        except BaseException:
            self._left += counts
            raise


@dataclass(frozen=True, slots=True)
class Target:
    """A destination, ready to be served in any lane."""

    name: str
    policy: Policy
    attempts: Attempts
    health: Health
    decode: Callable[[Item, str], InHand]
    """Reads an item of its lanes."""
    enqueue: Callable[[Sequence[Claim]], Awaitable[None]]
    """Hands claims to arq."""
    finished: Callable[..., None] | None = None
    """Told of each attempt, with the arguments of the hook `attempt_finished`."""
    dropped: Callable[[DeadLetter], None] | None = None
    """Told of each dead letter once it is kept."""
    throttle: Callable[[int], Awaitable[float]] | None = None
    """Says whether so many messages may be sent now (`rate_limit`): 0.0, or in how many seconds to ask again."""
    calls: Calls | None = None
    """The places for calls at once in all lanes (`concurrency`); None: there is no bound but that of each lane."""
    counts: Counts = field(default_factory=Counts)
    traced: Callable[[str, int, Verdict, float, str], None] | None = None
    """Makes spans of each attempt, where there are traces."""

    service: Service = field(default_factory=Service)

    def mask(self, failure: Failure) -> str:
        """The failure in words, without secrets."""
        return self.attempts.mask(str(failure), 1000) or type(failure).__name__

    def is_too_old(self, hand: InHand, now_ms: float) -> bool:
        """Whether it is no longer to be tried."""
        max_age = self.policy.max_age
        return max_age is not None and hand.delivery is not None and now_ms - hand.delivery.since_ms > max_age * 1000

    def aged_reason(self, hand: InHand) -> str:
        """Why what is too old is a dead letter."""
        last = hand.tries.reason or self.health.reason
        return "older than retry.max_age" + (f"; what was last in the way: {last}" if last else "")

    def tell(self, verdict: Verdict, shard: int, seconds: float) -> None:
        """Tells the hook of an attempt that took so long, if one was made."""
        failure = verdict.whole or verdict.spoilt or (verdict.failed[0][1] if verdict.failed else None)
        if not (failure or verdict.delivered):
            return
        if self.traced is not None:
            self.traced(self.name, shard, verdict, seconds, self.mask(failure) if failure else "")
        if self.finished is None:
            return
        dead = sum(is_final(failure) for _, failure in verdict.failed)
        self.finished(
            destination=self.name,
            shard=shard,
            delivered=len(verdict.delivered),
            retried=len(verdict.failed) - dead + len(verdict.untried),
            dead=dead,
            seconds=seconds,
            reason=self.mask(failure) if failure else "",
        )
