"""Our tables from one version to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import sqlalchemy as sa

from eventrouter.errors import StartError

from . import schema
from .store import Store


class Migration(NamedTuple):
    """One step. It only adds: the workers of the version before go on beside it."""

    version: int
    name: str
    statements: Callable[[sa.Dialect], list[str]]


MIGRATIONS: Final = [
    Migration(1, "the first tables", schema.create_all),
    Migration(2, "what became of dead letters", lambda _: ["ALTER TABLE dead_letters ADD COLUMN outcome TEXT"]),
    Migration(3, "the new keys of dead letters", lambda _: ["ALTER TABLE dead_letters ADD COLUMN again TEXT"]),
]
"""All steps, in order. An empty database gets today's tables at once, and counts as having made every step."""


def migrate(store: Store, now: str) -> list[int]:
    """Brings the tables up to date in one transaction, and returns the versions that were new.

    Raises `StartError` when one of our tables' names is taken by somebody else's, and what the driver raises.
    """
    store.begin()
    try:
        store.lock_schema()
        done = _migrate(store, now)
        store.commit()
    except BaseException:
        store.rollback()
        raise
    return done


def _migrate(store: Store, now: str) -> list[int]:
    existing = store.relations()
    if "eventrouter_migrations" in existing:
        applied = {row[0] for row in store.execute("SELECT version FROM eventrouter_migrations")}
        steps = [step for step in MIGRATIONS if step.version not in applied]
        statements = [statement for step in steps for statement in step.statements(store.dialect)]
    else:
        taken = sorted(existing & schema.OUR_TABLES)
        if taken:
            raise StartError(
                f"the warehouse's database already has something else that is called {', '.join(taken)}",
                hint="give the warehouse a database or a schema of its own"
                " (PostgreSQL: create the schema and add ?options=-csearch_path%3DNAME to warehouse.url)",
            )
        steps = MIGRATIONS
        statements = schema.create_all(store.dialect)
    for statement in statements:
        store.execute(statement)
    for step in steps:
        store.execute(
            "INSERT INTO eventrouter_migrations (version, name, applied_at) VALUES (?, ?, ?)",
            (step.version, step.name, now),
        )
    return [step.version for step in steps]
