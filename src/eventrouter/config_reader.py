"""Reads values out of the nodes of routes.yaml and notes all that is wrong, with its place and without secrets."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

from .errors import Problem
from .expressions import MAX_TEMPLATES, ExpressionError, Expressions
from .masking import MASK
from .plugins import Plugins
from .variables import UnknownVariableError
from .yaml_file import ListNode, MapNode, Node, Scalar, YamlFault, keys, scalars

T = TypeVar("T")

MAX_LINE = 500
"""A longer line of the file is not shown."""
MAX_MESSAGE = 1000
_LEAST = 4
"""Characters. A shorter secret would be found in too many messages."""

_SECRETS = re.compile(r"(?i)((?:key|secret|token|password|salt|credential|authorization)[^:]*:\s*)(\S.*)")


class Reader:
    """Collects problems while it reads. A method that finds its node wrong notes it and returns None."""

    def __init__(self, path: str, text: str, plugins: Plugins, *, check_files: bool = False) -> None:
        self.path = path
        self.check_files = check_files
        """Whether plugins look at the files that their options name."""
        self.incomplete = False
        """Whether one of the files can't be read: a name that is nowhere else may stand in it."""
        self.plugins = plugins
        self.expressions = Expressions(plugins.template_filters)
        self.vars: dict[str, Any] = {}
        """The `vars:` of all files."""
        self._problems: list[Problem] = []
        self._spans: list[tuple[int, int]] = []
        self._values: set[str] = set()
        self._text = text
        self._begins = [0, *(match.end() for match in re.finditer("\n", text))]

    # -- problems --------------------------------------------------------------------------------------------------

    def problem(self, node: Node | None, message: str, hint: str = "", *, severity: str = "error") -> None:
        """Notes a problem at the place of `node`; None means the whole file."""
        line, column = (node.line, node.column) if node else (0, 0)
        self._problems.append(Problem(self.path, line, column, message, hint, severity=severity))

    def fault(self, fault: YamlFault) -> None:
        """Notes a problem of the file itself."""
        self._problems.append(Problem(self.path, fault.line, fault.column, fault.message, fault.hint))

    def problem_at(self, scalar: Scalar, offset: int, message: str, hint: str = "") -> None:
        """Notes a problem at a character of a scalar."""
        line, column = scalar.place(offset)
        self._problems.append(Problem(self.path, line, column, message, hint))

    def unknown(self, node: Node | None, message: str, hint: str = "") -> None:
        """Notes at `node` a name that stands in none of the files."""
        if not self.incomplete:
            self.problem(node, message, hint)

    def secret(self, node: Node) -> None:
        """What stands in `node` is never to be shown."""
        for scalar in scalars(node):
            if not scalar.variables and scalar.text:
                self._spans.append((scalar.begin, scalar.end))
                self._values.add(scalar.text)

    def variables(self, root: Node) -> None:
        """What variables brought into the file is never to be shown."""
        for scalar in scalars(root):
            self._values.update(scalar.interpolated.values)

    def problems(self, *, readable: bool = True) -> list[Problem]:
        """All problems in the order of the file, secrets masked; `readable` is false when the file is not YAML."""
        shown: dict[Problem, None] = {}
        spans = sorted(set(self._spans))
        secrets: dict[str, list[str]] = defaultdict(list)
        for value in self._values:
            if len(value) >= _LEAST:
                secrets[value[:_LEAST]].append(value)
        for problem in sorted(self._problems, key=lambda each: (each.line, each.column)):
            text = self._line(problem.line, spans)
            if not readable:
                text = _SECRETS.sub(lambda match: match[1] + "*" * len(match[2]), text)
            message, hint = _masked(problem.message, secrets), _masked(problem.hint, secrets)
            shown[Problem(problem.path, problem.line, problem.column, message, hint, text, problem.severity)] = None
        return list(shown)

    def _line(self, number: int, spans: list[tuple[int, int]]) -> str:
        """A line of the file, masked where one of the `spans` is, which are in order; empty when it is very long."""
        if not 0 < number <= len(self._begins):
            return ""
        begin = self._begins[number - 1]
        end = self._begins[number] - 1 if number < len(self._begins) else len(self._text)
        if end - begin > MAX_LINE:
            return ""
        line = self._text[begin:end]
        # Scalars don't overlap: those behind the first that ends in the line are in order, too.
        for first, last in spans[bisect_right(spans, begin, key=lambda span: span[1]) :]:
            if first >= end:
                break
            low, high = max(first - begin, 0), min(last - begin, len(line))
            line = line[:low] + "*" * (high - low) + line[high:]
        return line

    # -- values ----------------------------------------------------------------------------------------------------

    def mapping(
        self, node: Node | None, what: str, known: Sequence[str] | None = None, *, needed: bool = False
    ) -> dict[str, Node]:
        """The values of an object by key; keys that are not `known` are problems, and null where it is `needed`."""
        if node is None:
            return {}
        if not isinstance(node, MapNode):
            if not (isinstance(node, Scalar) and (node.broken or (node.value is None and not needed))):
                self.problem(node, f"{what} must be an object (`key: value`)")
            return {}
        if known is None:
            return dict(node.values)
        for key, place in node.keys.items():
            if key not in known:
                self.problem(place, f"{what} has no key `{key}`", did_you_mean(key, known))
        return {key: value for key, value in node.values.items() if key in known}

    def text(self, node: Node | None, what: str) -> str | None:
        """A text that is not empty."""
        if node is None or (isinstance(node, Scalar) and node.broken):
            return None
        if isinstance(node, Scalar) and isinstance(node.value, str) and node.value:
            return node.value
        if isinstance(node, Scalar) and node.variables and not node.text:
            names = ", ".join(re.findall(r"\$\{(\w+)", node.raw))
            self.problem(node, f"{what} is empty", f"give {names} a value")
            return None
        written = isinstance(node, Scalar) and node.value is not None and node.value != ""
        self.problem(node, f"{what} must be a text", "put quotes around it" if written else "")
        return None

    def texts(self, node: Node | None, what: str) -> tuple[str, ...]:
        """A text, or a list of texts."""
        items = node.items if isinstance(node, ListNode) else [] if node is None else [node]
        if isinstance(node, ListNode) and not items:
            self.problem(node, f"{what} must not be an empty list")
        return tuple(text for item in items if (text := self.text(item, what)) is not None)

    def items(self, node: Node | None) -> list[Node]:
        """The nodes of a list, or the one node that stands in its place."""
        return list(node.items) if isinstance(node, ListNode) else [] if node is None else [node]

    def flag(self, node: Node | None, what: str, default: bool) -> bool:
        """true or false."""
        if isinstance(node, Scalar) and not node.broken:
            if isinstance(node.value, bool):
                return node.value
            if node.variables and node.text.lower() in ("true", "false"):
                return node.text.lower() == "true"
        if node is not None and not (isinstance(node, Scalar) and node.broken):
            self.problem(node, f"{what} must be true or false", switch_hint(node))
        return default

    def whole(self, node: Node | None, what: str, default: int, low: int, high: int, hint: str = "") -> int:
        """A whole number from `low` to `high`."""
        if node is None or (isinstance(node, Scalar) and node.broken):
            return default
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(node, Scalar) and node.variables and re.fullmatch(r"\d{1,18}", node.text):
            value = int(node.text)
        if type(value) is int and low <= value <= high:
            return value
        self.problem(node, f"{what} must be a whole number from {low:,} to {high:,}", hint)
        return default

    def quantity(self, node: Node | None, what: str, default: T, read: Callable[[str], T], low: float = 0) -> T:
        """A duration, size, share or rate, read by `read`."""
        if node is None or (isinstance(node, Scalar) and node.broken):
            return default
        if not isinstance(node, Scalar) or node.value is None or isinstance(node.value, bool):
            self.problem(node, f"{what} is not valid", self._advice(read))
            return default
        try:
            value = read(node.text)
        except ValueError as error:
            self.problem(node, f"{what} is not valid", str(error))
            return default
        if isinstance(value, (int, float)) and value < low:
            self.problem(node, f"{what} is too small", f"at least {low:g}")
            return default
        return value

    @staticmethod
    def _advice(read: Callable[[str], Any]) -> str:
        try:
            read("?")
        except ValueError as error:
            return str(error)
        return ""

    def expression(self, scalar: Scalar, what: str, check: Callable[[str], T]) -> T | None:
        """What `check` makes of a condition or template; its faults become problems at their places."""
        if scalar.broken:
            return None
        try:
            return check(scalar.text)
        except ExpressionError as error:
            known = self.incomplete and isinstance(error, UnknownVariableError)
            for fault in () if known else error.faults:
                if scalar.variables:  # what is wrong may be what must not be shown
                    message, hint = "is not valid once its variables are filled in", "check the variables"
                else:
                    message, hint = fault.message, fault.hint
                self.problem_at(scalar, fault.offset, f"`{what}` {message}", hint)
        return None

    def templates(self, node: Node, what: str, expressions: Expressions) -> None:
        """Checks each text in `node`, which is a template."""
        self.plain_keys(node, what)
        count = 0
        for scalar in scalars(node):
            if isinstance(scalar.value, str):
                count += 1
                self.expression(scalar, what, expressions.check_template)
        if count > MAX_TEMPLATES:
            self.problem(node, f"`{what}` has more than {MAX_TEMPLATES:,} texts", "make it smaller")

    def plain_keys(self, node: Node, what: str) -> None:
        """Notes keys that look like templates: only values are."""
        for key in keys(node):
            if "{{" in key.raw:
                hint = "only values are templates: write the key itself"
                self.problem(key, f"`{what}` has a template in a key", hint)


def switch_hint(node: Node) -> str:
    """What to write instead of a value that is neither true nor false."""
    text = node.text.lower() if isinstance(node, Scalar) and not node.variables else ""
    if text in ("true", "false"):
        return f"write `{text}`, without quotes"
    meant = "true" if text in ("yes", "on", "y") else "false" if text in ("no", "off", "n") else ""
    return f"write `{meant}`: in YAML 1.2 `{text}` is a text" if meant else ""


def _masked(text: str, secrets: dict[str, list[str]]) -> str:
    """`text` without secrets, which are given by how they begin."""
    found = {
        secret
        for begin in range(len(text))
        for secret in secrets.get(text[begin : begin + _LEAST], ())
        if text.startswith(secret, begin)
    }
    for secret in sorted(found, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text[:MAX_MESSAGE]


def did_you_mean(name: str, known: Iterable[str], what: str = "known are") -> str:
    """A hint with the nearest of the known names, or all of them."""
    names = list(known)
    near = get_close_matches(name, names, 1, 0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"{what} {', '.join(names[:30])}" if names else ""
