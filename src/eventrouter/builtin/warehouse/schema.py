"""The tables of the warehouse: ours in full, and of the typed ones the columns that each of them always has."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from .values import BOOLEAN, DOUBLE, INTEGER, NUMBER, TEXT, TIMESTAMP, Kind

metadata = sa.MetaData()

_JSON = sa.Text().with_variant(sa.JSON(), "postgresql")
_TIME = sa.TIMESTAMP(timezone=True)

TYPES: Final[dict[Kind, sa.types.TypeEngine[Any]]] = {
    TEXT: sa.Text(),
    BOOLEAN: sa.Boolean(),
    NUMBER: sa.Numeric(),
    DOUBLE: sa.Double(),
    TIMESTAMP: _TIME,
    INTEGER: sa.BigInteger(),
}
"""The SQL type of each kind of column."""

_TIMES: Final = dict.fromkeys(("timestamp", "original_timestamp", "sent_at", "received_at", "uuid_ts"), TIMESTAMP)
_COMMON: Final = {"id": TEXT, "source_name": TEXT, "anonymous_id": TEXT, "user_id": TEXT, **_TIMES}
_UPSERTED: Final = {"id": TEXT, "timestamp": TIMESTAMP, "received_at": TIMESTAMP, "uuid_ts": TIMESTAMP}

EVENT_TABLE: Final[dict[str, Kind]] = {**_COMMON, "event": TEXT, "event_text": TEXT}
"""The columns that `tracks` and each track event's own table begin with."""

TYPED: Final[dict[str, dict[str, Kind]]] = {
    "tracks": EVENT_TABLE,
    "identifies": _COMMON,
    "users": _UPSERTED,
    "pages": {**_COMMON, "name": TEXT, "category": TEXT},
    "screens": {**_COMMON, "name": TEXT, "category": TEXT},
    "groups": {**_COMMON, "group_id": TEXT},
    "accounts": _UPSERTED,
    "aliases": {**_COMMON, "previous_id": TEXT},
}
"""The typed tables with the columns that each begins with; more columns appear as the events bring them."""


def _typed(name: str, columns: dict[str, Kind]) -> sa.Table:
    # No unique key: typed rows are written only together with a new row of `events`, whose key speaks for all of them.
    key = "id" if columns is _UPSERTED else None
    parts = [sa.Column(column, TYPES[kind], primary_key=column == key) for column, kind in columns.items()]
    return sa.Table(name, metadata, *parts)


for _name, _columns in TYPED.items():
    _typed(_name, _columns)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("anonymous_id", sa.Text),
    sa.Column("user_id", sa.Text),
    sa.Column("person_id", sa.Text),
    sa.Column("received_at", _TIME),
    sa.Column("timestamp", _TIME),
    sa.Column("payload", _JSON, nullable=False),
    sa.Column("rules", sa.Text),
    sa.Index("eventrouter_events_received_at", "received_at"),
)

dead_letters = sa.Table(
    "dead_letters",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("message_id", sa.Text, primary_key=True),
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("route", sa.Text, nullable=False),
    sa.Column("class", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("attempts", sa.BigInteger, nullable=False),
    sa.Column("first_at", _TIME, nullable=False),
    sa.Column("last_at", _TIME, nullable=False),
    sa.Column("status", sa.BigInteger),
    sa.Column("response", sa.Text),
    sa.Column("traceback", sa.Text),
    sa.Column("payload", sa.Text),
    sa.Column("event_type", sa.Text),
    sa.Column("event_name", sa.Text),
    sa.Column("rules", sa.Text),
    sa.Column("replayed_at", _TIME),
    sa.Column("outcome", sa.Text),
    sa.Column("again", sa.Text),
    sa.Index("eventrouter_dead_letters_last_at", "last_at"),
)

rejected_events = sa.Table(
    "rejected_events",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("source", sa.Text),
    sa.Column("received_at", _TIME),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("message", sa.Text),
    sa.Column("message_id", sa.Text),
    sa.Column("payload", sa.Text),
)

discarded_values = sa.Table(
    "discarded_values",
    metadata,
    sa.Column("source", sa.Text),
    sa.Column("table_name", sa.Text),
    sa.Column("column_name", sa.Text),
    sa.Column("id", sa.Text),
    sa.Column("value", sa.Text),
    sa.Column("expected_type", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("received_at", _TIME),
)

identities = sa.Table(
    "identities",
    metadata,
    sa.Column("type", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, primary_key=True),
    sa.Column("person_id", sa.Text, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("seen_at", _TIME),
)

identity_merges = sa.Table(
    "identity_merges",
    metadata,
    sa.Column("person_id", sa.Text, primary_key=True),
    sa.Column("into_person_id", sa.Text, nullable=False),
    sa.Column("root_person_id", sa.Text, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("merged_at", _TIME),
    sa.Column("reason", sa.Text),
    sa.Index("eventrouter_identity_merges_root", "root_person_id"),
)

event_tables = sa.Table(
    "eventrouter_tables",
    metadata,
    sa.Column("event", sa.Text, primary_key=True),
    sa.Column("table_name", sa.Text, nullable=False, unique=True),
    sa.Column("event_text", sa.Text),
    sa.Column("created_at", _TIME),
)
"""Which table belongs to which track event: a table that is not listed here is somebody else's and never written to."""

migrations = sa.Table(
    "eventrouter_migrations",
    metadata,
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("applied_at", _TIME),
)

RESOLVED_EVENTS: Final = """\
CREATE VIEW resolved_events AS
SELECT e.id, e.type, e.source, e.anonymous_id, e.user_id,
       coalesce(m.root_person_id, e.person_id) AS person_id,
       e.received_at, e.timestamp, e.payload, e.rules
FROM events e LEFT JOIN identity_merges m ON m.person_id = e.person_id"""
"""`events` under the person of today: merges are flattened when they are loaded, so that one join will do."""

OUR_TABLES: Final = frozenset(metadata.tables) | {"resolved_events"}
"""Names that a track event's table cannot have."""


def quote(name: str) -> str:
    """`name` as a quoted identifier, in both databases."""
    return '"' + name.replace('"', '""') + '"'


def type_name(kind: Kind, dialect: sa.Dialect) -> str:
    """The SQL type of a column of `kind`."""
    return TYPES[kind].compile(dialect=dialect)


def create_all(dialect: sa.Dialect) -> list[str]:
    """The statements that make all of our tables, their indexes and the view in an empty database."""
    statements: list[str] = []
    for table in metadata.sorted_tables:
        statements.append(str(CreateTable(table).compile(dialect=dialect)).strip())
        statements.extend(
            str(CreateIndex(index).compile(dialect=dialect))
            for index in sorted(table.indexes, key=lambda index: str(index.name))
        )
    return [*statements, RESOLVED_EVENTS]


def create_table(name: str, columns: dict[str, Kind], dialect: sa.Dialect) -> str:
    """The statement that makes a typed table with `columns`."""
    parts = ", ".join(f"{quote(column)} {type_name(kind, dialect)}" for column, kind in columns.items())
    return f"CREATE TABLE {quote(name)} ({parts})"
