"""The tables and columns that a database has, as far as we have seen them, and those that a batch wants to add."""

from __future__ import annotations

from typing import Any

from . import naming, schema
from .store import Room, Store
from .values import Kind, kind_of

MAX_TEXTS = 10_000
"""Event names whose table is remembered; beyond that it is worked out again."""


class Catalog:
    """What is known of one database over one connection; what a batch adds is pending until `apply`.

    Call `begin` with each transaction; after one that failed, call `clear`: everything is then read again when it is
    asked for.
    """

    def __init__(self, store: Store, *, max_tables: int, max_columns: int) -> None:
        self._store = store
        self._max_tables = max_tables
        self._max_columns = max_columns
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self._columns: dict[str, dict[str, Kind]] = {}
        self._event_tables: dict[str, str] | None = None
        self._by_text: dict[str, str] = {}
        self._new_tables: dict[str, tuple[str, str]] = {}
        self._new_columns: dict[str, dict[str, Kind]] = {}
        self.begin()

    def begin(self) -> None:
        """Forgets how much room the database had for columns: others may have added some."""
        self._room: Room | None = None
        self._made: set[str] = set()
        self._new = 0
        self._added = 0

    def columns(self, table: str) -> dict[str, Kind]:
        """The columns of a typed table, pending ones included; not to be changed by the caller."""
        known = self._columns.get(table)
        if known is None:
            known = self._columns[table] = self._store.columns(table) or {}
        return known

    def column(self, table: str, name: str, value: Any) -> Kind | None:
        """The kind of a column, which is made (pending) for `value` when it is new; None: `refusal` says why not."""
        columns = self.columns(table)
        kind = columns.get(name)
        if kind is None:
            if self.refusal(table):
                return None
            self._new += 1
            self._added += table not in self._made
            kind = columns[name] = kind_of(value)
            self._new_columns.setdefault(table, {})[name] = kind
        return kind

    def refusal(self, table: str) -> str:
        """Why `table` gets no further column, as a reason of `discarded_values`; empty: it may have one."""
        if len(self.columns(table)) >= self._max_columns:
            return "too_many_columns"
        if self._room is None:
            self._room = self._store.room()
        if self._new >= self._room.new:
            return "too_many_columns"
        return "too_many_new_columns" if table not in self._made and self._added >= self._room.added else ""

    def event_table(self, text: str) -> str | None:
        """The table of the track events called `text`, made (pending) when it is new; None: there are too many.

        Names that are the same in snake_case share a table. A table of that name that is somebody else's is left alone.
        """
        table = self._by_text.get(text)
        if table is None:
            table = self._find_event_table(text)
            if table is not None and len(self._by_text) < MAX_TEXTS and len(text) <= 200:
                self._by_text[text] = table
        return table

    def _find_event_table(self, text: str) -> str | None:
        event = naming.table_name(text, schema.OUR_TABLES)
        if self._event_tables is None:
            self._event_tables = dict(self._read_event_tables())
        table = self._event_tables.get(event)
        if table is not None:
            if table in self._columns or self._store.columns(table) is not None:
                return table
            # An operator has dropped it: it is made anew.
        elif len(self._event_tables) >= self._max_tables:
            return None
        else:
            table = event
            while table in self._event_tables.values() or self._store.columns(table) is not None:
                table = naming.shorten("_" + table)
        self._event_tables[event] = table
        self._new_tables[event] = (table, text)
        self._columns[table] = dict(schema.EVENT_TABLE)
        self._made.add(table)
        return table

    def _read_event_tables(self) -> list[tuple[str, str]]:
        return [(row[0], row[1]) for row in self._store.execute("SELECT event, table_name FROM eventrouter_tables")]

    @property
    def pending(self) -> bool:
        """True when the batch wants tables or columns that are not there."""
        return bool(self._new_tables or self._new_columns)

    def confirm(self) -> bool:
        """With the schema locked: True when what is pending is still what is missing.

        False: somebody else was faster. All that is pending is forgotten, and the batch has to be looked at again.
        """
        current = dict(self._read_event_tables()) if self._new_tables else {}
        fresh = all(
            current.get(event, table) == table and self._store.columns(table) is None
            for event, (table, _) in self._new_tables.items()
        )
        made = {table for table, _ in self._new_tables.values()}
        for table, added in self._new_columns.items():
            if table in made:
                continue
            found = self._store.columns(table) or {}
            before = {name: kind for name, kind in self._columns[table].items() if name not in added}
            fresh = fresh and found == before
        if not fresh:
            self.clear()
        return fresh

    def apply(self, now: str) -> None:
        """Makes what is pending, in the order of the tables' names, so that two workers cannot wait for one another."""
        made = {table: (event, text) for event, (table, text) in self._new_tables.items()}
        for table in sorted(made.keys() | self._new_columns.keys()):
            if table in made:
                event, text = made[table]
                self._store.execute(schema.create_table(table, self._columns[table], self._store.dialect))
                self._store.execute(
                    "INSERT INTO eventrouter_tables (event, table_name, event_text, created_at) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT (event) DO NOTHING",
                    (event, table, text, now),
                )
            else:
                self._store.add_columns(table, self._new_columns[table])
        self._new_tables = {}
        self._new_columns = {}
