"""The warehouse on PostgreSQL."""

from __future__ import annotations

import psycopg
import sqlalchemy as sa
from psycopg import errors

from eventrouter.errors import StartError
from eventrouter.warehouse import Warehouse

from .base import SqlWarehouse
from .postgres_store import PostgresStore
from .store import Store


class PostgresWarehouse(SqlWarehouse):
    """`postgresql://user:password@host:5432/database`, with libpq's parameters after a `?`.

    The tables are in the first schema of the search path: `?options=-csearch_path%3DNAME` names another one.
    """

    name = "postgresql"
    schemes = ("postgresql", "postgres")
    connections = 2

    def __init__(self, options: Warehouse.Options, *, destination: str = "") -> None:
        super().__init__(options, destination=destination)
        try:
            self._url = sa.make_url(options.url).set(drivername="postgresql+psycopg")
        except (sa.exc.ArgumentError, ValueError):
            raise StartError(
                "warehouse.url is not a URL of a PostgreSQL database",
                hint="write postgresql://user:password@host:5432/database; encode special characters as %40 and so on",
            ) from None

    def open(self) -> Store:
        store = PostgresStore(self._url)
        try:
            [(encoding,)] = store.execute("SELECT current_setting('server_encoding')")
            if encoding != "UTF8":
                raise StartError(
                    f"the warehouse's database has the encoding {encoding}",
                    hint="create it with ENCODING 'UTF8': only that can hold every event",
                )
        except BaseException:
            store.close()
            raise
        return store

    def explain(self, error: Exception) -> tuple[str, str]:
        if not isinstance(error, psycopg.Error):
            return super().explain(error)
        text = str(error).strip().partition("\n")[0]
        password = self._url.password
        for secret in {password, self._url.query.get("password")}:
            if isinstance(secret, str) and secret:
                text = text.replace(secret, "***")
        hint = next((hint for type_, hint in _HINTS if isinstance(error, type_)), "")
        return f"the warehouse at {self._place()}: {text}", hint

    def _place(self) -> str:
        host = self._url.host or self._url.query.get("host") or "localhost"
        return f"{host}/{self._url.database or ''}"


_HINTS: list[tuple[type[psycopg.Error], str]] = [
    (errors.TooManyConnections, "raise max_connections, or put a pooler in front of the database"),
    (errors.DiskFull, "free space on the database's disk"),
    (errors.InsufficientPrivilege, "grant the user CREATE and USAGE on the schema, or give it one of its own"),
    (errors.InvalidSchemaName, "create the schema that the search path names"),
    (errors.InvalidCatalogName, "create the database"),
    (errors.LockNotAvailable, "end the long transaction that holds a lock on one of the warehouse's tables"),
    (psycopg.OperationalError, "check that the server runs and that warehouse.url is right"),
]
