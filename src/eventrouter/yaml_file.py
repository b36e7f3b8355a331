"""A YAML 1.2 file as nodes that know their place, with variables filled in; what is wrong with it is collected.

Plain scalars are read by YAML 1.2's core schema: `NO`, `on` and `012:30` are texts. Aliases are followed within limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ruamel.yaml
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from .interpolation import MAX_FILLED, Interpolated, interpolate

MAX_BYTES = 1_048_576
MAX_NODES = 100_000
MAX_DEPTH = 50
MAX_CHARACTERS = MAX_FILLED
"""Of all values, aliases followed and variables filled in: each is looked at for itself."""
_ALIASES = "aliases followed", "aliases (*name)"
_VARIABLES = "variables filled in", "variables (${NAME}), or shorter ones"

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INTEGER = re.compile(r"[-+]?[0-9]{1,4000}\Z")
_OTHER_INTEGER = re.compile(r"0o[0-7]{1,1000}\Z|0x[0-9a-fA-F]{1,1000}\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_TAGS = tuple(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq", "timestamp")
)


@dataclass(frozen=True, slots=True)
class YamlFault:
    """Something wrong in the file: line and column from 1, what, and what to do."""

    line: int
    column: int
    message: str
    hint: str = ""


@dataclass(slots=True, eq=False)
class Node:
    """A value at a place; line and column count from 1."""

    line: int
    column: int


@dataclass(slots=True, eq=False)
class Scalar(Node):
    """A text, number, truth value or null. `broken`: a variable in it is not set, which has been told already."""

    value: Any
    text: str
    begin: int
    end: int
    style: str
    raw: str
    source: str = field(repr=False)
    interpolated: Interpolated = field(repr=False)

    @property
    def broken(self) -> bool:
        return bool(self.interpolated.faults)

    @property
    def variables(self) -> bool:
        """Whether a variable had a part in it: it is not to be shown."""
        return self.interpolated.variables

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of a character of `text`."""
        return self.written_place(self.interpolated.written(offset))

    def written_place(self, offset: int) -> tuple[int, int]:
        """Line and column of a character of `raw`, the value before variables are filled in."""
        position = _position(self, offset)
        line = self.source.count("\n", 0, position)
        return line + 1, position - (self.source.rfind("\n", 0, position) + 1) + 1


@dataclass(slots=True, eq=False)
class MapNode(Node):
    """An object: keys (with their own places) and values."""

    keys: dict[str, Scalar]
    values: dict[str, Node]


@dataclass(slots=True, eq=False)
class ListNode(Node):
    """A list."""

    items: list[Node]


def data(node: Node) -> Any:
    """The plain value of a node: dicts, lists, texts, numbers, truth values, None."""
    if isinstance(node, MapNode):
        return {key: data(value) for key, value in node.values.items()}
    if isinstance(node, ListNode):
        return [data(item) for item in node.items]
    assert isinstance(node, Scalar)
    return node.value


def scalars(node: Node) -> Iterator[Scalar]:
    """All scalars in a node, without keys."""
    if isinstance(node, Scalar):
        yield node
    elif isinstance(node, MapNode):
        for value in node.values.values():
            yield from scalars(value)
    elif isinstance(node, ListNode):
        for item in node.items:
            yield from scalars(item)


def keys(node: Node) -> Iterator[Scalar]:
    """All keys in a node."""
    if isinstance(node, MapNode):
        yield from node.keys.values()
    inner = node.values.values() if isinstance(node, MapNode) else node.items if isinstance(node, ListNode) else ()
    for value in inner:
        yield from keys(value)


def parse(text: str, environ: Mapping[str, str]) -> tuple[Node | None, list[YamlFault]]:
    """The root of the document (None when there is none, or it can't be read) and what is wrong, in any order."""
    try:
        root = ruamel.yaml.YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = str(error.problem or error.context or "it can't be read")
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        return None, [YamlFault(line, column, f"not valid YAML: {message}", _advice(text, line, column, message))]
    except RecursionError:
        return None, [YamlFault(0, 0, "not valid YAML: it is nested too deeply", f"at most {MAX_DEPTH} levels")]
    except (YAMLError, ValueError) as error:
        position = getattr(error, "position", None)
        line = text.count("\n", 0, position) + 1 if position is not None else 0
        column = position - (text.rfind("\n", 0, position) + 1) + 1 if position is not None else 0
        reason = getattr(error, "reason", None) or "it can't be read"
        return None, [YamlFault(line, column, f"not valid YAML: {reason}")]
    if root is None:
        return None, []
    converter = _Converter(text, environ)
    try:
        return converter.node(root, 0), converter.faults
    except _TooMuchError:  # what is left of the file would only make for more problems
        return None, converter.faults


class _TooMuchError(Exception):
    pass


class _Converter:
    def __init__(self, text: str, environ: Mapping[str, str]) -> None:
        self.text = text
        self.environ = environ
        self.faults: list[YamlFault] = []
        self.count = 0
        self.characters = 0
        self.filled = 0
        """Of these, what variables made longer."""

    def fault(self, node: Any, message: str, hint: str = "") -> None:
        self.faults.append(YamlFault(node.start_mark.line + 1, node.start_mark.column + 1, message, hint))

    def bound(self, node: Any, amount: int, most: int, what: str, why: tuple[str, str] = _ALIASES) -> None:
        """Ends it all where there is more than may be; `why` says what made it so much."""
        if amount > most:
            self.fault(node, f"it {what}, {why[0]}", f"make it smaller, or use fewer {why[1]}")
            raise _TooMuchError

    def node(self, node: Any, depth: int) -> Node:
        self.count += 1
        self.bound(node, depth, MAX_DEPTH, f"is nested more than {MAX_DEPTH} levels deep")
        self.bound(node, self.count, MAX_NODES, f"has more than {MAX_NODES:,} values")
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        if str(node.tag) not in _TAGS:
            tag = str(node.tag).replace("tag:yaml.org,2002:", "!!")[:60]
            self.fault(node, f"the tag {tag} means nothing here", "leave it out")
        if isinstance(node, MappingNode):
            return self.mapping(node, depth)
        if isinstance(node, SequenceNode):
            return ListNode(line, column, [self.node(item, depth + 1) for item in node.value])
        return self.scalar(node, self.environ)

    def mapping(self, node: Any, depth: int) -> Node:
        mapping = MapNode(node.start_mark.line + 1, node.start_mark.column + 1, {}, {})
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self.fault(key_node, "a key must be a text", "put quotes around a text that begins with { or [")
                continue
            key = self.scalar(key_node, None)
            if key.raw == "<<" and not key.style:
                self.fault(key_node, "YAML 1.2 has no merge keys (`<<`)", "repeat the values, or alias whole values")
                continue
            if isinstance(value_node, ScalarNode) and value_node.start_mark.index == value_node.end_mark.index:
                # Nothing: the parser is at the next thing already.
                value_node.start_mark, value_node.end_mark = key_node.start_mark, key_node.start_mark
            value = self.node(value_node, depth + 1)
            if key.raw in mapping.keys:
                first = mapping.keys[key.raw]
                self.fault(key_node, f"the key `{key.raw}` comes twice", f"the first one is in line {first.line}")
            else:
                mapping.keys[key.raw] = key
                mapping.values[key.raw] = value
        return mapping

    def scalar(self, node: Any, environ: Mapping[str, str] | None) -> Scalar:
        raw = str(node.value)
        if any("\ud800" <= character <= "\udfff" for character in raw):
            self.fault(node, "this text is not valid Unicode", "take out the half of a surrogate pair")
            raw = "".join(character for character in raw if not "\ud800" <= character <= "\udfff")
        filled = Interpolated(raw) if environ is None else interpolate(raw, environ)
        self.characters += max(len(raw), len(filled.text))
        self.filled += max(len(filled.text) - len(raw), 0)
        why = _VARIABLES if 2 * self.filled > self.characters else _ALIASES
        self.bound(node, self.characters, MAX_CHARACTERS, f"has texts of more than {MAX_CHARACTERS:,} characters", why)
        style = node.style or ""
        plain = not style and not filled.variables and str(node.tag) != _TAGS[0]
        made = Scalar(
            node.start_mark.line + 1,
            node.start_mark.column + 1,
            _resolved(raw) if plain else filled.text,
            filled.text,
            node.start_mark.index,
            node.end_mark.index,
            style,
            raw,
            self.text,
            filled,
        )
        for offset, message, hint in filled.faults:
            line, column = made.written_place(offset)
            self.faults.append(YamlFault(line, column, message, hint))
        return made


def _resolved(raw: str) -> Any:
    """A plain scalar's value by YAML 1.2's core schema (without .inf and .nan, which JSON doesn't have)."""
    if raw in _NULL:
        return None
    if raw in _TRUE or raw in _FALSE:
        return raw in _TRUE
    if _INTEGER.match(raw):
        return int(raw)
    if _OTHER_INTEGER.match(raw):
        return int(raw, 0)
    if _FLOAT.match(raw):
        return float(raw)
    return raw


def _position(scalar: Scalar, written: int) -> int:
    """The position in the file of a character of the scalar's value, found by walking along both."""
    source, raw, position, end = scalar.source, scalar.raw, scalar.begin, scalar.end
    if scalar.style in ("|", ">"):
        position = max(position, source.find("\n", position, end) + 1)
    elif scalar.style:
        position += 1
    done = 0
    while position < end:
        wanted = raw[done] if done < len(raw) else ""
        here = source[position]
        if done == written and (here == wanted or not wanted or (here == "\\" and scalar.style == '"')):
            return position
        if here == wanted:
            done, position = done + 1, position + 1
        elif here == "\\" and scalar.style == '"':
            position += {"x": 4, "u": 6, "U": 10}.get(source[position + 1 : position + 2], 2)
            done += 1
        elif wanted.isspace() and here.isspace():
            while position < end and source[position].isspace():
                position += 1
            done += 1
        else:
            position += 1
    return scalar.begin if done < written else end


def _advice(text: str, line: int, column: int, message: str) -> str:
    lines = text.splitlines()
    offending = lines[line - 1] if 0 < line <= len(lines) else ""
    if "\t" in offending[:column]:
        return "indent with spaces, not with tabs"
    if "mapping values are not allowed" in message:
        return "put quotes around a text with `: ` in it, and check the indentation"
    if "single document" in message:
        return "keep one document; take out the line `---`"
    if "%" in offending or "`" in offending or "@" in offending or "{{" in offending:
        return "put quotes around the text"
    return "check the indentation, quotes and brackets here and in the line before"
