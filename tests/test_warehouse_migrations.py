"""Our tables from nothing to today."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from eventrouter.builtin.warehouse import migrations, schema
from eventrouter.builtin.warehouse.migrations import Migration, migrate
from eventrouter.errors import StartError
from warehouse_kit import NOW, run, select, store_at


def test_an_empty_database_gets_all_tables_and_counts_as_migrated(warehouse_url: str) -> None:
    store = store_at(warehouse_url)
    assert [1, 2, 3] == migrate(store, NOW)
    assert [] == migrate(store, NOW)
    assert schema.OUR_TABLES <= store.relations()
    steps = [(1, "the first tables"), (2, "what became of dead letters"), (3, "the new keys of dead letters")]
    assert steps == store.execute("SELECT version, name FROM eventrouter_migrations")
    for name, table in schema.metadata.tables.items():
        assert [column.name for column in table.columns] == list(store.columns(name) or ())
    store.close()


def test_the_first_versions_dead_letters_get_what_they_lack(warehouse_url: str) -> None:
    store = store_at(warehouse_url)
    migrate(store, NOW)
    for column in ("outcome", "again"):
        run(warehouse_url, f"ALTER TABLE dead_letters DROP COLUMN {column}")
    run(warehouse_url, "DELETE FROM eventrouter_migrations WHERE version > 1")
    assert [2, 3] == migrate(store, NOW)
    assert [column.name for column in schema.dead_letters.columns] == list(store.columns("dead_letters") or ())
    store.close()


def test_a_later_version_runs_only_what_is_missing(warehouse_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_at(warehouse_url)
    migrate(store, NOW)

    def more(_: sa.Dialect) -> list[str]:
        return ["CREATE TABLE eventrouter_more (a integer)"]

    monkeypatch.setattr(migrations, "MIGRATIONS", [*migrations.MIGRATIONS, Migration(4, "more", more)])
    assert [4] == migrate(store, NOW)
    assert [] == migrate(store, NOW)
    assert "eventrouter_more" in store.relations()
    store.close()


def test_a_failed_migration_leaves_nothing(warehouse_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_at(warehouse_url)
    migrate(store, NOW)

    def broken(_: sa.Dialect) -> list[str]:
        return ["CREATE TABLE eventrouter_more (a integer)", "CREATE NONSENSE"]

    monkeypatch.setattr(migrations, "MIGRATIONS", [*migrations.MIGRATIONS, Migration(4, "broken", broken)])
    with pytest.raises(Exception, match="NONSENSE"):
        migrate(store, NOW)
    assert "eventrouter_more" not in store.relations()
    store.close()


def test_a_newer_versions_database_is_left_as_it_is(warehouse_url: str) -> None:
    store = store_at(warehouse_url)
    migrate(store, NOW)
    run(warehouse_url, "INSERT INTO eventrouter_migrations (version, name) VALUES (99, 'from the future')")
    assert [] == migrate(store, NOW)
    store.close()


def test_somebody_elses_tables_are_not_touched(warehouse_url: str) -> None:
    run(warehouse_url, "CREATE TABLE users (name text)")
    store = store_at(warehouse_url)
    with pytest.raises(StartError, match="users") as caught:
        migrate(store, NOW)
    assert "schema" in caught.value.hint
    assert {"users"} == store.relations()
    store.close()


def test_two_workers_may_begin_at_once(warehouse_url: str) -> None:
    done: list[list[int]] = []

    def begin() -> None:
        store = store_at(warehouse_url)
        done.append(migrate(store, NOW))
        store.close()

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[], [], [], [1, 2, 3]] == sorted(done)
    assert [(3,)] == select(warehouse_url, "SELECT count(*) FROM eventrouter_migrations")
