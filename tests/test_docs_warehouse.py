"""docs/warehouse.md: its columns are the tables', and each of its examples runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from eventrouter.builtin.warehouse import schema, sqlite_store
from eventrouter.builtin.warehouse.base import SqlWarehouse
from eventrouter.builtin.warehouse.naming import column_name, part, table_name
from eventrouter.builtin.warehouse.postgres_store import PostgresStore
from eventrouter.builtin.warehouse.values import kind_of
from eventrouter.records import Identity, IdentityMerge, RejectedEvent
from warehouse_kit import letter, messages, record, select, warehouse_at

TEXT = (Path(__file__).parent.parent / "docs" / "warehouse.md").read_text()
SECTIONS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^##)", TEXT, re.MULTILINE | re.DOTALL))
CHAPTERS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## )", TEXT, re.MULTILINE | re.DOTALL))
PACKAGE = Path(schema.__file__).parent
EXAMPLES = [(database, sql.strip()) for database, sql in re.findall(r"^```sql ?(\w*)\n(.*?)^```", TEXT, re.M | re.S)]


def columns(section: str) -> list[str]:
    """The first column of the section's first table."""
    return re.findall(r"^\| (\w+) \|", SECTIONS[section].partition("| column |")[2].partition("\n\n")[0], re.M)


@pytest.mark.parametrize(
    "table",
    [
        "events",
        "dead_letters",
        "rejected_events",
        "discarded_values",
        "identities",
        "identity_merges",
        "eventrouter_tables",
        "eventrouter_migrations",
    ],
)
def test_a_tables_columns_are_the_documented_ones(table: str) -> None:
    assert [column.name for column in schema.metadata.tables[table].columns] == columns(table)


def test_the_typed_tables_columns_are_the_documented_ones() -> None:
    assert list(schema.EVENT_TABLE) == columns("tracks, and a table per track event")
    assert list(schema.TYPED["users"]) == list(schema.TYPED["accounts"]) == columns("users, accounts")
    own = dict(re.findall(r"^\| (\w+) \| (.+) \|$", SECTIONS["identifies, pages, screens, groups, aliases"], re.M))
    for table in ("identifies", "pages", "screens", "groups", "aliases"):
        extra = [name for name in schema.TYPED[table] if name not in schema.EVENT_TABLE]
        assert extra == [name for name in own[table].split(", ") if name not in ("traits", "properties")]


def test_every_table_is_documented() -> None:
    assert schema.OUR_TABLES == set(re.findall(r"\w+", " ".join(SECTIONS))) - {
        "and",
        "a",
        "table",
        "per",
        "track",
        "event",
    }


def test_names_become_what_is_documented() -> None:
    rows = re.findall(r"^\| `(.+?)` \| `(\S+?)`", TEXT.partition("## Names")[2].partition("## Types")[0], re.M)
    assert 8 == len(rows)
    for sent, made in rows:
        assert made in (column_name(part(sent)), table_name(sent, schema.OUR_TABLES))
    assert "users" == column_name(part("Users"))


@pytest.mark.parametrize(
    ("value", "documented"),
    [
        (True, "boolean"),
        (10, "numeric"),
        (10.5, "double"),
        ("2026-11-24", "timestamp"),
        ("text", "text"),
        (2**64, "text"),
    ],
)
def test_types_are_what_is_documented(value: Any, documented: str) -> None:
    assert documented in schema.TYPES[kind_of(value)].__class__.__name__.lower()


def test_limits_are_the_documented_ones() -> None:
    rows = re.findall(r"^\| (.+?) \| (.*?) ?\| (.*?) ?\|$", CHAPTERS["Limits"], re.M)
    assert [
        ("tables of track events", f"{SqlWarehouse.max_tables:,}", f"{SqlWarehouse.max_tables:,}"),
        ("columns of a table", f"{SqlWarehouse.max_columns:,}", f"{SqlWarehouse.max_columns:,}"),
        ("columns of all tables", f"{sqlite_store.MAX_COLUMNS:,}", ""),
        (
            "new columns of tables that are there, per batch",
            f"{sqlite_store.MAX_READ_AGAIN:,} / columns of all tables",
            "",
        ),
        ("values in a row", "", str(PostgresStore.max_values)),
    ] == rows


def test_reasons_of_discarded_values_are_the_documented_ones() -> None:
    source = "".join((PACKAGE / name).read_text() for name in ("typed.py", "catalog.py"))
    made = set(re.findall(r'"(type_mismatch|name_clash|id_too_long|more_values|too_many_\w+)"', source))
    assert made == set(re.findall(r"^\| (\w+) \| ", SECTIONS["discarded_values"].partition("| reason | |")[2], re.M))


@pytest.fixture
async def loaded(warehouse_url: str) -> str:
    campaign = {"campaign": {"source": "newsletter"}}
    items = [{"sku": "a-1"}]
    warehouse = warehouse_at(warehouse_url)
    await warehouse.deliver(
        messages(
            record("m1", properties={"total": 10, "items": items}, context=campaign),
            record("m2", properties={"total": 20.5, "items": items}, context=campaign),
            record("m3", properties={"total": "free"}),
            record("m4", "identify", userId="user-1", traits={"email": "a@example.com", "plan": "pro"}),
            letter("m1"),
            RejectedEvent(id="r1", source="website", received_at="2026-11-24", code="id_required", message="no id"),
            Identity(type="user_id", value="user-1", person_id="person-2", seq=1, seen_at="2026-11-24"),
            IdentityMerge(person_id="person-1", into_person_id="person-2", seq=2, merged_at="2026-11-24"),
        )
    )
    await warehouse.close()
    return warehouse_url


async def test_every_example_runs_and_finds_something(loaded: str) -> None:
    ran = {}
    for database, sql in EXAMPLES:
        if not database or loaded.startswith(database):
            ran[sql.split("FROM")[0]] = rows = select(loaded, sql)
            assert rows, sql
    results = list(ran.values())
    assert [("2026-11-24", 3)] == [row[:2] for row in results[0]]
    assert 30.5 == float(results[0][0][2])
    assert {("newsletter", 1), (None, 1)} == {row[:2] for row in results[1]}
    assert ["track", "track", "track", "identify"] == sorted((row[1] for row in results[2]), reverse=True)
    assert [("user-1", "a@example.com", "pro")] == results[3]
    assert [("m1", "a-1"), ("m2", "a-1"), ("m3", None)] == sorted(results[4])
    assert [("order_completed", "total", "number", "type_mismatch", 1, '"free"')] == results[5]
    assert [("crm", "permanent", "HTTP 400", 1)] == [row[:4] for row in results[6]]
    assert [("website", "id_required", 1)] == results[7]
