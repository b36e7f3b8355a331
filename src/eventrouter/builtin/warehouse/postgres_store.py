"""A connection to a PostgreSQL warehouse: COPY for what is added, ON CONFLICT for what is merged."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import compress
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg import errors
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from sqlalchemy.dialects.postgresql import psycopg as dialect_of_psycopg

from . import schema
from .store import Room, Row, Trouble, chunks
from .values import BOOLEAN, DOUBLE, INTEGER, NUMBER, OTHER, TEXT, TIMESTAMP, Kind, read_time

CONNECT_TIMEOUT: Final = 10
"""Seconds until a server that does not answer counts as away."""

CANCEL_TIMEOUT: Final = 1.0
"""Seconds until a server that does not cancel a statement is left alone."""

SCHEMA_LOCK: Final = 4_976_551_301
MERGE_LOCK: Final = 4_976_551_302
"""Keys of advisory locks: any two numbers will do that nobody else in the database uses."""

_KINDS: Final[dict[str, Kind]] = {
    "text": TEXT,
    "character varying": TEXT,
    "boolean": BOOLEAN,
    "numeric": NUMBER,
    "double precision": DOUBLE,
    "timestamp with time zone": TIMESTAMP,
    "bigint": INTEGER,
}
_SETTINGS: Final = """\
SELECT set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO', false),
set_config('client_min_messages', 'error', false),
set_config('statement_timeout', '100s', false), set_config('lock_timeout', '30s', false),
set_config('idle_in_transaction_session_timeout', '100s', false),
set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '3', false),
set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '20000', false),
CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', false) END"""

_EVENT_COLUMNS: Final = ", ".join(schema.quote(column.name) for column in schema.events.columns)
_STAGE: Final = """\
CREATE TEMPORARY TABLE IF NOT EXISTS eventrouter_stage (LIKE events INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"""
_AWAY_SUBCLASSES: Final = (
    errors.InsufficientPrivilege,
    errors.ReadOnlySqlTransaction,
    errors.InvalidCatalogName,
    errors.InvalidSchemaName,
    psycopg.InterfaceError,
)


class _IsoLoader(Loader):
    """Times as the ISO text that the rest of the warehouse speaks."""

    def load(self, data: Buffer) -> str:
        text = bytes(data).decode()
        return read_time(text) or text


@lru_cache(maxsize=1024)
def _marks(sql: str) -> bytes:
    return sql.replace("?", "%s").encode()


def _array(values: Sequence[Any]) -> str:
    """`values` as PostgreSQL's text form of an array; much faster than a list through the driver."""
    parts = []
    for value in values:
        if value is None:
            parts.append("NULL")
        else:
            text = value if type(value) is str else str(value)
            if "\\" in text or '"' in text:
                text = text.replace("\\", "\\\\").replace('"', '\\"')
            parts.append(f'"{text}"')
    return "{" + ",".join(parts) + "}"


class PostgresStore:
    """`Store` on a PostgreSQL database, in the first schema of the search path. Raises what psycopg raises."""

    dialect: sa.Dialect = dialect_of_psycopg.dialect()  # type: ignore[no-untyped-call]
    max_values = 300
    """A row has to fit into a page of 8 KB, in which a value that is kept elsewhere still takes up to 24 bytes."""

    def __init__(self, url: sa.URL) -> None:
        _, options = self.dialect.create_connect_args(url)
        defaults: dict[str, Any] = {
            "connect_timeout": CONNECT_TIMEOUT,
            "application_name": "eventrouter",
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60_000,
            "client_encoding": "utf8",
        }
        self._interrupted = False
        # No prepared statements, so that a pooler such as PgBouncer may sit in between.
        self._connection: psycopg.Connection[tuple[Any, ...]] = psycopg.connect(
            **{**defaults, **options}, autocommit=True, prepare_threshold=None
        )
        try:
            self._connection.adapters.register_loader("timestamptz", _IsoLoader)
            self._connection.execute(_SETTINGS)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def interrupt(self) -> None:
        if not self._interrupted:
            self._interrupted = True
            threading.Thread(target=self._interrupt, name="eventrouter-cancel", daemon=True).start()

    def _interrupt(self) -> None:
        # The server would go on waiting for a lock for somebody who has gone: so it is told first.
        with contextlib.suppress(psycopg.Error, OSError):
            self._connection.cancel_safe(timeout=CANCEL_TIMEOUT)
        with (
            contextlib.suppress(psycopg.Error, OSError),
            socket.socket(fileno=os.dup(self._connection.fileno())) as other,
        ):
            other.shutdown(socket.SHUT_RDWR)

    def begin(self) -> None:
        self._connection.execute("BEGIN")

    def commit(self) -> None:
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        if not self._connection.closed:
            self._connection.execute("ROLLBACK")

    def execute(self, sql: str, values: Row = ()) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(_marks(sql), values or None)
        return cursor.fetchall() if cursor.description else []

    def query(self, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql.encode(), values).fetchall()

    def insert_events(self, rows: Sequence[Row]) -> set[tuple[str, str]]:
        self._connection.execute(_STAGE)
        with self._connection.cursor() as cursor:
            with cursor.copy(f"COPY eventrouter_stage ({_EVENT_COLUMNS}) FROM STDIN".encode()) as copy:
                for row in rows:
                    copy.write_row(row)
            cursor.execute(
                f"INSERT INTO events ({_EVENT_COLUMNS}) SELECT {_EVENT_COLUMNS} FROM eventrouter_stage"
                " ON CONFLICT DO NOTHING RETURNING id, source".encode()
            )
            return {(row[0], row[1]) for row in cursor.fetchall()}

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        names = ", ".join(map(schema.quote, columns))
        with (
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY {schema.quote(table)} ({names}) FROM STDIN".encode()) as copy,
        ):
            for row in rows:
                copy.write_row(row)

    def merge(self, table: str, columns: Mapping[str, Kind], rows: Sequence[Row], rest: str) -> None:
        names = ", ".join(map(schema.quote, columns))
        arrays = ", ".join(f"%s::{schema.type_name(kind, self.dialect)}[]" for kind in columns.values())
        sql = f"INSERT INTO {schema.quote(table)} ({names}) SELECT * FROM unnest({arrays}) {rest}"
        self._connection.execute(sql.encode(), [_array(values) for values in zip(*rows, strict=True)])

    def filled(self, table: str, columns: Sequence[str], ids: Sequence[str], least: int) -> dict[str, set[str]]:
        # A function takes 100 arguments at most.
        counts = " + ".join(f"num_nonnulls({', '.join(map(schema.quote, some))})" for some in chunks(columns, 100))
        flags = ", ".join(f"{schema.quote(column)} IS NOT NULL" for column in columns)
        names = f"{flags} FROM {schema.quote(table)} WHERE {counts}".replace("%", "%%")
        sql = f"SELECT id, {names} > %(least)s AND id = ANY(%(ids)s)"
        rows = self._connection.execute(sql.encode(), {"ids": list(ids), "least": least})
        return {key: set(compress(columns, row)) for key, *row in rows}

    def lock_schema(self) -> None:
        self.execute("SELECT pg_advisory_xact_lock(?)", (SCHEMA_LOCK,))

    def lock_merges(self) -> None:
        self.execute("SELECT pg_advisory_xact_lock(?)", (MERGE_LOCK,))

    def relations(self) -> set[str]:
        sql = """\
SELECT relname FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')"""
        return {row[0] for row in self.execute(sql)}

    def columns(self, table: str) -> dict[str, Kind] | None:
        sql = """\
SELECT attname, format_type(atttypid, NULL) FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relname = ? AND relnamespace = current_schema()::regnamespace AND attnum > 0 AND NOT attisdropped
ORDER BY attnum"""
        return {name: _KINDS.get(type_, OTHER) for name, type_ in self.execute(sql, (table,))} or None

    def add_columns(self, table: str, columns: Mapping[str, Kind]) -> None:
        parts = ", ".join(
            f"ADD COLUMN IF NOT EXISTS {schema.quote(name)} {schema.type_name(kind, self.dialect)}"
            for name, kind in columns.items()
        )
        self.execute(f"ALTER TABLE {schema.quote(table)} {parts}")

    def room(self) -> Room:
        """As much as one likes: all columns of a table are added by one statement, whatever else there is."""
        return Room(new=sys.maxsize, added=sys.maxsize)

    def trouble(self, error: Exception) -> Trouble:
        if isinstance(error, MemoryError | OSError):
            return Trouble.AWAY
        if not isinstance(error, psycopg.Error):
            return Trouble.DATA
        if self._connection.closed or isinstance(error, _AWAY_SUBCLASSES):
            return Trouble.AWAY
        state = error.sqlstate or ""
        if state in ("40001", "40P01", "42P07", "42701", "23505"):
            return Trouble.AGAIN
        if state in ("42P01", "42703", "42804"):
            return Trouble.STALE
        if state[:2] == "54":  # a row, an index entry or a table that is too large
            return Trouble.DATA
        return Trouble.AWAY if isinstance(error, psycopg.OperationalError | psycopg.InternalError) else Trouble.DATA


_HINTS: list[tuple[type[psycopg.Error], str]] = [
    (errors.TooManyConnections, "raise max_connections, or put a pooler in front of the database"),
    (errors.DiskFull, "free space on the database's disk"),
    (errors.InsufficientPrivilege, "grant the user CREATE and USAGE on the schema, or give it one of its own"),
    (errors.InvalidSchemaName, "create the schema that the search path names"),
    (errors.InvalidCatalogName, "create the database"),
    (errors.LockNotAvailable, "end the long transaction that holds a lock on one of the warehouse's tables"),
    (psycopg.OperationalError, "check that the server runs and that warehouse.url is right"),
]


def hint_for(error: Exception) -> str:
    """What to do about an error of the driver; empty when there is nothing to say."""
    return next((hint for type_, hint in _HINTS if isinstance(error, type_)), "")
