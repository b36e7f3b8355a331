"""The warehouse on PostgreSQL."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from eventrouter.errors import StartError

from ...masking import MASK
from .base import SqlWarehouse
from .store import Store

if TYPE_CHECKING:
    import sqlalchemy as sa


class PostgresWarehouse(SqlWarehouse):
    """`postgresql://user:password@host:5432/database`, with libpq's parameters after a `?`.

    The tables are in the first schema of the search path: `?options=-csearch_path%3DNAME` names another one.
    """

    name = "postgresql"
    schemes = ("postgresql", "postgres")
    connections = 2

    @cached_property
    def _url(self) -> sa.URL:
        """Raises `StartError` when it is none."""
        from sqlalchemy import exc, make_url  # here for the reason that `_connect` has

        try:
            return make_url(self.options.url).set(drivername="postgresql+psycopg")
        except (exc.ArgumentError, ValueError):
            raise StartError(
                "warehouse.url is not a URL of a PostgreSQL database",
                hint="write postgresql://user:password@host:5432/database; encode special characters as %40 and so on",
            ) from None

    def open(self) -> Store:
        from .postgres_store import PostgresStore  # here for the reason that `_connect` has

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
        if not type(error).__module__.startswith("psycopg"):
            return super().explain(error)
        from .postgres_store import hint_for

        text = str(error).strip().partition("\n")[0]
        password = self._url.password
        for secret in {password, self._url.query.get("password")}:
            if isinstance(secret, str) and secret:
                text = text.replace(secret, MASK)
        return f"the warehouse at {self._place()}: {text}", hint_for(error)

    def _place(self) -> str:
        host = self._url.host or self._url.query.get("host") or "localhost"
        return f"{host}/{self._url.database or ''}"
