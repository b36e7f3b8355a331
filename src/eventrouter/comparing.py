"""Comparisons and membership in generated code; what compares `type` with something that no event has is a fault."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from .codegen import Code, assigned, encodable, load
from .events import EVENT_TYPES
from .operators import Operators
from .values import kind

TEXTS = frozenset({
    "type", "messageId", "anonymousId", "userId", "timestamp", "receivedAt", "source", "person_id",
})  # fmt: skip
"""The roots that are text wherever they are there; `event` of a page may be anything."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in an expression: where (an offset from 0), what (a verb phrase), what to do."""

    offset: int
    message: str
    hint: str = ""


class Comparisons(Code, ABC):
    """Makes comparisons; what is wrong is collected in `faults`. `roots` are the names that expressions begin with."""

    def __init__(self, operators: Operators, roots: Sequence[str]) -> None:
        super().__init__(operators)
        self.faults: list[Fault] = []
        self.roots = roots

    def fault(self, node: Any, message: str, hint: str = "") -> ast.expr:
        """Notes a fault at `node`; the returned expression is never run."""
        self.faults.append(Fault(node.lineno, message, hint))
        return load("M")

    @abstractmethod
    def expression(self, node: Any) -> ast.expr:
        """The Python expression for `node`, which may be no comparison."""

    def _compare(self, node: Any) -> ast.expr:
        left, results = node.expr, []
        for operand in node.ops:  # a < b < c is a < b and b < c
            if operand.op in ("in", "notin"):
                results.append(self._membership(left, operand.expr, operand.op == "in"))
            else:
                results.append(self._comparison(operand.op, left, operand.expr))
            left = operand.expr
        return results[0] if len(results) == 1 else ast.BoolOp(op=ast.And(), values=results)

    def _comparison(self, op: str, left: Any, right: Any) -> ast.expr:
        left_code, right_code = self.expression(left), self.expression(right)
        if op in ("eq", "ne"):
            self._check_type(left, right)
            self._check_type(right, left)
        self._check_text(left, right, right_code)
        self._check_text(right, left, left_code)
        texts = sum(_is_text(side) for side in (left, right))
        event = any(type(side).__name__ == "Name" and side.name == "event" for side in (left, right))
        if (op in ("eq", "ne") and texts == 2) or (op == "eq" and texts and event):
            # Nothing but text equals text, and MISSING compares as it should by itself.
            return ast.Compare(left=left_code, ops=[ast.Eq() if op == "eq" else ast.NotEq()], comparators=[right_code])
        return self.call(op, left_code, right_code)

    def _membership(self, left: Any, container: Any, positive: bool) -> ast.expr:
        item = self.expression(left)
        if type(container).__name__ not in ("List", "Tuple"):
            return self.call("contains" if positive else "lacks", item, self.expression(container))
        for part in container.items:
            self._check_type(left, part)
        items = ast.Tuple(elts=[self.expression(part) for part in container.items], ctx=ast.Load())
        for part, code in zip(container.items, items.elts, strict=True):
            self._check_text(left, part, code)
        if not all(_is_text(part) for part in container.items):
            return self.call("contains" if positive else "lacks", item, items)
        name = self.temporary()
        there = ast.Compare(left=assigned(name, item), ops=[ast.IsNot()], comparators=[load("M")])
        found = ast.Compare(left=load(name), ops=[ast.In() if positive else ast.NotIn()], comparators=[items])
        return ast.BoolOp(op=ast.And(), values=[there, found])

    def _check_type(self, one: Any, other: Any) -> None:
        """Notes that `type` is compared with what no event has there."""
        if type(one).__name__ != "Name" or one.name != "type" or type(other).__name__ != "Const":
            return
        value = other.value
        if value not in EVENT_TYPES and "type" in self.roots:
            shown = f"`{value}`" if isinstance(value, str) and encodable(value) else kind(value)
            near = get_close_matches(shown, EVENT_TYPES, 1, 0.6)
            hint = f"did you mean `{near[0]}`?" if near else f"the types are {', '.join(EVENT_TYPES)}"
            self.fault(other, f"compares `type` with {shown}, which is no type of event", hint)

    def _check_text(self, one: Any, other: Any, code: ast.expr) -> None:
        """Notes that what is always text is compared with a number, or with true or false, which is never true."""
        if type(one).__name__ != "Name" or one.name not in TEXTS.intersection(self.roots) or one.name == "type":
            return
        if isinstance(code, ast.Constant) and type(code.value) in (int, float, bool):
            shown = str(code.value).lower() if type(code.value) is bool else str(code.value)
            hint = f'put quotes around it: "{shown}"'
            self.fault(other, f"compares `{one.name}`, which is text, with {kind(code.value)}", hint)


def _is_text(node: Any) -> bool:
    """Whether a node is text wherever there is a value."""
    what = type(node).__name__
    return (what == "Const" and isinstance(node.value, str)) or (what == "Name" and node.name in TEXTS)
