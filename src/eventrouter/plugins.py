"""Plugins: installed packages with an entry point in the group `eventrouter`; loaded, checked, listed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Any

import pluggy
from pydantic import BaseModel

from . import hookspecs
from .destination import Destination
from .enrichment import Enrichment
from .errors import EventRouterError
from .filters import FILTERS
from .warehouse import Warehouse

GROUP = "eventrouter"

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")


class PluginError(EventRouterError):
    """A plugin can't be used: `str(error)` names it and its package, `hint` says what to do."""


@dataclass(frozen=True, slots=True)
class _Origin:
    plugin: str
    package: str = ""
    version: str = ""

    def __str__(self) -> str:
        return f"plugin {self.plugin!r}" + (f" of the package {self.package} {self.version}" if self.package else "")

    @property
    def hint(self) -> str:
        if self.package in ("", "eventrouter"):
            return "correct the plugin, or leave it out"
        return f"upgrade it (pip install -U {self.package}), or take it out (pip uninstall {self.package})"


class Plugins:
    """The plugins in use. Raises `PluginError` when one of them is wrong; a wrong one is never left out silently.

    `Plugins(module, object, …)` takes plugin objects; `Plugins.load()` takes what is installed. What is installed and
    can't be imported is `broken`: whether that is an error depends on whether somebody uses it.
    """

    def __init__(self, *plugins: object) -> None:
        self.destinations: dict[str, type[Destination]] = {}
        """Destination classes by what `plugin:` in routes.yaml calls them."""
        self.warehouses: dict[str, type[Warehouse]] = {}
        """Warehouse back ends by the scheme of `warehouse.url`."""
        self.enrichments: list[type[Enrichment]] = []
        """Enrichments in the order in which they run: identity first."""
        self.template_filters: dict[str, Callable[..., Any]] = {}
        """Filters for expressions and templates by name."""
        self.hook: Any = None
        """pluggy's hook relay, for `register_commands`, `attempt_finished` and `event_dropped`."""
        self.broken: dict[_Origin, PluginError] = {}
        """What can't be imported, and why."""
        self._origins: dict[tuple[str, str], _Origin] = {}
        self._setup([(_Origin(getattr(plugin, "__name__", type(plugin).__name__)), plugin) for plugin in plugins])

    @classmethod
    def load(cls) -> Plugins:
        """All plugins of the installed packages."""
        loaded = cls()
        plugins = []
        for origin, entry in sorted(_found(), key=lambda one: (one[0].package != GROUP, one[0].plugin)):
            try:
                plugins.append((origin, entry.load()))
            except Exception as error:
                message = f"{origin} can't be imported from {entry.value}: {type(error).__name__}: {error}"
                loaded.broken[origin] = PluginError(message, hint=origin.hint)
                if origin.package == GROUP:
                    raise loaded.broken[origin] from error
        loaded._setup(plugins)
        return loaded

    def list(self) -> list[dict[str, str]]:
        """What there is: rows with name, kind, package, version and summary, ordered by kind and name.

        At the end, with `broken` as its kind, what can't be imported; its summary is why.
        """
        things: list[tuple[str, str, object]] = [
            *(("destination", name, cls) for name, cls in self.destinations.items()),
            *(("warehouse", scheme, backend) for scheme, backend in self.warehouses.items()),
            *(("enrichment", step.name, step) for step in self.enrichments),
            *(("filter", name, function) for name, function in self.template_filters.items()),
        ]
        rows = []
        for kind, name, thing in sorted(things, key=lambda row: row[:2]):
            origin = self._origins[kind, name]
            own = thing.__doc__ if inspect.isclass(thing) else inspect.getdoc(thing)
            summary = (own or "").strip().split("\n")[0]
            rows.append(
                {"name": name, "kind": kind, "package": origin.package, "version": origin.version, "summary": summary}
            )
        for origin, error in self.broken.items():
            row = {"name": origin.plugin, "kind": "broken", "package": origin.package, "version": origin.version}
            rows.append(row | {"summary": str(error)})
        return rows

    def _setup(self, plugins: Sequence[tuple[_Origin, object]]) -> None:
        manager = pluggy.PluginManager("eventrouter")
        manager.add_hookspecs(hookspecs)
        origins: dict[str, _Origin] = {}
        for origin, plugin in plugins:
            if inspect.isclass(plugin):
                raise PluginError(f"{origin} is a class; its hooks need a module or an object", hint=origin.hint)
            if origin.plugin in origins:
                raise PluginError(f"{origin} and {origins[origin.plugin]} have one name", hint=origin.hint)
            origins[origin.plugin] = origin
            try:
                manager.register(plugin, origin.plugin)
                manager.check_pending()
            except (pluggy.PluginValidationError, ValueError) as error:
                detail = str(error).strip().splitlines()
                message = f"{origin} does not fit the hooks: {' '.join(line.strip() for line in detail)}"
                raise PluginError(message, hint=f"compare it with eventrouter.hookspecs; {origin.hint}") from error
        self.hook = manager.hook
        for origin, destination in _registered(manager, origins, "register_destinations"):
            self._add_destination(origin, destination)
        for origin, warehouse in _registered(manager, origins, "register_warehouses"):
            self._add_warehouse(origin, warehouse)
        for origin, enrichment in _registered(manager, origins, "register_enrichments"):
            self._add_enrichment(origin, enrichment)
        for origin, pair in _registered(manager, origins, "register_template_filters"):
            self._add_filter(origin, *pair)
        self.enrichments.sort(key=lambda step: step.name != "identity")

    def _add_destination(self, origin: _Origin, cls: Any) -> None:
        _check_class(origin, cls, Destination, "destination", "deliver")
        self._claim(origin, "destination", cls.name)
        self.destinations[cls.name] = cls

    def _add_warehouse(self, origin: _Origin, cls: Any) -> None:
        _check_class(origin, cls, Warehouse, "warehouse", "deliver")
        if not cls.schemes:
            raise PluginError(f"{origin}: the warehouse {cls.__name__} has no `schemes`", hint=origin.hint)
        for scheme in cls.schemes:
            self._claim(origin, "warehouse", scheme)
            self.warehouses[scheme] = cls

    def _add_enrichment(self, origin: _Origin, cls: Any) -> None:
        _check_class(origin, cls, Enrichment, "enrichment", "patch", "enrich")
        self._claim(origin, "enrichment", cls.name)
        self.enrichments.append(cls)

    def _add_filter(self, origin: _Origin, name: Any, function: Any) -> None:
        if not isinstance(name, str) or not name.isidentifier() or not callable(function):
            raise PluginError(f"{origin}: the template filter {name!r} is not a function with a name", hint=origin.hint)
        if name in FILTERS or name in ("default", "d"):
            raise PluginError(f"{origin}: the template filter {name!r} has the name of a built-in", hint=origin.hint)
        self._claim(origin, "filter", name)
        self.template_filters[name] = function

    def _claim(self, origin: _Origin, kind: str, name: str) -> None:
        other = self._origins.get((kind, name))
        if other is not None:
            both = "twice" if other is origin else f"as does {other}"
            raise PluginError(f"{origin} registers the {kind} {name!r} {both}", hint=origin.hint)
        self._origins[kind, name] = origin


def _found() -> Iterator[tuple[_Origin, EntryPoint]]:
    """The entry points with where they come from. A package's metadata is read once: its whole text, each time."""
    packages: dict[Distribution | None, tuple[str, str]] = {None: ("", "")}
    for entry in entry_points(group=GROUP):
        if entry.dist is not None and entry.dist not in packages:
            metadata = entry.dist.metadata
            packages[entry.dist] = metadata["Name"], metadata["Version"]
        yield _Origin(entry.name, *packages[entry.dist]), entry


def _registered(
    manager: pluggy.PluginManager, origins: Mapping[str, _Origin], hook: str
) -> Iterator[tuple[_Origin, Any]]:
    """What each plugin returns from a hook, one thing at a time, in the order of the plugins."""
    by_name = {
        implementation.plugin_name: implementation for implementation in getattr(manager.hook, hook).get_hookimpls()
    }
    for name, origin in origins.items():
        if name not in by_name:
            continue
        try:
            result = by_name[name].function()
            things = list(result.items() if isinstance(result, Mapping) else result)
        except Exception as error:
            message = f"{origin} failed in {hook}(): {type(error).__name__}: {error}"
            raise PluginError(message, hint=origin.hint) from error
        for thing in things:
            yield origin, thing


def _check_class(origin: _Origin, cls: Any, base: type, kind: str, *methods: str) -> None:
    """Checks what the class says of itself, and that it defines one of the methods."""
    if not inspect.isclass(cls) or not issubclass(cls, base):
        message = f"{origin} registers {cls!r} as a {kind}, which is not a subclass of {base.__name__}"
        raise PluginError(message, hint=f"derive it from eventrouter's {base.__name__}; {origin.hint}")
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not _NAME.match(name):
        message = f"{origin}: the {kind} {cls.__name__} has the name {name!r}"
        raise PluginError(message, hint="`name` is 1 to 64 of a-z, 0-9, _ and -")
    defined = [method for method in methods if getattr(cls, method) is not getattr(base, method)]
    names = [f"{method}()" for method in methods]
    if not defined:
        message = f"{origin}: the {kind} {cls.__name__} does not define {' or '.join(names)}"
        raise PluginError(message, hint=origin.hint)
    if len(defined) > 1:
        message = f"{origin}: the {kind} {cls.__name__} defines both {' and '.join(names)}"
        raise PluginError(message, hint=f"one of them is enough; {origin.hint}")
    options = getattr(cls, "Options", None)
    if not inspect.isclass(options) or not issubclass(options, BaseModel):
        raise PluginError(f"{origin}: `Options` of the {kind} {cls.__name__} is not a pydantic model", hint=origin.hint)
