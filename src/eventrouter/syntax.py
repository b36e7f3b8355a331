"""Reads conditions and templates: Jinja's syntax as trees, in which a node's line number is its offset in the text."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.lexer import TokenStream
from jinja2.parser import Parser

from .comparing import Fault
from .errors import EventRouterError

MAX_LENGTH = 8_000
"""The most characters that a condition or a template may have."""

_INSTEAD = {"=>": ">=", "=<": "<=", "<>": "!="}
"""What other languages, or slips, write for comparisons."""

Node = nodes.Expr

_environment = Environment(keep_trailing_newline=True)


class ExpressionError(EventRouterError):
    """A text is no valid condition or template; `faults` says all that is wrong with it."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(fault.message for fault in faults), hint=faults[0].hint)
        self.faults = faults


def parse_condition(text: str) -> Node:
    """The tree of a condition. Raises `ExpressionError`."""
    if text.lstrip().startswith("{{"):
        hint = "a condition is written without {{ }}"
        raise ExpressionError([Fault(len(text) - len(text.lstrip()), "is not a valid expression", hint)])
    parser = _parser(text, "variable")
    node: Node = _parsed(parser, text, parser.parse_expression)
    if not parser.stream.eos:
        raise _syntax_fault(text, parser.stream.current.lineno, "", parser.stream.current.value)
    return node


def parse_template(text: str, offset: int | None = None) -> Node:
    """The tree of a template: a constant, the expression that it is alone, or what joins its parts.

    With `offset` all of it stands there, in another text. Raises `ExpressionError`.
    """
    if "{{" not in text and "{%" not in text and "{#" not in text:
        return nodes.Const(text, lineno=offset or 0)
    parser = _parser(text, None)
    body = _parsed(parser, text, parser.parse).body
    parts: list[Any] = [part for output in body for part in output.iter_child_nodes()]
    for part in parts if offset is not None else ():
        for node in (part, *part.find_all(nodes.Node)):
            node.lineno = offset
    if not parts:
        return nodes.Const("", lineno=offset or 0)
    return parts[0] if len(parts) == 1 else nodes.Concat(parts, lineno=offset or 0)


def parse_value(value: Any, offset: int) -> Node:
    """The tree of a JSON value whose texts are templates, as if it stood at `offset`. Raises `ExpressionError`."""
    if isinstance(value, str):
        return parse_template(value, offset)
    if isinstance(value, Mapping):
        pairs = [
            nodes.Pair(nodes.Const(str(key), lineno=offset), parse_value(part, offset), lineno=offset)
            for key, part in value.items()
        ]
        return nodes.Dict(pairs, lineno=offset)
    if isinstance(value, Sequence):
        return nodes.List([parse_value(part, offset) for part in value], lineno=offset)
    return nodes.Const(value, lineno=offset)


def replace(node: Any, by: Callable[[Any], Any | None]) -> Any:
    """The tree with `by(node)` in the place of each node for which it isn't None; what it gives isn't looked into."""
    found = by(node)
    if found is not None:
        return found
    for name, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            setattr(node, name, replace(value, by))
        elif isinstance(value, list):
            setattr(node, name, [replace(one, by) if isinstance(one, nodes.Node) else one for one in value])
    return node


def size(node: Any) -> int:
    """How many nodes the tree has."""
    return 1 + sum(1 for _ in node.find_all(nodes.Node))


def words(text: str) -> list[tuple[int, str]]:
    """The words of a condition with their offsets: names, numbers, texts with their quotes, operators, brackets.

    Raises `ExpressionError` where it is no valid condition.
    """
    parse_condition(text)
    return [(offset, word) for offset, _, word in _tokens(text, "variable") if not word.isspace()]


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
    # A fault is told at the first operator that is none, or behind one that would be.
    written = (rest[:2], text[max(offset - 1, 0) : offset + 1])
    instead = next((_INSTEAD[one] for one in written if one in _INSTEAD), "")
    detail = message.splitlines()[0] if message else ""
    if message == "statements":
        hint = "there are no {% %} statements; write {{ a if condition else b }}"
    elif instead:
        hint = f"compare with {instead}"
    elif rest.startswith("="):
        hint = "compare with =="
    elif rest.startswith("&"):
        hint = "write `and`"
    elif rest.startswith("|"):
        hint = "write `or`"
    elif rest.startswith("!"):
        operand = re.match(r"!\s*([\w.]+)", rest)
        hint = f"write `not {operand[1]}`" if operand else "write `not`"
    elif not rest:
        hint = "something is missing at its end"
    elif rest[0] in "'\"" and "char" in detail:
        hint = "the text that begins here has no end quote"
    elif "escape" in detail:
        hint = "write \\\\ for a backslash in a text"
    elif detail.startswith("Missing end of comment"):
        hint = "`{#` begins a comment, which has no end `#}`"
    else:
        word = (rest.split()[0][:30] if found else rest[0]).replace("`", "'")
        hint = f"`{word}` makes no sense here; join with `and` or `or`, put texts in quotes"
    return ExpressionError([Fault(offset, "is not a valid expression", hint)])
