"""The tables of the state database, as versioned migrations.

`identifiers`  one row per identifier: `key` (a digest of type and value), type, value, its person, the key of
               that person's user or NULL (here, so that a lookup touches one table), when first seen
`persons`      one row per person ever made, and whom it was merged into, if it was
`outbox`       identity changes that the warehouse may not have yet, as JSON records, by shard and `seq`
`clock`        one row: the highest `seq` so far. Its row lock is what makes writers take turns in PostgreSQL
`migrations`   the versions that were applied
"""

from __future__ import annotations

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE {schema}identifiers (
            key {bytes} NOT NULL PRIMARY KEY,
            type TEXT NOT NULL,
            value TEXT NOT NULL,
            person_id TEXT NOT NULL,
            user_key {bytes},
            seen_at TEXT NOT NULL
        ){options}""",
        "CREATE INDEX identifiers_person_id ON {schema}identifiers (person_id)",
        """CREATE TABLE {schema}persons (
            person_id TEXT NOT NULL PRIMARY KEY,
            merged_into TEXT,
            created_at TEXT NOT NULL
        ){options}""",
        """CREATE TABLE {schema}outbox (
            shard INTEGER NOT NULL,
            seq BIGINT NOT NULL,
            record TEXT NOT NULL,
            PRIMARY KEY (shard, seq)
        ){options}""",
        "CREATE TABLE {schema}clock (one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1), seq BIGINT NOT NULL)",
        "INSERT INTO {schema}clock (one, seq) VALUES (1, 0)",
    ),
)
"""Statements by version, the first is version 1. A version that was released is never edited: append one.

A migration must leave workers of the minor version before able to go on: add, do not rename or drop.
"""

VERSION = len(MIGRATIONS)
"""The version that this code writes."""

VERSIONS_TABLE = "CREATE TABLE IF NOT EXISTS {schema}migrations (version INTEGER NOT NULL PRIMARY KEY)"
READ_VERSION = "SELECT coalesce(max(version), 0) FROM {schema}migrations"


def statements(version: int, *, schema: str, bytes_: str, options: str) -> list[str]:
    """What brings a database from `version` to `VERSION`, in order; nothing when it is there or ahead."""
    filled = []
    for number, migration in enumerate(MIGRATIONS[version:], start=version + 1):
        for statement in (*migration, f"INSERT INTO {{schema}}migrations (version) VALUES ({number})"):
            filled.append(statement.format(schema=schema, bytes=bytes_, options=options))
    return filled
