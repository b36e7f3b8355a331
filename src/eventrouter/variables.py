"""The `vars:` of routes.yaml: values and expressions with a name, put where a text says `vars.name`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from .comparing import Fault
from .syntax import ExpressionError, Node, parse_value, replace, size
from .values import weight

ROOT = "vars"
MAX_FILLED = 1_000
"""How often variables may be put into one text, those within variables included."""
MAX_NODES = 20_000
"""How many nodes all that is put into one text may have: a list of values has one for each."""


class UnknownVariableError(ExpressionError):
    """A text names a variable that there is not."""


class Variables:
    """Puts variables into the trees of conditions and templates, before these are compiled: they cost no time then."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        """`values` are JSON values whose texts are templates; None: there is no such thing as a variable."""
        self._values = values

    def fill(self, tree: Node) -> Node:
        """`tree` with the variables that it names. Raises `ExpressionError` at the place of one that can't be put."""
        if self._values is None:
            return tree
        try:
            return _Filling(self._values).fill(tree, ())
        except RecursionError:
            raise ExpressionError(
                [Fault(0, "is nested too deeply", "split it into several routes or fields")]
            ) from None


class _Filling:
    """The variables of one text on their way into it."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._left = MAX_FILLED
        self._nodes_left = MAX_NODES

    def fill(self, tree: Node, within: tuple[str, ...]) -> Node:
        """`within` are the variables that are being put in."""
        filled: Node = replace(tree, lambda node: self._found(node, within))
        return filled

    def _found(self, node: Any, within: tuple[str, ...]) -> Node | None:
        if type(node).__name__ == "Name" and node.name == ROOT:
            raise _fault(node, f"names no variable: write `{ROOT}.name`", self._known())
        path = _path(node)
        if path is None:
            return None
        node, (name, *keys) = path
        if name not in self._values:
            near = get_close_matches(name, self._values, 1, 0.6)
            hint = f"did you mean `{ROOT}.{near[0]}`?" if near else self._known()
            raise UnknownVariableError([Fault(node.lineno, f"uses the unknown variable `{ROOT}.{name}`", hint)])
        if name in within:
            raise _fault(node, f"uses `{ROOT}.{name}`, which is made of itself", "take out one of the two")
        self._left -= 1
        if self._left < 0:
            raise _fault(node, f"uses more than {MAX_FILLED:,} variables", "make it smaller")
        value = self._values[name]
        for key in keys:
            if not isinstance(value, Mapping) or key not in value:
                raise _fault(node, f"reads `{key}` of `{ROOT}.{name}`, which has no such key", "")
            value = value[key]
        tree = parse_value(value, node.lineno)
        self._nodes_left -= size(tree) + weight(value) // 100  # comments make no nodes, and take time
        if self._nodes_left < 0:
            raise _fault(node, f"uses variables of more than {MAX_NODES:,} parts in all", "make it smaller")
        return self.fill(tree, (*within, name))

    def _known(self) -> str:
        names: Sequence[str] = sorted(self._values)
        return f"the variables are {', '.join(names)}" if names else "there are none: add `vars: { name: … }`"


def _path(node: Any) -> tuple[Any, list[str]] | None:
    """The node of `vars` and the keys behind it; None for anything else."""
    keys: list[str] = []
    while True:
        kind = type(node).__name__
        if kind == "Getattr":
            keys.append(node.attr)
        elif kind == "Getitem" and type(node.arg).__name__ == "Const" and isinstance(node.arg.value, str):
            keys.append(node.arg.value)
        else:
            return (node, keys[::-1]) if keys and kind == "Name" and node.name == ROOT else None
        node = node.node


def _fault(node: Any, message: str, hint: str) -> ExpressionError:
    return ExpressionError([Fault(node.lineno, message, hint)])
