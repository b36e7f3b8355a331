"""What a condition asks of an event, as cases: in one of them, all of its facts have to hold together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from .codegen import chain
from .filters import TESTS
from .operators import Operators
from .values import kind

MAX_CASES = 64
"""A condition of more cases is one fact as a whole."""

Key = tuple[Any, ...]
"""Stands for an expression: equal for two that are always worth the same."""
Constant = tuple[str, Any]
"""A value and its kind, by which true is not 1."""

_FLIPPED = {"lt": "gt", "lteq": "gteq", "gt": "lt", "gteq": "lteq", "in": "has", "notin": "hasnot"}
_SAME_AS = {"none": None, "true": True, "false": False}
_operators = Operators(strict=False)


@dataclass(frozen=True, slots=True)
class OneOf:
    """`of` is one of some constants."""

    of: Key
    options: frozenset[Constant]


@dataclass(frozen=True, slots=True)
class Compared:
    """`of` compares so with a constant: `ne lt lteq gt gteq in notin`, or `has hasnot`, where that stands left."""

    of: Key
    op: str
    other: Constant


@dataclass(frozen=True, slots=True)
class Passed:
    """A test (`is …`) of `of` holds."""

    of: Key
    name: str
    args: tuple[Constant, ...] = ()


@dataclass(frozen=True, slots=True)
class Truthy:
    """`of` is neither missing nor null, false, zero or empty."""

    of: Key


@dataclass(frozen=True, slots=True)
class Not:
    """Another fact doesn't hold."""

    fact: OneOf | Compared | Passed | Truthy

    @property
    def of(self) -> Key:
        return self.fact.of


Fact = OneOf | Compared | Passed | Truthy | Not
Facts = frozenset[Fact]


class Cases(NamedTuple):
    """The cases of a condition, and where in its text each fact stands."""

    cases: list[Facts]
    offsets: dict[Fact, int]


class _TooManyError(Exception):
    pass


def cases_of(tree: Any, same: str) -> Cases:
    """The cases of a condition that compiles; `same` stands for it as a whole, where that is all that can be said."""
    reading = _Reading()
    try:
        return Cases(reading.cases(tree, True), reading.offsets)
    except (_TooManyError, RecursionError):
        return Cases([frozenset({Truthy(("whole", same))})], {})


def negation(fact: Fact) -> Fact:
    """The fact that holds where this one doesn't."""
    return fact.fact if isinstance(fact, Not) else Not(fact)


def worth(fact: Fact, constant: Constant) -> bool | None:
    """Whether the fact holds where its expression is worth `constant`; None: that can't be said."""
    value = constant[1]
    if isinstance(fact, Not):
        inner = worth(fact.fact, constant)
        return None if inner is None else not inner
    if isinstance(fact, OneOf):
        return constant in fact.options
    if isinstance(fact, Truthy):
        return bool(value)
    if isinstance(fact, Passed):
        if fact.name in ("integer", "float") and constant[0] == kind(1):
            return None  # 1 and 1.0 are one constant here
        return TESTS[fact.name][0](value, *(arg for _, arg in fact.args))
    other = fact.other[1]
    if fact.op in ("in", "has"):
        return _operators.contains(*((value, other) if fact.op == "in" else (other, value)))
    if fact.op in ("notin", "hasnot"):
        return _operators.lacks(*((value, other) if fact.op == "notin" else (other, value)))
    found: bool = getattr(_operators, fact.op)(value, other)
    return found


class _Reading:
    """Reads one condition. Whatever is not understood is a fact by itself, of which nothing follows."""

    def __init__(self) -> None:
        self.offsets: dict[Fact, int] = {}

    def cases(self, node: Any, holds: bool) -> list[Facts]:
        """The cases in which `node` is true (or, unless it `holds`, not)."""
        what = type(node).__name__
        if what == "Not":
            return self.cases(node.node, not holds)
        if what in ("And", "Or"):
            parts = (self.cases(part, holds) for part in chain(node))
            return _all(parts) if (what == "And") is holds else self._any(parts)
        if what == "Const" and bool(node.value) is holds:
            return [frozenset()]
        return self._every(list(self._facts(node)), node, holds)

    def _every(self, facts: list[Fact], node: Any, hold: bool) -> list[Facts]:
        facts = facts if hold else [negation(fact) for fact in facts]
        for fact in facts:
            self.offsets.setdefault(fact, _begin(node))
        return [frozenset(facts)] if hold else self._any([frozenset({fact})] for fact in facts)

    def _any(self, parts: Iterable[list[Facts]]) -> list[Facts]:
        """The cases of all parts. `event == "A" or event == "B"` is one: `event in ["A", "B"]`."""
        found: dict[Facts, None] = {}
        some: dict[Key, list[OneOf]] = {}
        for case in (case for part in parts for case in part):
            first = next(iter(case), None)
            if len(case) == 1 and isinstance(first, OneOf):
                some.setdefault(first.of, []).append(first)
            else:
                found[case] = None
        for of, facts in some.items():
            whole = OneOf(of, frozenset().union(*(fact.options for fact in facts)))
            self.offsets.setdefault(whole, self.offsets[facts[0]])
            found[frozenset({whole})] = None
        if len(found) > MAX_CASES:
            raise _TooManyError
        return list(found)

    def _facts(self, node: Any) -> Iterator[Fact]:
        """What holds together where `node` is true."""
        what = type(node).__name__
        if what == "Compare":
            left = node.expr
            for operand in node.ops:
                yield from _compared(left, operand.op, operand.expr)
                left = operand.expr
        elif what == "Test" and node.name in _SAME_AS:
            yield OneOf(key(node.node), frozenset({_constant(_SAME_AS[node.name])}))
        elif what == "Test" and node.name == "undefined":
            yield Not(Passed(key(node.node), "defined"))
        elif what == "Test" and None not in (args := [_constant_of(arg) for arg in node.args]):
            yield Passed(key(node.node), node.name, tuple(arg for arg in args if arg))
        else:
            yield Truthy(key(node))


def _compared(left: Any, op: str, right: Any) -> Iterator[Fact]:
    one, other = _constant_of(left), _constant_of(right)
    if type(right).__name__ in ("List", "Tuple") and op in ("in", "notin") and one is None:
        options = [_constant_of(item) for item in right.items]
        if None not in options:
            found = OneOf(key(left), frozenset(option for option in options if option))
            if op == "notin":
                yield Passed(key(left), "defined")
            yield found if op == "in" else Not(found)
            return
    if (one is None) is (other is None):
        both = (key(left), key(right))
        yield Truthy((op, frozenset(both) if op in ("eq", "ne") else both))
    elif one is not None:
        yield OneOf(key(right), frozenset({one})) if op == "eq" else Compared(key(right), _FLIPPED.get(op, op), one)
    elif other is not None:
        yield OneOf(key(left), frozenset({other})) if op == "eq" else Compared(key(left), op, other)


def _all(parts: Iterator[list[Facts]]) -> list[Facts]:
    found: list[Facts] = [frozenset()]
    for part in parts:
        found = list(dict.fromkeys(one | other for one in found for other in part))
        if len(found) > MAX_CASES:
            raise _TooManyError
    return found


def _begin(node: Any) -> int:
    """Where the text of a node begins: before an operator stands what it is about."""
    places = [_begin(child) for child in node.iter_child_nodes()]
    return min(places if node.lineno is None else [node.lineno, *places], default=0)


def _constant(value: Any) -> Constant:
    return kind(value), value


def _constant_of(node: Any) -> Constant | None:
    """The constant that a node is; None when it is none."""
    what = type(node).__name__
    if what == "Const":
        return _constant(node.value)
    if what in ("Neg", "Pos") and type(node.node).__name__ == "Const" and type(node.node.value) in (int, float):
        return _constant(-node.node.value if what == "Neg" else node.node.value)
    return None


def key(node: Any) -> Key:
    """Stands for an expression."""
    what = type(node).__name__
    if what == "Name":
        return ("name", node.name)
    if what == "Const":
        value = node.value
        return ("constant", type(value).__name__, repr(value) if isinstance(value, float) else value)
    if what == "Getattr":
        return ("item", key(node.node), node.attr)
    if what == "Getitem" and type(node.arg).__name__ == "Const" and isinstance(node.arg.value, str):
        return ("item", key(node.node), node.arg.value)
    return (what, *(_key_of(field) for _, field in node.iter_fields()))


def _key_of(field: Any) -> Any:
    if isinstance(field, list):
        return tuple(_key_of(one) for one in field)
    return key(field) if hasattr(field, "iter_fields") else field
