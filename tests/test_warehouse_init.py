"""The plugin hook."""

from __future__ import annotations

from importlib.metadata import entry_points

import pluggy

from eventrouter import hookspecs
from eventrouter.builtin import warehouse
from eventrouter.builtin.warehouse import PostgresWarehouse, SqliteWarehouse


def test_the_entry_point_registers_both_warehouses() -> None:
    [entry] = [entry for entry in entry_points(group="eventrouter") if entry.name == "warehouse"]
    assert warehouse is entry.load()
    manager = pluggy.PluginManager("eventrouter")
    manager.add_hookspecs(hookspecs)
    manager.register(warehouse)
    assert [[SqliteWarehouse, PostgresWarehouse]] == manager.hook.register_warehouses()


def test_every_scheme_has_one_warehouse() -> None:
    assert ("sqlite",) == SqliteWarehouse.schemes
    assert ("postgresql", "postgres") == PostgresWarehouse.schemes
