"""`users` and `accounts`: one row per id, in which the later event wins, column by column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .schema import quote
from .store import Store, chunks, placeholders
from .values import Kind

Cells = dict[str, Any]


def _order(cells: Mapping[str, Any]) -> tuple[str, str]:
    return cells["timestamp"], cells["received_at"]


def fold(rows: Iterable[Cells]) -> Cells:
    """Rows of one id as one: a later value wins, of equal times the last one; an absent one takes nothing away."""
    folded: Cells = {}
    for cells in sorted(rows, key=_order):
        folded.update((column, value) for column, value in cells.items() if value is not None)
    return folded


def load_upserts(store: Store, table: str, kinds: Mapping[str, Kind], rows: Iterable[Cells]) -> None:
    """Merges `rows` (in the order of the events) into `table`, in the open transaction of `store`.

    A row that is later than the stored one, or as late, overwrites what it has values for; an earlier one only fills
    what is empty.
    """
    by_id: dict[str, list[Cells]] = {}
    for cells in rows:
        by_id.setdefault(cells["id"], []).append(cells)
    if not by_id:
        return
    stored: dict[str, tuple[str, str]] = {}
    for some in chunks(sorted(by_id), 500):
        sql = f"SELECT id, timestamp, received_at FROM {quote(table)} WHERE id IN ({placeholders(len(some))})"
        stored.update((row[0], (row[1], row[2])) for row in store.execute(sql, some))
    # Split at the stored row, because one row that mixes earlier with later values would be neither.
    earlier, later = [], []
    for key in sorted(by_id):
        floor = stored.get(key, ("", ""))
        before = [cells for cells in by_id[key] if _order(cells) < floor]
        after = [cells for cells in by_id[key] if _order(cells) >= floor]
        if before:
            earlier.append(fold(before))
        if after:
            later.append(fold(after))
    for part in (earlier, later):
        if part:
            _merge(store, table, kinds, part)


def _merge(store: Store, table: str, kinds: Mapping[str, Kind], rows: list[Cells]) -> None:
    used = set[str]().union(*rows)
    columns = {column: kind for column, kind in kinds.items() if column in used}
    name = quote(table)
    is_later = f"(excluded.timestamp, excluded.received_at) >= ({name}.timestamp, {name}.received_at)"
    parts = []
    for column in map(quote, columns):
        if column in ('"timestamp"', '"received_at"', '"uuid_ts"'):
            parts.append(f"{column} = CASE WHEN {is_later} THEN excluded.{column} ELSE {name}.{column} END")
        elif column != '"id"':
            new, old = f"excluded.{column}", f"{name}.{column}"
            parts.append(f"{column} = CASE WHEN {is_later} THEN coalesce({new}, {old}) ELSE coalesce({old}, {new}) END")
    rest = f"ON CONFLICT (id) DO UPDATE SET {', '.join(parts)}"
    store.merge(table, columns, [tuple(map(cells.get, columns)) for cells in rows], rest)
