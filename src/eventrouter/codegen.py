"""Parts of generated Python code, made from nodes of `ast`: a text of the user's is only ever a constant in it."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from . import values
from .operators import Operators

_MAKING = frozenset({"add", "cut", "make_list", "make_object", "join_text"})


class Code:
    """Makes one function: its namespace, its local names. Only what stands in the namespace can be reached by it."""

    def __init__(self, operators: Operators) -> None:
        self.operators = operators
        self.namespace: dict[str, Any] = {
            "__builtins__": {}, "M": values.MISSING, "type": type, "dict": dict, "get": values.get,
        }  # fmt: skip
        self.makes = False
        """Whether the code makes texts or lists, which are counted; code that only reads needs no counter."""
        self._temporaries = 0

    def temporary(self) -> str:
        """A fresh local name."""
        self._temporaries += 1
        return f"t{self._temporaries}"

    def call(self, name: str, *args: ast.expr) -> ast.expr:
        """A call of one of our functions, by the name that the namespace has for it."""
        if name not in self.namespace:
            self.namespace[name] = getattr(self.operators, name)
            self.makes = self.makes or name in _MAKING
        return ast.Call(func=load(name), args=list(args), keywords=[])

    def function(self, body: list[ast.stmt]) -> Callable[..., Any]:
        """A function of (event, source) with this body, whose nodes have their places (see `locate`)."""
        if self.makes:
            begin = ast.Expr(self.call("begin"))
            locate(begin, 1)
            body = [begin, *body]
        module = ast.parse("def compiled(event, source):\n    pass")
        definition = module.body[0]
        assert isinstance(definition, ast.FunctionDef)
        definition.body = body
        exec(compile(module, "<routes>", "exec"), self.namespace)
        compiled: Callable[..., Any] = self.namespace.pop("compiled")
        return compiled


def locate(node: ast.AST, line: int) -> None:
    """Gives all nodes in `node` that have no place yet this line number, which a traceback will show."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        fields = one.__dict__
        for value in list(fields.values()):
            if isinstance(value, ast.AST):
                waiting.append(value)
            elif isinstance(value, list):
                waiting.extend(item for item in value if isinstance(item, ast.AST))
        fields.setdefault("lineno", line)
        fields.setdefault("end_lineno", line)
        fields.setdefault("col_offset", 0)
        fields.setdefault("end_col_offset", 0)


def load(name: str) -> ast.Name:
    """A local or a name of the namespace, read."""
    return ast.Name(id=name, ctx=ast.Load())


def assigned(name: str, value: ast.expr) -> ast.expr:
    """`(name := value)`."""
    return ast.NamedExpr(target=ast.Name(id=name, ctx=ast.Store()), value=value)


def get_from(target: ast.expr, key: str) -> ast.expr:
    """`target.get(key, MISSING)`; the caller makes sure that the target is a dict."""
    get = ast.Attribute(value=target, attr="get", ctx=ast.Load())
    return ast.Call(func=get, args=[ast.Constant(key), load("M")], keywords=[])


def chain(node: Any) -> list[Any]:
    """The parts of `a and b and c`, which the parser nests to the left."""
    parts: list[Any] = []
    kind = type(node)
    while type(node) is kind:
        parts.append(node.right)
        node = node.left
    return [node, *reversed(parts)]


def encodable(text: str) -> bool:
    """Whether the text can be sent at all: no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
