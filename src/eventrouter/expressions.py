"""Conditions and templates of routes.yaml, compiled once: Jinja's syntax, a smaller and stricter language.

A condition is a bare expression (`event == "Signed Up" and properties.plan != "free"`). A template is a text with
expressions in `{{ }}`; there are no statements (`{% %}`), loops, macros or calls. What they mean: docs/routes.md.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.lexer import TokenStream
from jinja2.parser import Parser

from .builder import Builder
from .codegen import locate
from .compiler import ROOTS, Compiler, Fault
from .errors import EventRouterError
from .events import Event
from .operators import Operators
from .requirements import Path, Required, paths_read, required
from .values import MISSING, TemplateError

__all__ = ["MISSING", "Condition", "ExpressionError", "Expressions", "Fault", "Template", "TemplateError"]

MAX_LENGTH = 8_000
"""The most characters that a condition or a template may have."""
MAX_TEMPLATES = 1_000
"""The most texts that one `set` or `map` may hold."""

_environment = Environment(keep_trailing_newline=True)


class ExpressionError(EventRouterError):
    """A text is no valid condition or template; `faults` says all that is wrong with it."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(fault.message for fault in faults), hint=faults[0].hint)
        self.faults = faults


class Condition:
    """A compiled condition: `condition(event, source)` is true or false, or raises `TemplateError`.

    `test` is the bare function for the hot path: truthy or falsy, and `reason(error)` says why it raised.
    `constant` is its value when it does not depend on the event; `same` is equal for two ways to write one condition.
    """

    def __init__(
        self,
        text: str,
        make: Callable[[], Callable[[Event, str], Any]],
        required: Required,
        constant: bool | None,
        same: str,
    ) -> None:
        self.text = text
        self.required = required
        self.constant = constant
        self.same = same
        self._make = make

    @cached_property
    def test(self) -> Callable[[Event, str], Any]:
        """The compiled function, made when it is first asked for: `check` needs none."""
        return self._make()

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
    """Compiles conditions and templates. `filters` are the plugins', by name; `roots` the names that they begin with.

    `mismatches` counts the comparisons and operations of conditions (and comparisons in templates) that met values of
    the wrong types.
    """

    def __init__(self, filters: Mapping[str, Callable[..., Any]] | None = None, roots: Sequence[str] = ROOTS) -> None:
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
        node = _parse_condition(text)
        code = compiler.expression(node)
        if compiler.faults:
            raise ExpressionError(compiler.faults)
        constant = bool(code.value) if isinstance(code, ast.Constant) else None
        result = ast.Return(value=code)
        locate(result, 1)
        try:
            same = ast.dump(code)
        except RecursionError:
            same = text
        return Condition(text, lambda: _compiled(compiler, [result]), required(node), constant, same)

    def check_template(self, text: str) -> None:
        """Raises `ExpressionError` where `text` is no valid template."""
        compiler = Compiler(self._strict, self._filters, self._roots)
        _template_code(compiler, text)
        if compiler.faults:
            raise ExpressionError(compiler.faults)

    def template(self, structure: Any, label: str = "") -> Template:
        """Compiles a JSON value whose texts are templates into one function that builds it.

        A key of an object or an item of a list whose template has a missing part is left out; a text that is missing
        itself makes MISSING. `label` names the whole in errors (`map`), with the path of the field at fault.
        """
        compiler = Compiler(self._strict, self._filters, self._roots)
        builder = Builder(compiler, _template_code)
        result = builder.value(structure, label)
        return self._filled(compiler, builder, result)

    def fields(self, templates: Mapping[str, Any], label: str = "") -> Template:
        """Compiles several values into one function that returns them as a list, MISSING where one has a missing part.

        `label` and the key name the field at fault in errors (`set properties.total`).
        """
        compiler = Compiler(self._strict, self._filters, self._roots)
        builder = Builder(compiler, _template_code)
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


def words(text: str) -> list[tuple[int, str]]:
    """The words of a condition with their offsets: names, numbers, texts with their quotes, operators, brackets.

    Raises `ExpressionError` where it is no valid condition.
    """
    _parse_condition(text)
    return [(offset, word) for offset, _, word in _tokens(text, "variable") if not word.isspace()]


def reads(text: str) -> list[Path]:
    """The paths that a condition reads, each once. Raises `ExpressionError` where it is no valid condition."""
    return list(dict.fromkeys(paths_read(_parse_condition(text))))


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


def _parse_condition(text: str) -> nodes.Expr:
    if text.lstrip().startswith("{{"):
        hint = "a condition is written without {{ }}"
        raise ExpressionError([Fault(len(text) - len(text.lstrip()), "is not a valid expression", hint)])
    parser = _parser(text, "variable")
    node: nodes.Expr = _parsed(parser, text, parser.parse_expression)
    if not parser.stream.eos:
        raise _syntax_fault(text, parser.stream.current.lineno, "", parser.stream.current.value)
    return node


def _template_code(compiler: Compiler, text: str) -> ast.expr:
    """The code of one template; constant text stays as it is, a lone `{{ x }}` keeps the type of x."""
    if "{{" not in text and "{%" not in text and "{#" not in text:
        return ast.Constant(text)
    parser = _parser(text, None)
    body = _parsed(parser, text, parser.parse).body
    parts: list[nodes.Node] = [part for output in body for part in output.iter_child_nodes()]
    if not parts:
        return ast.Constant("")
    if len(parts) == 1:
        return compiler.expression(parts[0])
    return compiler.call("join_text", *[compiler.expression(part) for part in parts])


def _parsed(parser: Parser, text: str, parse: Callable[[], Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an invalid escape in a text
            return parse()
    except TemplateSyntaxError as error:
        current = parser.stream.current
        offset = len(text.rstrip()) if current.type == "eof" else error.lineno
        raise _syntax_fault(text, offset, error.message or "", current.value) from None
    except RecursionError:
        raise ExpressionError([Fault(0, "is nested too deeply", "split it into several routes or fields")]) from None
    except ValueError:  # a number of thousands of digits
        raise ExpressionError([Fault(0, "is not a valid expression", "a number in it is too large")]) from None


def _parser(text: str, state: str | None) -> Parser:
    """Jinja's parser over tokens whose line numbers are offsets in `text`, for columns in messages."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError([Fault(0, f"is longer than {MAX_LENGTH:,} characters", "split it")])
    parser = Parser(_environment, "", state=state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            parser.stream = TokenStream(_environment.lexer.wrap(_tokens(text, state), None, None), None, None)
        except TemplateSyntaxError as error:
            raise _syntax_fault(text, error.lineno, error.message or "", "") from None
        except ValueError:
            raise ExpressionError([Fault(0, "is not a valid expression", "a number in it is too large")]) from None
    return parser


def _tokens(text: str, state: str | None) -> Iterator[tuple[int, str, str]]:
    position = 0
    try:
        for _, token, value in _environment.lexer.tokeniter(text, None, None, state):
            found = text.find(value, position)
            position = found if found >= 0 else position
            if token.startswith(("block", "raw")):
                raise TemplateSyntaxError("statements", position)
            yield position, token, value
            position += len(value) if found >= 0 else 0
    except TemplateSyntaxError as error:
        while position < len(text) and text[position].isspace():
            position += 1
        raise TemplateSyntaxError(error.message or "", position) from None


def _syntax_fault(text: str, offset: int, message: str, found: str) -> ExpressionError:
    offset = min(offset, len(text))
    rest = text[offset:].lstrip()
    detail = message.splitlines()[0] if message else ""
    if message == "statements":
        hint = "there are no {% %} statements; write {{ a if condition else b }}"
    elif rest.startswith("="):
        hint = "compare with =="
    elif rest.startswith("&"):
        hint = "write `and`"
    elif rest.startswith("|"):
        hint = "write `or`"
    elif rest.startswith("!"):
        hint = "write `not`"
    elif not rest:
        hint = "something is missing at its end"
    elif rest[0] in "'\"" and "char" in detail:
        hint = "the text that begins here has no end quote"
    elif "escape" in detail:
        hint = "write \\\\ for a backslash in a text"
    elif detail.startswith("Missing end of comment"):
        hint = "`{#` begins a comment, which has no end `#}`"
    else:
        word = rest.split()[0][:30] if found else rest[0]
        hint = f"`{word}` makes no sense here; join with `and` or `or`, put texts in quotes"
    return ExpressionError([Fault(offset, "is not a valid expression", hint)])
