"""What a database has to offer so that records can be loaded into it."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .values import Kind

if TYPE_CHECKING:
    import sqlalchemy as sa

Row = Sequence[Any]


class Trouble(enum.Enum):
    """What an exception of a database means for the batch that met it."""

    AWAY = "away"
    """Nothing is wrong with the batch: the database is away, full or locked."""
    AGAIN = "again"
    """Somebody else was faster: the same batch again, after a moment."""
    STALE = "stale"
    """The tables may not be as we remember them: the same batch once more, with fresh eyes."""
    DATA = "data"
    """Something in the batch is at fault."""


class Room(NamedTuple):
    """How many columns a database may get."""

    new: int
    """In all tables together, for as long as it lives."""
    added: int
    """In one transaction, in tables that are there already: a new table is made with all its columns at once."""


class Store(Protocol):
    """One connection to one database, used by one thread at a time, with transactions begun and ended by hand.

    Its methods raise what the driver raises; `trouble` says what that means. `interrupt` may be called from any thread.
    """

    dialect: sa.Dialect
    max_values: int
    """Non-null values that fit into one row."""

    def close(self) -> None:
        """Closes the connection; an open transaction is rolled back."""

    def interrupt(self) -> None:
        """Makes the method that runs in another thread fail soon; returns at once. The connection is of no more use."""

    def begin(self) -> None:
        """Begins a transaction; where there is one writer only, waits to be it."""

    def commit(self) -> None:
        """Ends the transaction; what it wrote is durable when this returns."""

    def rollback(self) -> None:
        """Ends the transaction and what it did."""

    def execute(self, sql: str, values: Row = ()) -> list[tuple[Any, ...]]:
        """Runs one statement with `?` for each value, and returns its rows, if it has any."""

    def query(self, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows of a query that `dialect` has compiled."""

    def insert_events(self, rows: Sequence[Row]) -> set[tuple[str, str]]:
        """Adds rows to `events`, in the order of its columns, and returns the (id, source) that had not been there."""

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Adds rows by the fastest way that the driver has."""

    def merge(self, table: str, columns: Mapping[str, Kind], rows: Sequence[Row], rest: str) -> None:
        """Adds rows by `INSERT … rest`; `rest` is an ON CONFLICT clause, and no two rows have the same key."""

    def filled(self, table: str, columns: Sequence[str], ids: Sequence[str], least: int) -> dict[str, set[str]]:
        """By id, which of `columns` are not null, for the rows of `ids` in which more than `least` of them are."""

    def lock_schema(self) -> None:
        """Until the transaction ends, nobody else changes tables."""

    def lock_merges(self) -> None:
        """Until the transaction ends, nobody else loads identity merges."""

    def relations(self) -> set[str]:
        """The names of all tables and views where ours are."""

    def columns(self, table: str) -> dict[str, Kind] | None:
        """The columns of a table and their kinds; None when there is no such table."""

    def add_columns(self, table: str, columns: Mapping[str, Kind]) -> None:
        """Adds columns to a table."""

    def room(self) -> Room:
        """How many more columns the database may get, as it is now."""

    def trouble(self, error: Exception) -> Trouble:
        """What `error`, which a method has raised, means."""


def placeholders(count: int) -> str:
    """`?, ?, ?` for `count` values."""
    return ", ".join("?" * count)


def chunks(items: Iterable[Any], size: int) -> Iterable[list[Any]]:
    """`items` in lists of at most `size`."""
    chunk: list[Any] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
