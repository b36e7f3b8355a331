"""`users` and `accounts` are merged from ever more events: their rows are kept within what the database holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .store import Store
from .values import Kind


class Excess(NamedTuple):
    """A value that was taken away."""

    row: int
    """The index of the row that had it."""
    column: str
    value: Any


def narrow(store: Store, table: str, kinds: Mapping[str, Kind], rows: Sequence[dict[str, Any]]) -> list[Excess]:
    """Takes away from `rows` what would make a row of `table` too wide when they are merged into it.

    A row has `Store.max_values` values at most, the first that come: a full one gets no further columns, while those
    that it has are overwritten as always. Of two transactions at once neither knows of the other.
    """
    room = store.max_values
    if len(kinds) <= room or not rows:
        return []
    wanted: dict[str, set[str]] = {}
    for cells in rows:
        columns = wanted.setdefault(cells["id"], set())
        columns.update(column for column, value in cells.items() if value is not None)
    most = max(map(len, wanted.values()))
    stored = store.filled(table, list(kinds), sorted(wanted), room - most)
    excess: list[Excess] = []
    for index, cells in enumerate(rows):
        key = cells["id"]
        if key not in stored:
            if len(wanted[key]) <= room:
                continue
            stored[key] = set()
        has = stored[key]
        for column, value in list(cells.items()):
            if value is None or column in has:
                continue
            if len(has) < room:
                has.add(column)
            else:
                del cells[column]
                excess.append(Excess(index, column, value))
    return excess
