"""What the tests of the warehouse share: records in few words, and a look into either database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from eventrouter.builtin.warehouse import PostgresWarehouse, SqliteWarehouse
from eventrouter.builtin.warehouse.base import SqlWarehouse
from eventrouter.builtin.warehouse.migrations import migrate
from eventrouter.builtin.warehouse.postgres_store import PostgresStore
from eventrouter.builtin.warehouse.sqlite_store import SqliteStore
from eventrouter.builtin.warehouse.store import Store
from eventrouter.destination import Message
from eventrouter.records import AnyRecord, DeadLetter, EventRecord

NOW = "2026-11-24T17:00:00.500Z"
SENT = "2026-11-24T17:00:00.123Z"
RECEIVED = "2026-11-24T17:00:00.223Z"


def at(second: int) -> str:
    """A time, `second` seconds into a day."""
    return f"2026-11-24T00:{second // 60:02}:{second % 60:02}.000Z"


def event(message_id: str, type_: str = "track", **parts: Any) -> dict[str, Any]:
    """An event as it leaves `accept`."""
    base = {"type": type_, "messageId": message_id, "anonymousId": "anon", "timestamp": SENT, "receivedAt": RECEIVED}
    if type_ == "track":
        base["event"] = "Order Completed"
    return base | parts


def record(message_id: str, type_: str = "track", *, source: str = "website", **parts: Any) -> EventRecord:
    """The record of such an event."""
    return EventRecord(source=source, event=event(message_id, type_, **parts), person_id="person-1", rules="r1")


def letter(message_id: str = "m1", **parts: Any) -> DeadLetter:
    """A dead letter that was tried once, ten seconds into the day."""
    base: dict[str, Any] = {
        "source": "website",
        "message_id": message_id,
        "destination": "crm",
        "route": "all",
        "class_": "permanent",
        "reason": "HTTP 400",
        "attempts": 1,
        "first_at": at(10),
        "last_at": at(10),
    }
    return DeadLetter(**base | parts)


def messages(*records: AnyRecord) -> list[Message]:
    """The deliveries of these records."""
    return [
        Message(
            id=f"msg_{number}_{getattr(one, 'message_id', '') or getattr(one, 'event', {}).get('messageId', '')}",
            payload=one,
            message_id="",
            source="website",
            type="",
            order_key="",
            timestamp=SENT,
        )
        for number, one in enumerate(records)
    ]


def warehouse_at(url: str) -> SqlWarehouse:
    """The warehouse for a URL."""
    class_: type[SqlWarehouse] = SqliteWarehouse if url.startswith("sqlite") else PostgresWarehouse
    return class_(class_.Options(url=url))


def store_at(url: str) -> Store:
    """A connection to the database of a URL."""
    if url.startswith("sqlite"):
        return SqliteStore(Path(str(sa.make_url(url).database)))
    return PostgresStore(sa.make_url(url).set(drivername="postgresql+psycopg"))


@contextmanager
def opened(url: str) -> Iterator[Store]:
    """A connection to the database of a URL, with our tables, closed at the end."""
    store = store_at(url)
    try:
        migrate(store, NOW)
        yield store
    finally:
        store.close()


@contextmanager
def transaction(store: Store) -> Iterator[None]:
    """A transaction that is committed."""
    store.begin()
    yield
    store.commit()


def select(url: str, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """The rows of a query, as any client of the database sees them."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(str(sa.make_url(url).database))
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()
    with psycopg.connect(url) as client:
        return client.execute(sql.replace("?", "%s").encode(), values).fetchall()


def run(url: str, sql: str) -> None:
    """Runs a statement that returns nothing, as an operator might."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(str(sa.make_url(url).database), isolation_level=None)
        try:
            connection.execute(sql)
        finally:
            connection.close()
        return
    with psycopg.connect(url, autocommit=True) as client:
        client.execute(sql.encode())


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Meanwhile somebody else holds a lock that keeps every batch waiting."""
    if url.startswith("sqlite"):
        other = sqlite3.connect(str(sa.make_url(url).database), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.close()
        return
    with psycopg.connect(url) as client:
        client.execute("LOCK TABLE events, eventrouter_migrations IN ACCESS EXCLUSIVE MODE")
        yield
        client.rollback()
