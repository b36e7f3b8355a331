"""Turns the syntax tree of an expression into a Python function that can do nothing but read JSON values.

The generated code holds no attribute access to a value, no import, no built-in and no text of the user's other than as
a constant: it calls `.get` on exact dicts, and the functions of `values`, `operators` and `filters`. So there is
nothing to escape from.
The tree comes from Jinja's parser, with the offset of each node in its text as its line number.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from . import values
from .codegen import assigned, chain, encodable, get_from, load
from .comparing import Comparisons
from .filters import FILTERS, NULLABLE, TESTS
from .operators import Operators, checked_filter
from .values import TemplateError

ROOTS = (
    "type", "event", "messageId", "anonymousId", "userId", "groupId", "previousId", "name", "category", "properties",
    "traits", "context", "integrations", "timestamp", "receivedAt", "sentAt", "originalTimestamp", "version", "channel",
    "source", "person_id",
)  # fmt: skip
"""The names that an expression may start with: the event's keys, the name of its source, its person."""

MAX_DEPTH = 50
"""How deep an expression may be nested: so much that parser and compiler manage it wherever they are called from."""

_ARITHMETIC = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "FloorDiv": "floordiv", "Mod": "mod"}
_SYMBOLS = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "/", "FloorDiv": "//", "Mod": "%"}
_INSTEAD = {
    "startswith": 'write `… is startswith "…"`',
    "endswith": 'write `… is endswith "…"`',
    "get": "write `properties.key`: a missing value does no harm",
    "range": "there are no loops",
}


class Compiler(Comparisons):
    """Makes Python expressions from the nodes of one text; what is wrong is collected in `faults`."""

    def __init__(
        self, operators: Operators, filters: Mapping[str, Callable[..., Any]], roots: Sequence[str] = ROOTS
    ) -> None:
        super().__init__(operators, roots)
        self.filters = filters
        self._depth = 0
        self._fold = Operators(strict=True)

    def expression(self, node: Any) -> ast.expr:
        """The Python expression for `node`."""
        if self._depth >= MAX_DEPTH:
            return self.fault(node, "is nested too deeply", "split it into several routes or fields")
        self._depth += 1
        try:
            visit = getattr(self, f"_{type(node).__name__.lower()}", None)
            name = type(node).__name__
            if name in _ARITHMETIC:
                return self._arithmetic(node, name)
            return visit(node) if visit else self.fault(node, "uses something that expressions do not have")
        finally:
            self._depth -= 1

    def _const(self, node: Any) -> ast.expr:
        if isinstance(node.value, str) and not encodable(node.value):
            return self.fault(node, "has a text that is not valid Unicode")
        if isinstance(node.value, (int, float)):
            try:
                values.bounded_number(node.value)
            except TemplateError as error:
                return self.fault(node, str(error))
        return ast.Constant(node.value)

    def _templatedata(self, node: Any) -> ast.expr:
        return ast.Constant(node.data)

    def _name(self, node: Any) -> ast.expr:
        roots = self.roots
        if node.name in roots:
            return load("source") if node.name == "source" else get_from(load("event"), node.name)
        if node.name in ("null", "nil", "undefined"):
            return self.fault(node, f"uses the unknown name `{node.name}`", "write `none`, or `is not defined`")
        near = get_close_matches(node.name, roots, 1, 0.6)
        hint = f"did you mean `{near[0]}`?" if near else f"a text needs quotes; the names are {', '.join(roots)}"
        if not near and node.name.isidentifier():
            within = [f"`{root}.{node.name}`" for root in ("properties", "traits", "body") if root in roots]
            hint = f"write {' or '.join(within)}; a text needs quotes"
        return self.fault(node, f"uses the unknown name `{node.name}`", hint)

    def _getattr(self, node: Any) -> ast.expr:
        return self._key(self.expression(node.node), node.attr)

    def _getitem(self, node: Any) -> ast.expr:
        value, arg = self.expression(node.node), node.arg
        if type(arg).__name__ == "Slice":
            if arg.step is not None:
                return self.fault(node, "cuts with a step", "write [start:stop]")
            ends = [ast.Constant(None) if end is None else self.expression(end) for end in (arg.start, arg.stop)]
            return self.call("cut", value, *ends)
        if type(arg).__name__ == "Const" and isinstance(arg.value, str):
            return self._key(value, arg.value)
        return self.call("get", value, self.expression(arg))

    def _key(self, value: ast.expr, key: str) -> ast.expr:
        name = self.temporary()
        return ast.IfExp(
            test=ast.Compare(
                left=ast.Call(func=load("type"), args=[assigned(name, value)], keywords=[]),
                ops=[ast.Is()],
                comparators=[load("dict")],
            ),
            body=get_from(load(name), key),
            orelse=load("M"),
        )

    def _arithmetic(self, node: Any, name: str) -> ast.expr:
        if name == "Sub" and (hint := self._dash(node)):
            return self.fault(node.right, "subtracts a name from a value", hint)
        left, right = self.expression(node.left), self.expression(node.right)
        return self._folded(node, _ARITHMETIC[name], left, right)

    def _dash(self, node: Any) -> str:
        """What to write instead of `properties.first-name`, which subtracts `name`; empty for what may have a sense."""
        left, right, rest = node.left, node.right, ""
        while type(right).__name__ == "Getattr":
            right, rest = right.node, f".{right.attr}{rest}"
        if type(left).__name__ != "Getattr" or type(right).__name__ != "Name":
            return ""
        whole = right.name in self.roots and (rest or right.name == "version")
        return "" if whole else f'a key with a dash is written ["{left.attr}-{right.name}"]{rest}'

    def _neg(self, node: Any) -> ast.expr:
        return self._folded(node, "neg", self.expression(node.node))

    def _pos(self, node: Any) -> ast.expr:
        return self._folded(node, "pos", self.expression(node.node))

    def _pow(self, node: Any) -> ast.expr:
        return self.fault(node, "uses `**`, which expressions do not have", "multiply instead")

    def _folded(self, node: Any, operator: str, *operands: ast.expr) -> ast.expr:
        """A call of an arithmetic operator; computed now where all operands are known."""
        known = [operand.value for operand in operands if isinstance(operand, ast.Constant)]
        symbol = _SYMBOLS.get(type(node).__name__, "-")
        for value in known:
            if type(value) not in (int, float) and not (symbol == "+" and type(value) is str):
                hint = "join texts with ~" if type(value) is str else ""
                return self.fault(node, f"uses `{symbol}` on {values.kind(value)}", hint)
        if len(known) < len(operands):
            return self.call(operator, *operands)
        try:
            return ast.Constant(getattr(self._fold, operator)(*known))
        except TemplateError as error:
            return self.fault(node, str(error))

    def _concat(self, node: Any) -> ast.expr:
        return self.call("join_text", *[self.expression(part) for part in node.nodes])

    def check_operands(self, node: Any) -> None:
        """Notes texts and numbers that `and` or `or` join to a condition: `event == "A" or "B"` is always true."""
        what = type(node).__name__
        if what == "Not":
            self.check_operands(node.node)
        if what not in ("And", "Or"):
            return
        parts = list(chain(node))
        for part in parts:
            if type(part).__name__ == "Const" and type(part.value) in (str, int, float):
                word = what.lower()
                hint = "compare it, too, or write `event in ['A', 'B']`" if what == "Or" else "compare it, too"
                self.fault(part, f"joins {values.kind(part.value)} by `{word}`, which compares it with nothing", hint)
            self.check_operands(part)

    def _and(self, node: Any) -> ast.expr:
        return ast.BoolOp(op=ast.And(), values=[self.expression(part) for part in chain(node)])

    def _or(self, node: Any) -> ast.expr:
        return ast.BoolOp(op=ast.Or(), values=[self.expression(part) for part in chain(node)])

    def _not(self, node: Any) -> ast.expr:
        return ast.UnaryOp(op=ast.Not(), operand=self.expression(node.node))

    def _condexpr(self, node: Any) -> ast.expr:
        return ast.IfExp(
            test=self.expression(node.test),
            body=self.expression(node.expr1),
            orelse=load("M") if node.expr2 is None else self.expression(node.expr2),
        )

    def _list(self, node: Any) -> ast.expr:
        return self.call("make_list", *[self.expression(item) for item in node.items])

    _tuple = _list

    def _dict(self, node: Any) -> ast.expr:
        keys: list[str] = []
        for pair in node.items:
            if type(pair.key).__name__ != "Const" or not isinstance(pair.key.value, str):
                return self.fault(pair, "has an object whose key is not a quoted text")
            keys.append(pair.key.value)
        constant = ast.Tuple(elts=[ast.Constant(key) for key in keys], ctx=ast.Load())
        return self.call("make_object", constant, *[self.expression(pair.value) for pair in node.items])

    def _call(self, node: Any) -> ast.expr:
        target = node.node
        name = getattr(target, "attr", None) or getattr(target, "name", None) or "it"
        hint = _INSTEAD.get(name, "")
        if not hint and name in {**FILTERS, **self.filters, "default": None}:
            hint = f"it is a filter: write `… | {name}`"
        return self.fault(target, f"calls `{name}(…)`, but there are no functions", hint or "use filters: `… | lower`")

    def _filter(self, node: Any) -> ast.expr:
        if node.node is None or node.dyn_args is not None or node.dyn_kwargs is not None:
            return self.fault(node, "uses * or **, which expressions do not have")
        value = self.expression(node.node)
        args = [self.expression(arg) for arg in node.args]
        keywords = {pair.key: self.expression(pair.value) for pair in node.kwargs}
        if node.name in ("default", "d"):
            return self._default(node, value, args, keywords)
        function = FILTERS.get(node.name) or self.filters.get(node.name)
        if function is None:
            near = get_close_matches(node.name, [*FILTERS, *self.filters, "default"], 1, 0.6)
            hint = (
                f"did you mean `{near[0]}`?" if near else f"the filters are {', '.join(sorted([*FILTERS, 'default']))}"
            )
            return self.fault(node, f"uses the unknown filter `{node.name}`", hint)
        try:
            inspect.signature(function).bind(None, *args, **keywords)
        except TypeError as error:
            return self.fault(node, f"gives the filter `{node.name}` wrong arguments", str(error))
        except ValueError:  # some functions written in C don't tell their signature
            pass
        key = f"filter_{node.name}"
        own = node.name not in FILTERS
        if key not in self.namespace:
            checked = checked_filter(function) if own else function
            weigh = values.weight if own else len
            self.namespace[key] = self.operators.call(node.name, checked, node.name in NULLABLE or own, weigh)
            self.makes = True
        call = ast.Call(func=load(key), args=[value, *args], keywords=[ast.keyword(k, v) for k, v in keywords.items()])
        return call if own else self._folded_filter(node, function, call)

    def _folded_filter(self, node: Any, function: Callable[..., Any], call: ast.Call) -> ast.expr:
        """The call itself, after a trial with its operands where all are known, so that a sure failure shows early."""
        operands = [*call.args, *[keyword.value for keyword in call.keywords]]
        if not all(isinstance(operand, ast.Constant) for operand in operands):
            return call
        known = [operand.value for operand in call.args if isinstance(operand, ast.Constant)]
        named = {str(k.arg): k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
        try:
            result = self._fold.call(node.name, function, node.name in NULLABLE)(*known, **named)
        except TemplateError as error:
            return self.fault(node, f"can never work: {error}")
        return ast.Constant(result) if type(result) in (str, int, float, bool) else call

    def _default(self, node: Any, value: ast.expr, args: list[ast.expr], keywords: dict[str, ast.expr]) -> ast.expr:
        other = args[0] if args else keywords.pop("default_value", ast.Constant(""))
        falsy = args[1] if len(args) > 1 else keywords.pop("boolean", ast.Constant(False))
        if keywords or len(args) > 2 or not isinstance(falsy, ast.Constant):
            return self.fault(node, "gives the filter `default` wrong arguments", "write `default(value)`")
        if falsy.value:
            return ast.BoolOp(op=ast.Or(), values=[value, other])
        name = self.temporary()
        test = ast.Compare(left=assigned(name, value), ops=[ast.IsNot()], comparators=[load("M")])
        return ast.IfExp(test=test, body=load(name), orelse=other)

    def _test(self, node: Any) -> ast.expr:
        value = self.expression(node.node)
        args = [self.expression(arg) for arg in node.args]
        if node.name not in TESTS:
            near = get_close_matches(node.name, TESTS, 1, 0.6)
            hint = f"did you mean `is {near[0]}`?" if near else f"the tests are {', '.join(sorted(TESTS))}"
            if node.name == "in":
                hint = "write `in`, or `not in`, without `is`"
            return self.fault(node, f"uses the unknown test `is {node.name}`", hint)
        test, count = TESTS[node.name]
        if node.kwargs or node.dyn_args is not None or node.dyn_kwargs is not None or len(args) != count:
            return self.fault(node, f"gives the test `is {node.name}` wrong arguments", f"it takes {count}")
        self.namespace[f"test_{node.name}"] = test
        return ast.Call(func=load(f"test_{node.name}"), args=[value, *args], keywords=[])
