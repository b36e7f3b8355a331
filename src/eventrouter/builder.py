"""Builds JSON structures out of templates: the statements of one Python function for a whole `set` or `map`."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from .codegen import locate
from .compiler import Compiler


class Builder:
    """Collects the statements that build a structure. The line number of each is its field's, to name it in errors.

    `template` makes the code of one text.
    """

    def __init__(self, compiler: Compiler, template: Callable[[Compiler, str], ast.expr]) -> None:
        self.compiler = compiler
        self.template = template
        self.body: list[ast.stmt] = []
        self.labels: list[str] = []

    def add(self, statement: ast.stmt) -> None:
        """Appends a statement of the field at hand."""
        locate(statement, max(1, len(self.labels)))
        self.body.append(statement)

    def stored(self, value: ast.expr) -> ast.expr:
        """The value in a local of its own, computed at this place."""
        if isinstance(value, (ast.Constant, ast.Name)):
            return value
        name = self.compiler.temporary()
        self.add(ast.Assign(targets=[ast.Name(id=name, ctx=ast.Store())], value=value))
        return ast.Name(id=name, ctx=ast.Load())

    def value(self, structure: Any, label: str) -> ast.expr:
        """The code for a JSON value whose texts are templates."""
        if isinstance(structure, str):
            self.labels.append(label)
            return self.stored(self.template(self.compiler, structure))
        if isinstance(structure, Mapping):
            target = self.stored(ast.Dict(keys=[], values=[]))
            for key, inner in structure.items():
                slot = ast.Subscript(value=target, slice=ast.Constant(key), ctx=ast.Store())
                code = self.value(inner, f"{label}.{key}" if label else str(key))
                self._unless_missing(code, ast.Assign(targets=[slot], value=code))
            return target
        if isinstance(structure, (list, tuple)):
            target = self.stored(ast.List(elts=[], ctx=ast.Load()))
            for position, inner in enumerate(structure):
                code = self.value(inner, f"{label}[{position}]")
                append = ast.Attribute(value=target, attr="append", ctx=ast.Load())
                self._unless_missing(code, ast.Expr(ast.Call(func=append, args=[code], keywords=[])))
            return target
        return ast.Constant(structure)

    def _unless_missing(self, code: ast.expr, then: ast.stmt) -> None:
        if isinstance(code, ast.Constant):
            self.add(then)
            return
        missing = ast.Name(id="M", ctx=ast.Load())
        self.add(ast.If(test=ast.Compare(left=code, ops=[ast.IsNot()], comparators=[missing]), body=[then], orelse=[]))
