"""Finds routes that no event can reach: their condition can't be true, or earlier routes take all that they match.

It says so only where it is sure: what it doesn't understand of a condition may be true or false.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .events import EVENT_TYPES
from .facts import Cases, Compared, Constant, Fact, Facts, Key, Not, OneOf, Passed, Truthy, cases_of, negation, worth
from .values import kind

MAX_STEPS = 500_000
"""How much work is done for all routes together, in facts looked at; routes behind that count as reachable."""
MAX_OPTIONS = 50
"""An expression that may be one of more values isn't looked at value by value."""

TYPE: Key = ("name", "type")
SOURCE: Key = ("name", "source")
TYPES = frozenset((kind(""), name) for name in EVENT_TYPES)

_ORDERS = ("lt", "lteq", "gt", "gteq")


@dataclass(frozen=True, slots=True)
class Never:
    """The condition can't be true: its parts about `of` exclude each other, of which one stands at `offset`.

    `unknown` are the sources that it names, of which there is none.
    """

    offset: int
    of: Key
    unknown: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """`properties.total`; empty for what is no path."""
        names: list[str] = []
        of = self.of
        while of[0] == "item":
            _, of, name = of
            names.append(name)
        return ".".join([of[1], *reversed(names)]) if of[0] == "name" else ""


class Place(NamedTuple):
    """An earlier route: which one it is of all, its name, and where it stands."""

    number: int
    name: str
    path: str
    line: int


class Case:
    """Facts that hold together, and what follows from them. `sources` are all that there are; None: nobody knows."""

    def __init__(self, facts: Sequence[Fact], sources: frozenset[Constant] | None) -> None:
        self.facts = frozenset(facts)
        self.options = {TYPE: TYPES}
        """What an expression may be, where that is known."""
        self.conflict: Fact | None = None
        """A fact that can't hold beside the others; the last of such."""
        self._present = {fact.of for fact in facts if not isinstance(fact, Not)}
        self._orders: dict[Key, list[Compared]] = defaultdict(list)
        about: dict[Key, list[Fact]] = defaultdict(list)
        for fact in facts:
            about[fact.of].append(fact)
            if isinstance(fact, OneOf):
                domain = fact.options if sources is None or fact.of != SOURCE else sources
                self.options[fact.of] = self.options.get(fact.of, domain) & fact.options
            elif isinstance(fact, Compared) and fact.op in _ORDERS:
                self._orders[fact.of].append(fact)
                if fact.other[0] not in (kind(0), kind("")):
                    self.conflict = fact  # nothing else has an order
        for of, options in self.options.items():
            if len(options) <= MAX_OPTIONS:
                left = (one for one in options if all(worth(fact, one) is not False for fact in about[of]))
                self.options[of] = frozenset(left)
            if not self.options[of]:
                self.conflict = about[of][-1]
        for fact in reversed(facts):
            if self.conflict is None and (negation(fact) in self.facts or self._follows(fact) is False):
                self.conflict = fact

    def holds(self, fact: Fact) -> bool:
        """Whether `fact` surely holds, too."""
        return fact in self.facts or self._follows(fact) is True

    def _follows(self, fact: Fact) -> bool | None:
        """Whether the fact holds by what is known of its expression; None: that can't be said."""
        if isinstance(fact, Not):
            inner = self._follows(fact.fact)
            return None if inner is None else not inner
        options = self.options.get(fact.of)
        found: set[bool | None]
        if options is None:
            found = {_beside(known, fact) for known in self._orders.get(fact.of, ())}
        elif isinstance(fact, OneOf):
            found = {options <= fact.options or (None if options & fact.options else False)}
        elif len(options) <= MAX_OPTIONS:
            found = {worth(fact, one) for one in options}
            return found.pop() if len(found) == 1 else None
        else:
            return None
        if False in found:
            return False
        defined = isinstance(fact, Passed) and fact.name == "defined" and fact.of in self._present
        return True if defined or True in found else None


def _beside(known: Compared, fact: Fact) -> bool | None:
    """Whether `fact` holds where `known` does, which is an order: `> 10` is also `> 5`, not `< 5`, and a number."""
    if isinstance(fact, OneOf):
        return None if any(worth(known, option) for option in fact.options) else False
    if isinstance(fact, Truthy):
        return None if worth(known, (kind(0), 0)) or worth(known, (kind(""), "")) else True
    if isinstance(fact, Compared) and fact.other[0] == known.other[0]:
        if fact.op == "ne":
            return None if worth(known, fact.other) else True
        if fact.op not in _ORDERS:
            return None
        at_bound = worth(fact, known.other)
        beyond = known.op in ("lt", "gt") and known.other == fact.other  # > 5 beside > 5, or < 5
        alike = known.op[0] == fact.op[0]
        return (True if at_bound or beyond else None) if alike else (None if at_bound and not beyond else False)
    if isinstance(fact, Passed) and fact.name in ("integer", "float", "startswith", "endswith"):
        return None
    return worth(fact, known.other) if isinstance(fact, Passed | Compared) else None


class Unreachable:
    """Looks at the routes in their order."""

    def __init__(self, sources: Sequence[str] | None) -> None:
        """`sources` are the names of all that there are; None: nobody knows."""
        self._sources = None if sources is None else frozenset((kind(""), name) for name in sources)
        self._earlier: dict[Any, list[tuple[Facts, Place]]] = defaultdict(list)
        """By destination and one of its facts, each case in which an event is taken."""
        self._about: dict[str, set[Key]] = defaultdict(set)
        self._left = MAX_STEPS

    def look(
        self, place: Place, to: Sequence[str], from_: Sequence[str] | None, tree: Any, same: str
    ) -> Never | list[Place] | None:
        """Why no event can reach the route: its condition, or earlier routes; None when one can, as far as is known.

        `tree` is its condition (None: it has none), for which `same` stands as a whole.
        """
        found = Cases([frozenset()], {}) if tree is None else cases_of(tree, same)
        given = [] if from_ is None else [OneOf(SOURCE, frozenset((kind(""), name) for name in from_))]
        offsets = found.offsets
        cases = [
            Case([*given, *sorted(facts, key=lambda fact: offsets.get(fact, 0))], self._sources)
            for facts in found.cases
        ]
        able = [case for case in cases if case.conflict is None]
        if not able:
            return self._never(cases[0].conflict, offsets)
        by = [self._covering(destination, case, 2) for destination in to for case in able]
        for destination in to:
            for case in able:
                self._add(destination, case, place)
        return None if None in by else sorted({one for some in by for one in some or ()})

    def _never(self, conflict: Fact | None, offsets: dict[Fact, int]) -> Never | None:
        if conflict is None:
            return None
        named = conflict.options if isinstance(conflict, OneOf) and conflict.of == SOURCE else frozenset()
        unknown = named - (named if self._sources is None else self._sources)
        return Never(offsets.get(conflict, 0), conflict.of, tuple(sorted(str(name) for _, name in unknown)))

    def _add(self, destination: str, case: Case, place: Place) -> None:
        shelves = [_shelves(fact) for fact in case.facts] or [[()]]
        for shelf in min(shelves, key=lambda some: max(len(self._earlier[destination, *one]) for one in some)):
            self._earlier[destination, *shelf].append((case.facts, place))
        self._about[destination].update(fact.of for fact in case.facts)

    def _covering(self, destination: str, case: Case, depth: int) -> list[Place] | None:
        """The routes that take every event of the case; None when some may be left."""
        shelves: list[tuple[Any, ...]] = [()]
        for of in dict.fromkeys([*case.options, *(fact.of for fact in case.facts)]):
            shelves += [(of,), *((of, option) for option in list(case.options.get(of, ()))[:1])]
        for shelf in shelves:
            for facts, place in self._earlier.get((destination, *shelf), ()):
                if not self._spend(1 + len(facts)):
                    return None
                if all(case.holds(fact) for fact in facts):
                    return [place]
        for of, options in case.options.items() if depth else ():
            if of in self._about[destination] and 1 < len(options) <= MAX_OPTIONS:
                by: dict[Place, None] = {}
                for option in sorted(options, key=repr):
                    if not self._spend(1 + len(case.facts)):
                        return None
                    part = Case([*case.facts, OneOf(of, frozenset({option}))], self._sources)
                    found = [] if part.conflict else self._covering(destination, part, depth - 1)
                    if found is None:
                        break
                    by |= dict.fromkeys(found)
                else:
                    return list(by)
        return None

    def _spend(self, steps: int) -> bool:
        self._left -= steps
        return self._left >= 0


def _shelves(fact: Fact) -> list[tuple[Any, ...]]:
    """Where a case that needs the fact is looked for: with one of the constants, or by what it is about."""
    if isinstance(fact, OneOf) and len(fact.options) <= MAX_OPTIONS:
        return [(fact.of, option) for option in fact.options]
    return [(fact.of,)]
