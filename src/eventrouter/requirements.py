"""What a condition requires of an event before all else: the ground for finding routes without trying each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Path = tuple[str, ...]
Required = dict[Path, frozenset[Any]]
"""By the path of a value (`("type",)`, `("properties", "plan")`): the constants of which it must equal one.

true and false are never among them: Python takes them for 1 and 0.
"""


def path_of(node: Any) -> Path | None:
    """The path that a node reads; None for anything else."""
    kind = type(node).__name__
    if kind == "Name":
        return (node.name,)
    if kind == "Getattr":
        inner, key = path_of(node.node), node.attr
    elif kind == "Getitem" and type(node.arg).__name__ == "Const" and isinstance(node.arg.value, str):
        inner, key = path_of(node.node), node.arg.value
    else:
        return None
    return (*inner, key) if inner else None


def paths_read(node: Any) -> Iterator[Path]:
    """Every path that is read in `node`, in order; of `properties.plan` not `properties` too."""
    path = path_of(node)
    if path is not None:
        yield path
        return
    for child in node.iter_child_nodes():
        yield from paths_read(child)


def required(node: Any, depth: int = 0) -> Required:
    """What must hold for `node` to be true; empty when nothing simple must."""
    kind = type(node).__name__
    if depth > 100:
        return {}
    if kind == "And":
        left, right = required(node.left, depth + 1), required(node.right, depth + 1)
        both = {path: left[path] & right[path] for path in left.keys() & right.keys()}
        return {**left, **right, **both}
    if kind == "Or":
        left, right = required(node.left, depth + 1), required(node.right, depth + 1)
        return {path: left[path] | right[path] for path in left.keys() & right.keys()}
    if kind == "Compare" and len(node.ops) == 1:
        return _compared(node.expr, node.ops[0].op, node.ops[0].expr)
    return {}


def _compared(left: Any, op: str, right: Any) -> Required:
    if op == "eq":
        return _one_of(left, [right]) or _one_of(right, [left])
    return _one_of(left, right.items) if op == "in" and type(right).__name__ in ("List", "Tuple") else {}


def _one_of(node: Any, options: list[Any]) -> Required:
    path = path_of(node)
    constants = [one.value for one in options if type(one).__name__ == "Const" and not isinstance(one.value, bool)]
    return {path: frozenset(constants)} if path and len(constants) == len(options) else {}
