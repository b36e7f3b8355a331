"""One batch of records into one database, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from eventrouter.records import (
    DeadLetter,
    DeadLetterReplayed,
    EventRecord,
    Identity,
    IdentityMerge,
    RejectedEvent,
)

from . import schema
from .catalog import Catalog
from .dead_letters import load_dead_letters
from .merges import load_merges
from .prepare import Item
from .store import Store
from .typed import Names, TypedRows
from .upserts import load_upserts
from .values import INTEGER, TEXT, TIMESTAMP, Kind, read_time, to_text

WIDE: Final = 100
"""Columns of a table up to which a batch writes all of them; beyond that only those that it has values for."""

_REJECTED: Final[dict[str, Kind]] = {
    "id": TEXT,
    "source": TEXT,
    "received_at": TIMESTAMP,
    "code": TEXT,
    "message": TEXT,
    "message_id": TEXT,
    "payload": TEXT,
}
_IDENTITY: Final[dict[str, Kind]] = {
    "type": TEXT,
    "value": TEXT,
    "person_id": TEXT,
    "seq": INTEGER,
    "seen_at": TIMESTAMP,
}
_NEWER_IDENTITY: Final = """\
ON CONFLICT (type, value) DO UPDATE SET person_id = excluded.person_id, seq = excluded.seq, seen_at = excluded.seen_at
WHERE excluded.seq > identities.seq"""
_DISCARDED: Final = tuple(column.name for column in schema.discarded_values.columns)


@dataclass(slots=True)
class Loaded:
    """What a batch came to."""

    events: int = 0
    """Events that were new."""
    late_duplicates: int = 0
    """Events that had been there."""
    discarded: int = 0
    """Rows of `discarded_values`."""


class Loader:
    """Loads batches over one connection. Use it from one thread at a time."""

    def __init__(self, store: Store, names: Names, *, max_tables: int, max_columns: int) -> None:
        self.store = store
        self._names = names
        self._catalog = Catalog(store, max_tables=max_tables, max_columns=max_columns)

    def load(self, items: Sequence[Item], now: str) -> Loaded:
        """Loads `items` in one transaction, durable on return. Whatever it raises, nothing of them was loaded."""
        self.store.begin()
        self._catalog.begin()
        try:
            loaded = self._load(items, now)
            self.store.commit()
        except BaseException:
            self._catalog.clear()
            self.store.rollback()
            raise
        return loaded

    def _load(self, items: Sequence[Item], now: str) -> Loaded:
        loaded = Loaded()
        events: dict[tuple[str, str], Item] = {}
        others: dict[type, list[Any]] = {}
        for item in items:
            record = item.record
            if type(record) is EventRecord:
                key = (str(to_text(record.event["messageId"])), record.source)
                if key in events:
                    loaded.late_duplicates += 1
                else:
                    events[key] = item
            else:
                others.setdefault(type(record), []).append(record)
        if events:
            self._load_events(events, now, loaded)
        self._load_rejected(others.get(RejectedEvent, []))
        load_dead_letters(self.store, others.get(DeadLetter, []), others.get(DeadLetterReplayed, []))
        self._load_identities(others.get(Identity, []))
        load_merges(self.store, others.get(IdentityMerge, []))
        return loaded

    def _load_events(self, events: dict[tuple[str, str], Item], now: str, loaded: Loaded) -> None:
        # Sorted, so that two workers that load the same events cannot wait for one another.
        rows = [_event_row(key, events[key]) for key in sorted(events)]
        new = self.store.insert_events(rows)
        loaded.events = len(new)
        loaded.late_duplicates += len(events) - len(new)
        fresh = [item.record for key, item in events.items() if key in new and item.typed]
        if not fresh:
            return
        typed = self._typed(fresh, now)
        if self._catalog.pending:
            self.store.lock_schema()
            if not self._catalog.confirm():
                typed = self._typed(fresh, now)
            self._catalog.apply(now)
        # Tables in the order of their names, as columns are added, so that two workers cannot wait for one another.
        for table in sorted(typed.rows.keys() | typed.upserts.keys()):
            if table in typed.upserts:
                typed.narrow(self.store, table)
                load_upserts(self.store, table, self._catalog.columns(table), typed.upserts[table])
            else:
                self._insert(table, typed.rows[table])
        if typed.discarded:
            self.store.insert("discarded_values", _DISCARDED, typed.discarded)
            loaded.discarded = len(typed.discarded)

    def _typed(self, records: Sequence[Any], now: str) -> TypedRows:
        typed = TypedRows(self._catalog, self._names, now, self.store.max_values)
        for record in records:
            typed.add(record.source, record.event)
        return typed

    def _insert(self, table: str, rows: list[dict[str, Any]]) -> None:
        columns = list(self._catalog.columns(table))
        if len(columns) > WIDE:
            used = set[str]().union(*rows)
            columns = [column for column in columns if column in used]
        self.store.insert(table, columns, [tuple(map(cells.get, columns)) for cells in rows])

    def _load_rejected(self, records: Sequence[RejectedEvent]) -> None:
        rows = {
            record.id: (
                record.id,
                record.source,
                read_time(record.received_at),
                record.code,
                record.message,
                record.message_id,
                record.payload,
            )
            for record in records
        }
        if rows:
            self.store.merge(
                "rejected_events", _REJECTED, [rows[key] for key in sorted(rows)], "ON CONFLICT (id) DO NOTHING"
            )

    def _load_identities(self, records: Sequence[Identity]) -> None:
        newest: dict[tuple[str, str], Identity] = {}
        for record in records:
            known = newest.get((record.type, record.value))
            if known is None or record.seq > known.seq:
                newest[record.type, record.value] = record
        if newest:
            rows = [
                (*key, newest[key].person_id, newest[key].seq, read_time(newest[key].seen_at)) for key in sorted(newest)
            ]
            self.store.merge("identities", _IDENTITY, rows, _NEWER_IDENTITY)


def _event_row(key: tuple[str, str], item: Item) -> tuple[Any, ...]:
    record: Any = item.record
    event = record.event
    return (
        *key,
        event["type"],
        to_text(event.get("anonymousId") or None),
        to_text(event.get("userId") or None),
        record.person_id,
        read_time(str(event.get("receivedAt"))),
        read_time(str(event.get("timestamp"))),
        item.payload,
        record.rules,
    )
