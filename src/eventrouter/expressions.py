"""Conditions and templates of routes.yaml, compiled once: Jinja's syntax, a smaller and stricter language.

A condition is a bare expression (`event == "Signed Up" and properties.plan != "free"`). A template is a text with
expressions in `{{ }}`; there are no statements (`{% %}`), loops, macros or calls. What they mean: docs/routes.md.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from .builder import Builder
from .codegen import locate
from .comparing import Fault
from .compiler import ROOTS, Compiler
from .events import Event
from .operators import Operators
from .requirements import Path, Required, paths_read, required
from .syntax import ExpressionError, Node, parse_condition, parse_template
from .values import MISSING, TemplateError
from .variables import Variables

__all__ = ["MISSING", "Condition", "ExpressionError", "Expressions", "Fault", "Template", "TemplateError"]

MAX_TEMPLATES = 1_000
"""The most texts that one `set` or `map` may hold."""


class Condition:
    """A compiled condition: `condition(event, source)` is true or false, or raises `TemplateError`.

    `test` is the bare function for the hot path: truthy or falsy, and `reason(error)` says why it raised.
    `constant` is its value when it does not depend on the event; `same` is equal for two ways to write one condition.
    `tree` is its syntax, with variables filled in.
    """

    def __init__(
        self,
        text: str,
        tree: Node,
        make: Callable[[], Callable[[Event, str], Any]],
        constant: bool | None,
        same: str,
    ) -> None:
        self.text = text
        self.tree = tree
        self.required: Required = required(tree)
        self.constant = constant
        self.same = same
        self._make = make

    @cached_property
    def test(self) -> Callable[[Event, str], Any]:
        """The compiled function, made when it is first asked for: `check` needs none."""
        made = self._make()
        del self._make  # it holds all that the function was made of
        return made

    def __call__(self, event: Event, source: str) -> bool:
        try:
            return bool(self.test(event, source))
        except Exception as error:
            raise TemplateError(f"`when` {reason(error)}") from error


class Template:
    """Compiled templates in their structure: `template(event, source)` is a fresh value, or MISSING.

    Raises `TemplateError` that names the field at fault.
    """

    __slots__ = ("_fill", "_labels")

    def __init__(self, fill: Callable[[Event, str], Any], labels: list[str]) -> None:
        self._fill = fill
        self._labels = labels

    def __call__(self, event: Event, source: str) -> Any:
        try:
            return self._fill(event, source)
        except Exception as error:
            trace = error.__traceback__.tb_next if error.__traceback__ else None
            label = self._labels[trace.tb_lineno - 1] if trace and 0 < trace.tb_lineno <= len(self._labels) else ""
            raise TemplateError(f"`{label}` {reason(error)}" if label else reason(error)) from error


class Expressions:
    """Compiles conditions and templates.

    `mismatches` counts the comparisons and operations of conditions (and comparisons in templates) that met values of
    the wrong types.
    """

    def __init__(
        self,
        filters: Mapping[str, Callable[..., Any]] | None = None,
        roots: Sequence[str] = ROOTS,
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        """`filters` are the plugins'; `roots` the names that expressions may begin with; `variables` are `vars:`."""
        self._variables = Variables(variables)
        self._filters = dict(filters or {})
        self._roots = roots
        self._lenient = Operators(strict=False)
        self._strict = Operators(strict=True)

    @property
    def mismatches(self) -> int:
        """How often values of the wrong types met so far."""
        return self._lenient.mismatches + self._strict.mismatches

    def condition(self, text: str) -> Condition:
        """Compiles a condition. Raises `ExpressionError`."""
        compiler = Compiler(self._lenient, self._filters, self._roots)
        node = self._variables.fill(parse_condition(text))
        code = compiler.expression(node)
        compiler.check_operands(node)
        if compiler.faults:
            raise ExpressionError(compiler.faults)
        constant = bool(code.value) if isinstance(code, ast.Constant) else None
        result = ast.Return(value=code)
        locate(result, 1)
        try:
            same = ast.dump(code)
        except RecursionError:
            same = text
        return Condition(text, node, lambda: _compiled(compiler, [result]), constant, same)

    def check_template(self, text: str) -> None:
        """Raises `ExpressionError` where `text` is no valid template."""
        compiler = Compiler(self._strict, self._filters, self._roots)
        self._template_code(compiler, text)
        if compiler.faults:
            raise ExpressionError(compiler.faults)

    def reads(self, text: str) -> list[Path]:
        """The paths that a condition reads, each once. Raises `ExpressionError` where it is no valid condition."""
        return list(dict.fromkeys(paths_read(self._variables.fill(parse_condition(text)))))

    def _template_code(self, compiler: Compiler, text: str) -> ast.expr:
        """The code of one template; constant text stays as it is, a lone `{{ x }}` keeps the type of x."""
        return compiler.expression(self._variables.fill(parse_template(text)))

    def template(self, structure: Any, label: str = "") -> Template:
        """Compiles a JSON value whose texts are templates into one function that builds it.

        A key of an object or an item of a list whose template has a missing part is left out; a text that is missing
        itself makes MISSING. `label` names the whole in errors (`map`), with the path of the field at fault.
        """
        compiler = Compiler(self._strict, self._filters, self._roots)
        builder = Builder(compiler, self._template_code)
        result = builder.value(structure, label)
        return self._filled(compiler, builder, result)

    def same(self, structure: Any) -> str:
        """What is equal for two ways to write one structure of templates. Raises `ExpressionError`."""
        compiler = Compiler(self._strict, self._filters, self._roots)
        builder = Builder(compiler, self._template_code)
        result = builder.value(structure, "")
        return ast.dump(ast.Module([*builder.body, ast.Expr(result)], []))

    def fields(self, templates: Mapping[str, Any], label: str = "") -> Template:
        """Compiles several values into one function that returns them as a list, MISSING where one has a missing part.

        `label` and the key name the field at fault in errors (`set properties.total`).
        """
        compiler = Compiler(self._strict, self._filters, self._roots)
        builder = Builder(compiler, self._template_code)
        values = [builder.value(value, f"{label} {key}".strip()) for key, value in templates.items()]
        names = [builder.stored(value) for value in values]
        return self._filled(compiler, builder, ast.List(elts=names, ctx=ast.Load()))

    def _filled(self, compiler: Compiler, builder: Builder, result: ast.expr) -> Template:
        if compiler.faults:
            raise ExpressionError(compiler.faults)
        if len(builder.labels) > MAX_TEMPLATES:
            raise ExpressionError([Fault(0, f"has more than {MAX_TEMPLATES:,} texts", "make it smaller")])
        builder.add(ast.Return(value=result))
        return Template(_compiled(compiler, builder.body), builder.labels)


def reason(error: Exception) -> str:
    """Why a condition or a template failed at run time, in words and without values."""
    if isinstance(error, TemplateError):
        return str(error)
    if isinstance(error, RecursionError):
        return "met values that are nested too deeply"
    return f"failed with {type(error).__name__}"


def _compiled(compiler: Compiler, body: list[ast.stmt]) -> Callable[[Event, str], Any]:
    try:
        return compiler.function(body)
    except (RecursionError, MemoryError, SyntaxError):
        raise ExpressionError([Fault(0, "is too large", "split it into several routes or fields")]) from None
