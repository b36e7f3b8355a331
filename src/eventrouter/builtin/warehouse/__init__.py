"""The built-in warehouses: SQLite and PostgreSQL, with the tables that Segment's warehouses have."""

from __future__ import annotations

from collections.abc import Sequence

from eventrouter.hookspecs import hookimpl
from eventrouter.warehouse import Warehouse

from .postgres import PostgresWarehouse
from .sqlite import SqliteWarehouse

__all__ = ["PostgresWarehouse", "SqliteWarehouse", "register_warehouses"]


@hookimpl
def register_warehouses() -> Sequence[type[Warehouse]]:
    """The warehouses for `sqlite:` and `postgresql:`."""
    return [SqliteWarehouse, PostgresWarehouse]
