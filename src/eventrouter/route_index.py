"""Finds the routes that may match an event by what their conditions require, so that the others cost nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .events import Event
from .requirements import Path
from .values import MISSING

if TYPE_CHECKING:
    from .route import CompiledRoute

MAX_PATHS = 8
"""How many values of an event are looked at, at most."""
MAX_PLANS = 4096
"""How many combinations of those values are remembered, at most."""

_INDEXED = frozenset({str, int, float, type(None)})
"""The types of the constants by which routes are found; true is not among them, which Python takes for 1."""


class Group:
    """Destinations that try the same routes in the same order."""

    __slots__ = ("destinations", "routes")

    def __init__(self, destinations: list[str], routes: list[CompiledRoute]) -> None:
        self.destinations = destinations
        self.routes = routes


class RouteIndex:
    """The routes by their sources, and by the value on which each depends most (mostly `event` or `type`).

    An event's values that no route mentions are one and the same here, so the number of combinations is finite.
    """

    def __init__(self, routes: Sequence[CompiledRoute], destinations: Sequence[str]) -> None:
        self._routes = routes
        self._destinations = destinations
        self._sources = frozenset(source for route in routes for source in route.config.from_ or ())
        chosen = _choose([route.condition.required if route.condition else {} for route in routes])
        self._paths = sorted({path for path in chosen if path is not None})
        self._mentioned: dict[Path, set[Any]] = {path: set() for path in self._paths}
        self._keyed: dict[Path, dict[Any, list[int]]] = {path: defaultdict(list) for path in self._paths}
        self._open: list[int] = []
        for number, (route, path) in enumerate(zip(routes, chosen, strict=True)):
            if path is None or route.condition is None:
                self._open.append(number)
                continue
            for value in route.condition.required[path]:
                self._mentioned[path].add(value)
                self._keyed[path][value].append(number)
        self._tops = [(path, path[0], path[1:]) for path in self._paths]
        self._plans: dict[tuple[Any, ...], list[Group]] = {}

    def groups(self, event: Event, source: str) -> list[Group]:
        """The destinations that may get the event, with the routes that may match it, in order."""
        key: list[Any] = [source if source in self._sources else None]
        for path, top, rest in self._tops:
            value: Any = source if path == ("source",) else event.get(top, MISSING)
            for name in rest:
                value = value.get(name, MISSING) if type(value) is dict else MISSING
            key.append(value if type(value) in _INDEXED and value in self._mentioned[path] else MISSING)
        plan = tuple(key)
        found = self._plans.get(plan)
        if found is None:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            found = self._plans[plan] = self._planned(plan)
        return found

    def _planned(self, plan: tuple[Any, ...]) -> list[Group]:
        source, *values = plan
        numbers = set(self._open)
        for path, value in zip(self._paths, values, strict=True):
            if value is not MISSING:
                numbers.update(self._keyed[path][value])
        tried: dict[str, list[int]] = {}
        closed: set[str] = set()
        enabled = set(self._destinations)
        for number in sorted(numbers):
            route = self._routes[number]
            if route.config.from_ is not None and source not in route.config.from_:
                continue
            for name in route.config.to:
                if name in enabled and name not in closed:
                    tried.setdefault(name, []).append(number)
                    if route.when is None:
                        closed.add(name)
        grouped: dict[tuple[int, ...], list[str]] = {}
        for name, order in tried.items():
            grouped.setdefault(tuple(order), []).append(name)
        return [Group(names, [self._routes[number] for number in order]) for order, names in grouped.items()]


def _choose(all_required: Sequence[Mapping[Path, frozenset[Any]]]) -> list[Path | None]:
    """For each route the path to look it up by: of those that it requires, the one that tells most routes apart."""
    values: dict[Path, set[Any]] = defaultdict(set)
    for required in all_required:
        for path, constants in required.items():
            values[path] |= constants
    best = sorted(values, key=lambda path: (-len(values[path]), path))[:MAX_PATHS]
    return [next((path for path in best if path in required), None) for required in all_required]
