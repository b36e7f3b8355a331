"""Events as rows of the typed tables: `tracks`, a table per track event, `identifies`, `users`, `pages`, …"""

from __future__ import annotations

from typing import Any, Final

from . import schema
from .catalog import Catalog
from .flatten import Clash, Flattener
from .store import Store
from .values import FITS, MISFIT, TEXT, TIMESTAMP, read_time, to_json, to_text
from .widths import narrow

MAX_DISCARDS: Final = 100
"""Discarded values that are kept one by one, per event and table; the rest of them is one row with their number."""

MAX_ID: Final = 1000
"""Bytes of a user's or group's id in UTF-8: an entry of PostgreSQL's index holds 2,704. A longer id gets no row."""

Cells = dict[str, Any]
Refused = tuple[str, Any, str | None, str]
"""A column, a value that it cannot have, the kind of the column, and why."""


class _Place:
    """Where the properties or traits of one event type go: how they flatten, and the columns that are ours there."""

    def __init__(self, columns: dict[str, str]) -> None:
        self.flattener = Flattener(taken=frozenset(columns))
        self.ours = [(f"_{column}", column) for column in columns]


class Names:
    """What is remembered of the names that events have, for as long as the process lives."""

    def __init__(self) -> None:
        self.context = Flattener("context")
        self.track = _Place(schema.EVENT_TABLE)
        self.page = _Place(schema.TYPED["pages"])
        self.identify = _Place(schema.TYPED["identifies"])
        self.group = _Place(schema.TYPED["groups"])


class TypedRows:
    """The rows of one batch. `now` (ISO 8601) becomes `uuid_ts`; a row has at most `max_values` values."""

    def __init__(self, catalog: Catalog, names: Names, now: str, max_values: int) -> None:
        self.rows: dict[str, list[Cells]] = {}
        """Rows to add, by table."""
        self.upserts: dict[str, list[Cells]] = {"users": [], "accounts": []}
        """Rows to merge, in the order of the events; `timestamp` and `received_at` say which of two is later."""
        self.discarded: list[tuple[Any, ...]] = []
        """Rows of `discarded_values`."""
        self._catalog = catalog
        self._names = names
        self._now = now
        self._max_values = max_values
        self._origins: dict[str, list[Cells]] = {"users": [], "accounts": []}
        self._times: dict[str, str | None] = {}

    def add(self, source: str, event: dict[str, Any]) -> None:
        """Makes the rows of one event (scrubbed, with `messageId` and `type`) of `source`."""
        get = event.get
        base: Cells = {
            "id": to_text(event["messageId"]),
            "source_name": source,
            "anonymous_id": to_text(get("anonymousId") or None),
            "user_id": to_text(get("userId") or None),
            "uuid_ts": self._now,
        }
        bad: Cells = {}
        for column, key in _TIMES:
            value = get(key)
            if value is not None:
                base[column] = time = self._time(value)
                if time is None:
                    bad[column] = value
        context = get("context")
        cells, clashes = self._names.context.flatten(context) if type(context) is dict else ({}, [])
        row = _Row(base, cells, clashes)
        type_ = event["type"]
        if type_ == "track":
            table = self._track(row, event)
        elif type_ == "page" or type_ == "screen":
            table = self._page(row, event, f"{type_}s")
        elif type_ == "identify":
            table = self._identify(row, event)
        elif type_ == "group":
            table = self._group(row, event)
        elif type_ == "alias":
            table = "aliases"
            self._put(table, {**base, "previous_id": to_text(get("previousId"))}, row)
        else:
            return
        for column, value in bad.items():
            self._discard(base, table, column, value, TIMESTAMP, "type_mismatch")

    def _time(self, value: Any) -> str | None:
        if type(value) is not str:
            return None
        if value in self._times:
            return self._times[value]
        time = self._times[value] = read_time(value)
        return time

    def _track(self, row: _Row, event: dict[str, Any]) -> str:
        text = to_text(event.get("event")) or ""
        table = self._catalog.event_table(text)
        base = {**row.base, "event": table, "event_text": text}
        self._put("tracks", base.copy(), row)
        if table is None:
            self._discard(base, text, None, None, None, "too_many_tables")
        else:
            self._put(table, base, row, *self._flatten(self._names.track, base, event.get("properties")))
        return "tracks"

    def _page(self, row: _Row, event: dict[str, Any], table: str) -> str:
        properties = event.get("properties")
        inner = properties if type(properties) is dict else {}
        name, category = event.get("name") or inner.get("name"), event.get("category") or inner.get("category")
        base = {**row.base, "name": to_text(name), "category": to_text(category)}
        self._put(table, base, row, *self._flatten(self._names.page, base, properties))
        return table

    def _identify(self, row: _Row, event: dict[str, Any]) -> str:
        base = row.base
        cells, clashes = self._flatten(self._names.identify, base, event.get("traits"))
        self._put("identifies", base.copy(), row, cells, clashes)
        self._upsert("users", base["user_id"], row, cells, clashes)
        return "identifies"

    def _group(self, row: _Row, event: dict[str, Any]) -> str:
        base = {**row.base, "group_id": to_text(event.get("groupId") or None)}
        cells, clashes = self._flatten(self._names.group, base, event.get("traits"))
        self._put("groups", base, row, cells, clashes)
        self._upsert("accounts", base["group_id"], row, cells, clashes)
        return "groups"

    def _flatten(self, place: _Place, base: Cells, value: Any) -> tuple[Cells, list[Clash]]:
        if type(value) is not dict or not value:
            return {}, []
        cells, clashes = place.flattener.flatten(value)
        for column, ours in place.ours:
            if column in cells and cells[column] == base.get(ours):
                del cells[column]  # it says what our column says already, as `name` does on every page
        if "_id" in cells and cells["_id"] in (base["user_id"], base.get("group_id")):
            del cells["_id"]
        return cells, clashes

    def _put(self, table: str, cells: Cells, row: _Row, own: Cells | None = None, clashes: list[Clash] = []) -> None:  # noqa: B006
        self._fill(table, cells, row, own, clashes)
        rows = self.rows.get(table)
        if rows is None:
            rows = self.rows[table] = []
        rows.append(cells)

    def _upsert(self, table: str, key: str | None, row: _Row, own: Cells, clashes: list[Clash]) -> None:
        if key is None:
            return
        if len(key.encode()) > MAX_ID:
            self._discard(row.base, table, "id", key, TEXT, "id_too_long")
            return
        received = row.base.get("received_at") or self._now
        # A client's clock may be far ahead: nothing happened later than it was received.
        cells: Cells = {
            "id": key,
            "timestamp": min(row.base.get("timestamp") or received, received),
            "received_at": received,
            "uuid_ts": self._now,
        }
        self._fill(table, cells, row, own, clashes)
        self.upserts[table].append(cells)
        self._origins[table].append(row.base)

    def narrow(self, store: Store, table: str) -> None:
        """Discards what the rows to merge into `table` have beyond what a row of it holds."""
        kinds = self._catalog.columns(table)
        refused: dict[int, list[Refused]] = {}
        for index, column, value in narrow(store, table, kinds, self.upserts[table]):
            refused.setdefault(index, []).append((column, value, kinds[column], "too_many_values"))
        for index, values in refused.items():
            self._refuse(self._origins[table][index], table, values)

    def _fill(self, table: str, cells: Cells, row: _Row, own: Cells | None, clashes: list[Clash]) -> None:
        kinds = self._catalog.columns(table)
        refused: list[Refused] = []
        count = len(cells) + len(row.context) + (len(own) if own else 0)
        room = self._max_values if count > self._max_values else None
        for part in (row.context, own) if own else (row.context,):
            for column, value in part.items():
                kind = kinds.get(column)
                if kind is TEXT and type(value) is str and room is None:
                    cells[column] = value
                    continue
                if room is not None and len(cells) >= room:
                    refused.append((column, value, kind, "too_many_values"))
                    continue
                if kind is None:
                    kind = self._catalog.column(table, column, value)
                    if kind is None:
                        refused.append((column, value, None, self._catalog.refusal(table)))
                        continue
                converter = FITS[kind].get(type(value))
                cell = MISFIT if converter is None else converter(value)
                if cell is MISFIT:
                    refused.append((column, value, kind, "type_mismatch"))
                else:
                    cells[column] = cell
        if row.clashes or clashes:
            refused.extend((c.column, c.value, kinds.get(c.column), "name_clash") for c in (*row.clashes, *clashes))
        if refused:
            self._refuse(row.base, table, refused)

    def _refuse(self, base: Cells, table: str, refused: list[Refused]) -> None:
        for column, value, kind, reason in refused[:MAX_DISCARDS]:
            self._discard(base, table, column, value, kind, reason)
        if len(refused) > MAX_DISCARDS:
            self._discard(base, table, None, len(refused) - MAX_DISCARDS, None, "more_values")

    def _discard(
        self, base: Cells, table: str, column: str | None, value: Any, expected: str | None, reason: str
    ) -> None:
        text = None if value is None else to_json(value)
        received = base.get("received_at")
        self.discarded.append((base["source_name"], table, column, base["id"], text, expected, reason, received))


class _Row:
    """What all rows of one event share."""

    __slots__ = ("base", "clashes", "context")

    def __init__(self, base: Cells, context: Cells, clashes: list[Clash]) -> None:
        self.base = base
        self.context = context
        self.clashes = clashes


_TIMES = (
    ("timestamp", "timestamp"),
    ("original_timestamp", "originalTimestamp"),
    ("sent_at", "sentAt"),
    ("received_at", "receivedAt"),
)
