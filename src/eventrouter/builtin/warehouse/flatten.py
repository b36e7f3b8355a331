"""Nested objects as columns: `{"address": {"street": "Elm"}}` becomes `address_street`."""

from __future__ import annotations

from typing import Any, NamedTuple

from . import naming

MAX_DEPTH = 5
"""Objects nested deeper than this many levels are kept in their column as JSON text."""

MAX_KNOWN = 20_000
"""Names that one `Flattener` remembers; beyond that it works each one out again."""


class Clash(NamedTuple):
    """A value that lost its column to another one of the same event, because both names mean the same column."""

    column: str
    value: Any


class _Clashed(Exception):
    pass


class _Name:
    """One key at one place: its column, and the keys below it that were seen."""

    __slots__ = ("below", "column", "path")

    def __init__(self, path: str, taken: frozenset[str]) -> None:
        self.path = path
        self.column = naming.column_name(path, taken) if path else ""
        self.below: dict[str, _Name] = {}


class Flattener:
    """Flattens objects of one place (the context; the properties of a table), and remembers the names it has seen.

    `taken` are columns that a property cannot have: it gets a leading `_`. So does one that begins with `context_`
    where there is no `prefix`.
    """

    def __init__(self, prefix: str = "", taken: frozenset[str] = frozenset()) -> None:
        self._taken = taken
        self._root = _Name(prefix, taken)
        self._known = 0

    def flatten(self, value: dict[str, Any]) -> tuple[dict[str, Any], list[Clash]]:
        """Column → value for all that is not null, in the order of the event, and what lost its column to another.

        Of two keys that mean one column, the one that is spelled like the column wins, else the first by code points,
        whatever their order. An empty object has no column.
        """
        columns: dict[str, Any] = {}
        try:
            self._walk(value, self._root, columns, 1)
        except _Clashed:
            return self._settle(value)
        return columns, []

    def _name(self, above: _Name, key: str) -> _Name:
        part = naming.part(key)
        path = f"{above.path}_{part}" if above.path else part
        taken = self._taken
        if not self._root.path and path.startswith("context_"):
            taken = frozenset({path})
        name = _Name(path, taken)
        if self._known < MAX_KNOWN and len(key) <= 200:
            self._known += 1
            above.below[key] = name
        return name

    def _walk(self, value: dict[str, Any], above: _Name, columns: dict[str, Any], depth: int) -> None:
        below = above.below
        for key, item in value.items():
            if item is None:
                continue
            name = below.get(key) or self._name(above, key)
            if type(item) is dict and depth < MAX_DEPTH:
                self._walk(item, name, columns, depth + 1)
            elif name.column in columns:
                raise _Clashed
            elif item != {}:
                columns[name.column] = item

    def _settle(self, value: dict[str, Any]) -> tuple[dict[str, Any], list[Clash]]:
        found: dict[str, list[tuple[str, Any]]] = {}
        self._collect(value, self._root, "", found, 1)
        columns: dict[str, Any] = {}
        lost: list[Clash] = []
        for column, rivals in found.items():
            rivals.sort(key=lambda rival: (rival[0] != column, rival[0]))
            winner = rivals[0][1]
            columns[column] = winner
            lost.extend(
                Clash(column, item) for _, item in rivals[1:] if item != winner or type(item) is not type(winner)
            )
        return columns, lost

    def _collect(
        self, value: dict[str, Any], above: _Name, spelling: str, found: dict[str, list[tuple[str, Any]]], depth: int
    ) -> None:
        for key, item in value.items():
            if item is None:
                continue
            name = above.below.get(key) or self._name(above, key)
            spelled = f"{spelling}_{key}" if spelling else key
            if type(item) is dict and depth < MAX_DEPTH:
                self._collect(item, name, spelled, found, depth + 1)
            elif item != {}:
                found.setdefault(name.column, []).append((spelled, item))
