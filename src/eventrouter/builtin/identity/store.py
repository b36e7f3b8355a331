"""What a state database offers to the identity enrichment, whichever database it is."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .graph import Key, Snapshot

OUTBOX_LIMIT = 5000
"""At most so many waiting records are read at once."""


class Loaded(NamedTuple):
    """What one look at the state database gives."""

    snapshot: Snapshot
    """The identifiers that are known, of those asked for."""
    waiting: list[tuple[int, str]]
    """(seq, record) of the shard's outbox, oldest first, at most `OUTBOX_LIMIT`."""


class Changes(NamedTuple):
    """What a batch changes, as rows."""

    persons: Sequence[tuple[str, str | None, str]]
    """New: (person_id, merged_into, created_at)."""
    identifiers: Sequence[tuple[Key, str, str, str, Key | None, str]]
    """New: (key, type, value, person_id, user_key, seen_at)."""
    users: Sequence[tuple[Key | None, str]]
    """(user_key, person_id) of known persons that got their user."""
    merges: Sequence[tuple[str, Key | None, str]]
    """(merged_into, its user_key, person_id) of known persons that are gone."""


class Moved(NamedTuple):
    """An identifier that a merge moved to another person."""

    type: str
    value: str
    person_id: str


class StateError(Exception):
    """The state database is of no use as it is: the message says why and what to do, without secrets."""


class Store(ABC):
    """One connection to the state database. Every method blocks; all but `abort` and `hurry` are called by one thread.

    A method raises `StateError` or one of `errors`; after that `close` is to be called, and the next method connects
    anew. Writers of all processes take turns: between `begin` and `commit` nobody else writes.
    """

    errors: tuple[type[Exception], ...] = (StateError, OSError)

    @property
    @abstractmethod
    def name(self) -> str:
        """What messages call it: the address without secrets."""

    @abstractmethod
    def describe(self, error: Exception) -> str:
        """`error` in one line, without secrets."""

    @abstractmethod
    def open(self) -> None:
        """Connects, if that is not done yet, and brings the tables to this version."""

    @abstractmethod
    def load(self, keys: Sequence[Key], shard: int, after: int) -> Loaded:
        """One look at `keys` and at the outbox of `shard` beyond `after`, in one round trip."""

    @abstractmethod
    def begin(self, keys: Sequence[Key], shard: int, after: int) -> tuple[int, Loaded]:
        """Waits for its turn to write; returns the highest `seq` so far, and what `load` returns, both as of now."""

    @abstractmethod
    def apply(self, changes: Changes) -> list[Moved]:
        """Writes `changes`; returns the identifiers that the merges moved."""

    @abstractmethod
    def commit(self, shard: int, records: Sequence[tuple[int, str]], settled: Mapping[int, int]) -> None:
        """Puts `records` (seq, JSON) in the shard's outbox, takes out what is `settled` (shard → seq), and commits.

        Returns when it is durable.
        """

    @abstractmethod
    def rollback(self) -> None:
        """Ends the turn to write without a change; never raises."""

    @abstractmethod
    def forget(self, settled: Mapping[int, int]) -> None:
        """Takes out of the outbox what is `settled`, in a transaction of its own."""

    @abstractmethod
    def abort(self) -> None:
        """Makes the method that runs in the other thread fail soon. Thread-safe."""

    @abstractmethod
    def hurry(self) -> None:
        """From now on no method waits for another process's turn to write. Thread-safe."""

    @abstractmethod
    def close(self) -> None:
        """Disconnects; never raises."""


def next_seq(last: int) -> int:
    """The first of a run of new `seq`, above `last` and not below the microseconds since 1970.

    The clock is in it so that a state database that was restored or begun anew still wins over what the warehouse has.
    """
    return max(last + 1, time.time_ns() // 1000)
