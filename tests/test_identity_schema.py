"""The migrations of the state database."""

from __future__ import annotations

import sqlite3

from eventrouter.builtin.identity import schema


def filled(version: int) -> list[str]:
    return schema.statements(version, schema="", bytes_="BLOB", options="")


def test_all_migrations_make_the_tables_and_note_their_versions() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute(schema.VERSIONS_TABLE.format(schema=""))
    for statement in filled(0):
        connection.execute(statement)
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    version = connection.execute(schema.READ_VERSION.format(schema="")).fetchone()
    seq = connection.execute("SELECT seq FROM clock").fetchall()
    connection.close()
    assert tables == {"identifiers", "persons", "outbox", "clock", "migrations"}
    assert version == (schema.VERSION,)
    assert seq == [(0,)]


def test_a_database_that_is_up_to_date_or_ahead_is_left_alone() -> None:
    assert filled(schema.VERSION) == []
    assert filled(schema.VERSION + 1) == []


def test_a_released_migration_is_never_edited() -> None:
    assert filled(0)[0].startswith("CREATE TABLE identifiers (\n            key BLOB NOT NULL PRIMARY KEY,")
    assert len(schema.MIGRATIONS[0]) == 6
