"""The statements that make our tables."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from eventrouter.builtin.warehouse import schema
from eventrouter.builtin.warehouse.values import BOOLEAN, DOUBLE, INTEGER, NUMBER, TEXT, TIMESTAMP


def test_the_names_that_an_event_cannot_have_are_all_of_ours() -> None:
    assert {
        "events",
        "tracks",
        "identifies",
        "users",
        "pages",
        "screens",
        "groups",
        "accounts",
        "aliases",
        "dead_letters",
        "rejected_events",
        "discarded_values",
        "identities",
        "identity_merges",
        "resolved_events",
        "eventrouter_tables",
        "eventrouter_migrations",
    } == schema.OUR_TABLES


def test_events_are_unique_by_id_and_source() -> None:
    assert ["id", "source"] == [column.name for column in schema.events.primary_key]


@pytest.mark.parametrize("table", ["users", "accounts"])
def test_upserted_tables_are_unique_by_id(table: str) -> None:
    assert ["id"] == [column.name for column in schema.metadata.tables[table].primary_key]


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        (sqlite.dialect(), ["TEXT", "BOOLEAN", "NUMERIC", "DOUBLE", "TIMESTAMP", "BIGINT"]),
        (
            postgresql.dialect(),
            ["TEXT", "BOOLEAN", "NUMERIC", "DOUBLE PRECISION", "TIMESTAMP WITH TIME ZONE", "BIGINT"],
        ),
    ],
)
def test_each_kind_has_a_type_of_sql(dialect: sa.Dialect, expected: list[str]) -> None:
    kinds = [TEXT, BOOLEAN, NUMBER, DOUBLE, TIMESTAMP, INTEGER]
    assert expected == [schema.type_name(kind, dialect) for kind in kinds]


def test_the_view_comes_after_its_tables() -> None:
    statements = schema.create_all(sqlite.dialect())
    assert schema.RESOLVED_EVENTS == statements[-1]
    assert 16 == sum(statement.startswith("CREATE TABLE") for statement in statements)


def test_an_events_table_is_made_with_quoted_names() -> None:
    made = schema.create_table('we"ird', {"größe": NUMBER, "at": TIMESTAMP}, sqlite.dialect())
    assert 'CREATE TABLE "we""ird" ("größe" NUMERIC, "at" TIMESTAMP)' == made
