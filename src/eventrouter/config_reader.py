"""Reads values out of the nodes of routes.yaml and notes all that is wrong, with its place and without secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

from .errors import Problem
from .expressions import ExpressionError, Expressions
from .masking import MASK
from .plugins import Plugins
from .yaml_file import ListNode, MapNode, Node, Scalar, YamlFault, scalars

T = TypeVar("T")

MAX_LINE = 500
"""A longer line of the file is not shown."""
MAX_MESSAGE = 1000

_SECRETS = re.compile(r"(?i)((?:key|secret|token|password|salt|credential|authorization)[^:]*:\s*)(\S.*)")


class Reader:
    """Collects problems while it reads. A method that finds its node wrong notes it and returns None."""

    def __init__(self, path: str, text: str, plugins: Plugins, *, check_files: bool = False) -> None:
        self.path = path
        self.check_files = check_files
        """Whether plugins look at the files that their options name."""
        self.lines = text.split("\n")
        self.plugins = plugins
        self.expressions = Expressions(plugins.template_filters)
        self.vars: dict[str, Any] = {}
        """The `vars:` of all files."""
        self._problems: list[Problem] = []
        self._spans: list[tuple[int, int]] = []
        self._values: set[str] = set()
        self._text = text

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
        shown = []
        for problem in sorted(self._problems, key=lambda each: (each.line, each.column)):
            text = self._line(problem.line)
            if not readable:
                text = _SECRETS.sub(lambda match: match[1] + "*" * len(match[2]), text)
            message, hint = self._masked(problem.message), self._masked(problem.hint)
            if len(text) > MAX_LINE:
                text = ""
            made = Problem(problem.path, problem.line, problem.column, message, hint, text, problem.severity)
            if made not in shown:
                shown.append(made)
        return shown

    def _masked(self, text: str) -> str:
        for value in sorted(self._values, key=len, reverse=True):
            if len(value) >= 4:
                text = text.replace(value, MASK)
        return text[:MAX_MESSAGE]

    def _line(self, number: int) -> str:
        if not 0 < number <= len(self.lines):
            return ""
        line = self.lines[number - 1]
        begin = 0
        for _ in range(number - 1):
            begin = self._text.find("\n", begin) + 1
        for first, last in self._spans:
            low, high = max(first - begin, 0), min(last - begin, len(line))
            if low < high:
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
            self.problem(node, f"{what} must be true or false")
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
            for fault in error.faults:
                if scalar.variables:  # what is wrong may be what must not be shown
                    message, hint = "is not valid once its variables are filled in", "check the variables"
                else:
                    message, hint = fault.message, fault.hint
                self.problem_at(scalar, fault.offset, f"`{what}` {message}", hint)
        return None


def did_you_mean(name: str, known: Iterable[str], what: str = "known are") -> str:
    """A hint with the nearest of the known names, or all of them."""
    names = list(known)
    near = get_close_matches(name, names, 1, 0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"{what} {', '.join(names[:30])}" if names else ""
