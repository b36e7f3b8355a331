"""The state database in PostgreSQL, in a schema of its own beside whatever else the database holds."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ...masking import MASK
from . import schema
from .graph import Key
from .store import OUTBOX_LIMIT, Changes, Loaded, Moved, StateError, Store

SCHEMA = "eventrouter_state"

MIGRATION_LOCK = 0x6576_7274_6964
"""The advisory lock under which one process at a time brings the tables up to date."""

CONNECT = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "application_name": "eventrouter identity",
}
"""A server that has vanished is noticed within about 20 s. What the URL says wins."""

_FIND = f"""
    SELECT key, person_id, user_key, NULL::bigint AS seq, NULL::text AS record
    FROM {SCHEMA}.identifiers WHERE key = ANY(%b::bytea[])
    UNION ALL
    (SELECT NULL, NULL, NULL, seq, record FROM {SCHEMA}.outbox WHERE shard = %b AND seq > %b ORDER BY seq LIMIT %b)
"""

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"

_LIMITS = """
    SELECT set_config('lock_timeout', '20s', true), set_config('statement_timeout', '30s', true),
           set_config('idle_in_transaction_session_timeout', '30s', true), set_config('synchronous_commit', 'on', true)
"""
"""A frozen worker keeps the others waiting for half a minute at most. `set_config(…, true)` is for one transaction, so
that it works behind a pooler, too."""

_LOCK = f"SELECT seq FROM {SCHEMA}.clock FOR UPDATE"

_MERGE_PERSONS = f"""
    UPDATE {SCHEMA}.persons p SET merged_into = m.into_id
    FROM unnest(%b::text[], %b::bytea[], %b::text[]) AS m (into_id, user_key, gone_id) WHERE p.person_id = m.gone_id
"""
_MERGE_IDENTIFIERS = f"""
    UPDATE {SCHEMA}.identifiers i SET person_id = m.into_id, user_key = m.user_key
    FROM unnest(%b::text[], %b::bytea[], %b::text[]) AS m (into_id, user_key, gone_id) WHERE i.person_id = m.gone_id
    RETURNING i.type, i.value, i.person_id
"""
_USERS = f"""
    UPDATE {SCHEMA}.identifiers i SET user_key = u.user_key
    FROM unnest(%b::bytea[], %b::text[]) AS u (user_key, person_id) WHERE i.person_id = u.person_id
"""
_PERSONS = f"""
    INSERT INTO {SCHEMA}.persons (person_id, merged_into, created_at)
    SELECT * FROM unnest(%b::text[], %b::text[], %b::text[])
"""
_IDENTIFIERS = f"""
    INSERT INTO {SCHEMA}.identifiers (key, type, value, person_id, user_key, seen_at)
    SELECT * FROM unnest(%b::bytea[], %b::text[], %b::text[], %b::text[], %b::bytea[], %b::text[])
"""
_FORGET = f"""
    DELETE FROM {SCHEMA}.outbox o USING unnest(%b::integer[], %b::bigint[]) AS s (shard, seq)
    WHERE o.shard = s.shard AND o.seq <= s.seq
"""
_KEEP = f"""
    INSERT INTO {SCHEMA}.outbox (shard, seq, record)
    SELECT %b::integer, r.seq, r.record FROM unnest(%b::bigint[], %b::text[]) AS r (seq, record)
"""
_CLOCK = f"UPDATE {SCHEMA}.clock SET seq = %b::bigint"


class PostgresStore(Store):
    """One connection. Writers take turns by the row lock of `clock`: they cannot deadlock or overtake one another."""

    errors = (StateError, OSError, psycopg.Error)

    def __init__(self, url: str) -> None:
        """`url` is `postgresql://…`. Raises `StateError` when libpq cannot read it."""
        self._secrets = _secrets(url)
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error:
            raise StateError("not a PostgreSQL URL: write postgresql://user:password@host:5432/database") from None
        self._parameters: dict[str, Any] = {**CONNECT, **{name: str(value) for name, value in given.items()}}
        if given.get("password"):
            self._secrets.add(str(given["password"]))
        self._connection: psycopg.Connection[Any] | None = None

    @property
    def name(self) -> str:
        host = self._parameters.get("host", "localhost")
        return f"postgresql://{host}/{self._parameters.get('dbname', '')}"

    def describe(self, error: Exception) -> str:
        text = " ".join(str(error).split()) or type(error).__name__
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def open(self) -> None:
        if self._connection is not None and not self._connection.closed:
            return
        connection = psycopg.connect(**self._parameters, autocommit=True, prepare_threshold=None)
        self._connection = connection  # before the first statement, so that `abort` reaches that one, too
        try:
            self._migrate(connection)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _migrate(connection: psycopg.Connection[Any]) -> None:
        prefix = f"{SCHEMA}."
        found = connection.execute("SELECT to_regclass(%s)", (f"{prefix}migrations",)).fetchone()
        if found and found[0] is not None:
            row = connection.execute(schema.READ_VERSION.format(schema=prefix)).fetchone()
            if row and row[0] >= schema.VERSION:
                return
        with connection.transaction():
            connection.execute("SELECT set_config('statement_timeout', '60s', true)")
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
            # CREATE SCHEMA IF NOT EXISTS asks for the right to create one even when it is there
            if not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (SCHEMA,)).fetchone():
                connection.execute(f"CREATE SCHEMA {SCHEMA}")
            connection.execute(schema.VERSIONS_TABLE.format(schema=prefix))
            row = connection.execute(schema.READ_VERSION.format(schema=prefix)).fetchone()
            for statement in schema.statements(row[0] if row else 0, schema=prefix, bytes_="BYTEA", options=""):
                connection.execute(statement)

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            raise StateError("the connection is closed")
        return self._connection

    def load(self, keys: Sequence[Key], shard: int, after: int) -> Loaded:
        self.open()
        cursor = self._connected().execute(_FIND, (list(keys), shard, after, OUTBOX_LIMIT), binary=True)
        return _loaded(cursor.fetchall())

    def begin(self, keys: Sequence[Key], shard: int, after: int) -> tuple[int, Loaded]:
        self.open()
        connection = self._connected()
        with connection.pipeline():
            connection.execute(_BEGIN)
            connection.execute(_LIMITS)
            locked = connection.execute(_LOCK)
            found = connection.execute(_FIND, (list(keys), shard, after, OUTBOX_LIMIT), binary=True)
        row = locked.fetchone()
        if row is None:
            raise StateError(f"the table {SCHEMA}.clock is empty: it must hold one row")
        return row[0], _loaded(found.fetchall())

    def apply(self, changes: Changes) -> list[Moved]:
        connection = self._connected()
        moved: psycopg.Cursor[Any] | None = None
        with connection.pipeline():
            if changes.merges:
                pairs = _columns(changes.merges)
                connection.execute(_MERGE_PERSONS, pairs)
                moved = connection.execute(_MERGE_IDENTIFIERS, pairs)
            for statement, rows in (
                (_USERS, changes.users),
                (_PERSONS, changes.persons),
                (_IDENTIFIERS, changes.identifiers),
            ):
                if rows:
                    connection.execute(statement, _columns(rows))
        return [Moved(*row) for row in moved.fetchall()] if moved else []

    def commit(self, shard: int, records: Sequence[tuple[int, str]], settled: Mapping[int, int]) -> None:
        todo: list[tuple[str, Sequence[Any]]] = []
        if settled:
            todo.append((_FORGET, (list(settled), list(settled.values()))))
        if records:
            todo.append((_KEEP, (shard, *_columns(records))))
            todo.append((_CLOCK, (records[-1][0],)))
        connection = self._connected()
        with connection.pipeline():
            for statement, parameters in todo:
                connection.execute(statement, parameters)
            connection.execute("COMMIT")

    def rollback(self) -> None:
        with contextlib.suppress(psycopg.Error):
            if self._connection is not None:
                self._connection.rollback()

    def forget(self, settled: Mapping[int, int]) -> None:
        self.open()
        self._connected().execute(_FORGET, (list(settled), list(settled.values())))

    def abort(self) -> None:
        # cancelling needs a second connection to a server that may be the very problem; an end of file needs nobody
        connection = self._connection
        with contextlib.suppress(psycopg.Error, OSError):
            if connection is not None:
                with socket.socket(fileno=os.dup(connection.fileno())) as other:
                    other.shutdown(socket.SHUT_RDWR)

    def hurry(self) -> None:
        """Nothing to do: `abort` reaches a server's statement also while that waits for a lock."""

    def close(self) -> None:
        connection, self._connection = self._connection, None
        with contextlib.suppress(psycopg.Error, OSError):
            if connection is not None:
                connection.close()


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows as columns, for `unnest`: one statement however many rows."""
    return [list(column) for column in zip(*rows, strict=True)]


def _loaded(rows: Sequence[Sequence[Any]]) -> Loaded:
    snapshot: dict[Key, tuple[str, Key | None]] = {}
    waiting: list[tuple[int, str]] = []
    for key, person_id, user_key, seq, record in rows:
        if key is None:
            waiting.append((seq, record))
        else:
            snapshot[bytes(key)] = (person_id, None if user_key is None else bytes(user_key))
    waiting.sort()
    return Loaded(snapshot, waiting)


def _secrets(url: str) -> set[str]:
    """The password of `url`, as written and decoded."""
    try:
        password = urlsplit(url).password or ""
    except ValueError:
        password = ""
    return {password, unquote(password)} - {""}
