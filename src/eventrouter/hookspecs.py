"""The whole plugin surface on one page.

A plugin is an installed package with an entry point in the group `eventrouter` whose module (or object) implements any
of these hooks, marked with `eventrouter.hookimpl`. The `register_` hooks run once at start-up and hand over objects;
the path of an event calls those objects, never a hook.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from .destination import Destination
from .enrichment import Enrichment
from .warehouse import Warehouse

if TYPE_CHECKING:
    import typer

hookspec = pluggy.HookspecMarker("eventrouter")
hookimpl = pluggy.HookimplMarker("eventrouter")


@hookspec
def register_destinations() -> Sequence[type[Destination]]:  # type: ignore[empty-body]
    """Destination classes; `name` of each is what `plugin:` in routes.yaml refers to."""


@hookspec
def register_enrichments() -> Sequence[type[Enrichment]]:  # type: ignore[empty-body]
    """Enrichment classes; each runs over every batch before it is routed, identity first."""


@hookspec
def register_warehouses() -> Sequence[type[Warehouse]]:  # type: ignore[empty-body]
    """Warehouse back ends, chosen by the scheme of `warehouse.url`."""


@hookspec
def register_template_filters() -> Mapping[str, Callable[..., Any]]:  # type: ignore[empty-body]
    """Filters for the expressions and templates of routes.yaml, by name; pure functions of JSON values."""


@hookspec
def register_commands(app: typer.Typer) -> None:
    """Adds commands to the command line: `app` is the root of `eventrouter …`."""


@hookspec
def attempt_finished(
    destination: str, shard: int, delivered: int, retried: int, dead: int, seconds: float, reason: str
) -> None:
    """After each attempt, with the number of deliveries by outcome and `reason` (empty when all is well). Be quick."""


@hookspec
def event_dropped(source: str, message_id: str, destination: str, reason: str) -> None:
    """A delivery became a dead letter, for `reason`. Be quick: it runs in the worker's event loop."""
