"""Conditions and events made by chance over a small vocabulary, and what such a condition is by the rules' page."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from hypothesis import strategies as st

from eventrouter.events import EVENT_TYPES, StoredEvent

SOURCES = ("website", "app", "shop")
VALUES: list[Any] = [
    True, False, None, 0, 1, 1.0, 2, 10, -0.5, "", "1", "a", "ab", "page", [], [True], [1], [1.0, "a"], {}, {"a": True},
]  # fmt: skip
_values = st.sampled_from([True, False, 0, 1, [True], [1]]) | st.sampled_from(VALUES)  # what Python mixes up, often
PATHS = ("type", "event", "source", "properties.n", "properties.vip", "properties.plan", "properties.deep.er", "name")
TESTS = ("defined", "undefined", "none", "true", "false", "boolean", "string", "number", "sequence", "mapping")
GONE = object()
"""A value that is missing."""


class Piece(NamedTuple):
    """A part of a condition: what it is, and its parts."""

    kind: str
    parts: tuple[Any, ...]


def written(piece: Piece) -> str:
    """The text of a condition."""
    kind, parts = piece
    if kind == "path":
        return str(parts[0])
    if kind == "constant":
        return _literal(parts[0])
    if kind == "list":
        return f"[{', '.join(map(written, parts))}]"
    if kind in ("and", "or"):
        return f"({f' {kind} '.join(map(written, parts))})"
    if kind == "not":
        return f"(not {written(parts[0])})"
    if kind == "test":
        return f"({written(parts[0])} is {parts[1]})"
    if kind == "affix":
        return f"({written(parts[0])} is {parts[1]} {_literal(parts[2])})"
    if kind == "default":
        return f"({written(parts[0])} | default({written(parts[1])}))"
    return f"({written(parts[0])} {kind} {written(parts[1])})"


def _literal(value: Any) -> str:
    return "none" if value is None else json.dumps(value)


def value_of(piece: Piece, event: dict[str, Any], source: str) -> Any:
    """What a part is worth, as docs/routes.md says: written again, and simply."""
    kind, parts = piece
    if kind == "constant":
        return parts[0]
    if kind == "path":
        value: Any = {**event, "source": source}
        for name in parts[0].split("."):
            value = value.get(name, GONE) if isinstance(value, dict) else GONE
        return value
    if kind in ("and", "or"):
        return (all if kind == "and" else any)(_true(value_of(part, event, source)) for part in parts)
    if kind == "not":
        return not _true(value_of(parts[0], event, source))
    if kind == "list":
        return [value_of(part, event, source) for part in parts]
    value = value_of(parts[0], event, source)
    if kind == "default":
        return value_of(parts[1], event, source) if value is GONE else value
    if kind == "affix":
        return isinstance(value, str) and getattr(value, parts[1])(parts[2])
    if kind == "test":
        wanted = {"undefined": GONE, "none": None, "true": True, "false": False}
        if parts[1] in wanted:
            return value is wanted[parts[1]]
        return (_kind(value) != "") if parts[1] == "defined" else _kind(value) == parts[1]
    other = value_of(parts[1], event, source)
    if value is GONE or other is GONE:
        return False
    if kind in ("in", "not in"):
        return _within(value, other, kind == "not in")
    alike = _kind(value) == _kind(other)
    if kind == "==":
        return _same(value, other)
    if kind == "!=":
        return not _same(value, other) and (alike or value is None or other is None)
    if not alike or _kind(value) not in ("number", "string"):
        return False
    return {"<": value < other, "<=": value <= other, ">": value > other, ">=": value >= other}[kind]


def _within(value: Any, container: Any, negative: bool) -> bool:
    if isinstance(container, list):
        return any(item is not GONE and _same(value, item) for item in container) != negative
    if isinstance(container, str | dict) and isinstance(value, str):
        return (value in container) != negative
    return False


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return {str: "string", list: "sequence", dict: "mapping", type(None): "none"}.get(type(value), "")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return _kind(one) == _kind(other) and one == other


def _true(value: Any) -> bool:
    return value is not GONE and bool(value)


def holds(piece: Piece, event: StoredEvent) -> bool:
    """Whether a condition holds."""
    return _true(value_of(piece, event.event, event.source))


def _made(kind: str, *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Piece]:
    return st.tuples(*parts).map(lambda found: Piece(kind, found))


def _several(kind: str, parts: st.SearchStrategy[Any], least: int) -> st.SearchStrategy[Piece]:
    return st.lists(parts, min_size=least, max_size=3).map(lambda found: Piece(kind, tuple(found)))


def _mixes(piece: Piece) -> bool:
    """Whether it compares `source`, which is text, with a number or a truth value: that is refused."""
    if piece.kind in ("test", "affix", "default", "path", "constant"):
        return False
    one, other = piece.parts
    pairs = [(one, other), (other, one)]
    if piece.kind in ("in", "not in"):
        value = other.parts[0] if other.kind == "constant" else None
        items = [Piece("constant", (item,)) for item in value] if isinstance(value, list) else other.parts
        pairs = [(one, item) for item in items if isinstance(item, Piece)]
    return any(
        left == Piece("path", ("source",)) and right.kind == "constant" and type(right.parts[0]) in (bool, int, float)
        for left, right in pairs
    )


KINDS = st.sampled_from(EVENT_TYPES)
_constants = _made("constant", _values)
_paths = _made("path", st.sampled_from([path for path in PATHS if path != "type"]))
_operands = _paths | _constants | _made("default", _paths, _constants)
_orders = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
_atoms = (
    _made("==", _paths, _constants)
    | _made("==", _made("path", st.just("type")), _made("constant", KINDS))
    | _made("!=", _made("path", st.just("type")), _made("constant", KINDS))
    | _made("in", _made("path", st.just("type")), _several("list", _made("constant", KINDS), 1))
    | _orders.flatmap(lambda order: _made(order, _operands, _operands))
    | st.sampled_from(["in", "not in"]).flatmap(
        lambda word: _made(word, _operands, _operands | _several("list", _operands, 0))
    )
    | _made("test", _paths, st.sampled_from(TESTS))
    | _made("affix", _paths, st.sampled_from(["startswith", "endswith"]), st.sampled_from(["", "a", "ab", "b"]))
    | _operands
).filter(lambda piece: not _mixes(piece))


def joins(piece: Piece) -> bool:
    """Whether `and` and `or` take it: texts and numbers by themselves are refused."""
    return piece.kind != "constant" or type(piece.parts[0]) not in (str, int, float)


conditions: st.SearchStrategy[Piece] = st.recursive(
    _atoms,
    lambda inner: (
        _made("not", inner) | _several("and", inner.filter(joins), 2) | _several("or", inner.filter(joins), 2)
    ),
    max_leaves=6,
)

_fields = dict.fromkeys(("n", "vip", "plan", "deep"), _values)
_properties = st.fixed_dictionaries({}, optional=_fields) | st.fixed_dictionaries(
    {"deep": st.fixed_dictionaries({}, optional={"er": _values})}, optional={"n": _fields["n"]}
)
events: st.SearchStrategy[StoredEvent] = st.builds(
    StoredEvent,
    st.sampled_from(SOURCES),
    st.fixed_dictionaries(
        {"type": KINDS, "messageId": st.just("m"), "anonymousId": st.just("a")},
        optional={"event": _values, "name": _values, "properties": _properties},
    ),
)
