"""`eventrouter preview`: what new rules would do to the events of the warehouse."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import (
    ConfigOption,
    DataDirOption,
    JsonOption,
    opened,
    print_json,
    print_table,
    read_settings,
)
from .common import read_time as time_of

if TYPE_CHECKING:
    from rich.console import Console

    from ..app import EventRouter
    from ..config import Config
    from ..events import StoredEvent
    from ..masking import Mask
    from ..outcome import Outcome
    from ..preview import Example, Preview

PAGE = 1000
"""Events that are read and compared at once."""


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def preview(
        new: Annotated[Path, typer.Argument(help="The new rules file.")],
        last: Annotated[int, typer.Option("--last", min=1, help="At most so many events, the newest.")] = 10_000,
        since: Annotated[
            str | None,
            typer.Option("--since", help="Received at or after: 2h (ago), 2026-11-24, 2026-11-24T17:00 (UTC)."),
        ] = None,
        until: Annotated[str | None, typer.Option("--until", help="Received before.")] = None,
        where: Annotated[
            str | None, typer.Option("--where", help="Only events for which this condition holds, as in `when`.")
        ] = None,
        examples: Annotated[int, typer.Option("--examples", min=0, help="Examples of each kind of difference.")] = 2,
        fail_on_change: Annotated[
            bool, typer.Option("--fail-on-change", help="Exit code 1 when any delivery differs, for CI.")
        ] = False,
        as_json: JsonOption = False,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """Show what new rules would change, on real events: deliveries that appear, vanish or change, and why.

        The present rules and the new ones are applied to events of the warehouse. Nothing is sent.
        """
        from .. import config as configuration
        from ..hiding import hide_secrets
        from ..plugins import Plugins

        settings = read_settings(config=config, data_dir=data_dir)
        plugins = Plugins.load()
        then = configuration.load(new, plugins, os.environ)
        hide_secrets(then)
        window = (time_of(since), time_of(until))

        async def run() -> tuple[Preview, Config]:
            async with opened(settings, connect=False) as router:
                holds = _condition(where, router)
                return await _compare(router, then, window, last, holds, examples), router.config

        found, now = asyncio.run(run())
        if as_json:
            print_json(_report(found, now, then))
        else:
            _print(found, now, then)
        if fail_on_change and found.changed:
            raise typer.Exit(1)


def _condition(text: str | None, router: EventRouter) -> Callable[[StoredEvent], bool]:
    from ..expressions import ExpressionError

    if text is None:
        return lambda _: True
    try:
        condition = router.router.expressions.condition(text)
    except ExpressionError as error:
        hint = f" ({error.hint})" if error.hint else ""
        raise typer.BadParameter(f"--where {error}{hint}") from None
    return lambda event: condition(event.event, event.source)


async def _compare(
    router: EventRouter,
    then: Config,
    window: tuple[datetime | None, datetime | None],
    last: int,
    holds: Callable[[StoredEvent], bool],
    examples: int,
) -> Preview:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from ..preview import Preview
    from ..route import Router

    destinations = dict.fromkeys([*router.config.destinations, *then.destinations])
    found = Preview(router.router, Router(then, router.plugins.template_filters), destinations, examples=examples)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("comparing", total=last)
        async for events in _events(router, window, last, holds):
            found.add(events)
            bar.advance(task, len(events))
    return found


async def _events(
    router: EventRouter,
    window: tuple[datetime | None, datetime | None],
    last: int,
    holds: Callable[[StoredEvent], bool],
) -> AsyncIterator[list[StoredEvent]]:
    warehouse = await router.warehouse()
    since, until = window
    after: StoredEvent | None = None
    while last > 0:
        page = await warehouse.scan_events(since=since, until=until, newest_first=True, limit=PAGE, after=after)
        if not page:
            return
        after = page[-1]
        some = [event for event in page if holds(event)][:last]
        last -= len(some)
        if some:
            yield some


def _report(found: Preview, now: Config, then: Config) -> dict[str, Any]:
    from ..values import MISSING

    mask = now.mask | then.mask

    def outcome(one: Outcome) -> dict[str, Any]:
        if one.payload is not MISSING:
            return {"route": one.route, "payload": mask.inside(one.payload)}
        return {"reason": mask(one.reason), "failed": one.failed}

    def example(one: Example) -> dict[str, Any]:
        return {
            "source": one.event.source,
            "messageId": one.event.message_id,
            "now": outcome(one.now),
            "then": outcome(one.then),
        }

    return {
        "events": found.events,
        "rules": {"now": now.version, "then": then.version},
        "changed": found.changed,
        "deliveries": {
            name: {side: found.delivered[name, side] for side in ("now", "then")} for name in found.destinations
        },
        "differences": [
            {
                "destination": destination,
                "route": route,
                "what": what,
                "count": count,
                "examples": [example(one) for one in found.examples.get((destination, route, what), [])],
            }
            for (destination, route, what), count in found.changes.items()
        ],
        "failures": [
            {"destination": destination, "route": route, "reason": mask(reason), "count": count}
            for (destination, route, reason), count in found.failures.items()
        ],
    }


def _print(found: Preview, now: Config, then: Config) -> None:
    from rich.console import Console

    from ..preview import KINDS

    console = Console(soft_wrap=True, highlight=False)
    if not found.events:
        console.print("There are no such events in the warehouse.")
        return
    events = "1 event" if found.events == 1 else f"{found.events:,} events"
    console.print(f"{events}, received from {found.received[0]} to {found.received[1]}")
    console.print(f"now {now.path} ({now.version}), then {then.path} ({then.version})", highlight=False)
    rows = []
    for name in found.destinations:
        numbers = [found.delivered[name, side] for side in ("now", "then")]
        numbers += [found.count(name, kind) for kind in KINDS]
        rows.append([name, *(f"{number:,}" for number in numbers)])
    print_table(["destination", "now", "then", *KINDS], rows)
    if not found.changed:
        console.print("No delivery differs.")
    order = {name: number for number, name in enumerate(found.destinations)}
    for key in sorted(found.changes, key=lambda each: (order[each[0]], KINDS.index(each[2]))):
        _print_difference(console, found, now.mask | then.mask, *key)


def _print_difference(console: Console, found: Preview, mask: Mask, destination: str, route: str, what: str) -> None:
    from rich.text import Text

    from ..differences import shown
    from ..preview import FAIL, VANISH
    from ..values import MISSING

    key = (destination, route, what)
    number = found.changes[key]
    verb = what if number != 1 else f"{what}{'es' if what == VANISH else 's'}"
    by = f"sent by “{route}” now" if what == VANISH else f"by “{route}”"
    console.print(Text.assemble((f"{destination}: {number:,} {verb}", "bold"), f", {by}"))
    for (name, failing, reason), times in found.failures.items():
        if what == FAIL and (name, failing) == (destination, route):
            console.print(Text(f"  {times:,} times: {mask(reason)}", "red"))
    for one in found.examples.get(key, []):
        console.print(Text(f"  {_named(one.event)}", "bold"))
        if one.now.payload is MISSING or one.then.payload is MISSING:
            console.print(Text(f"    {mask(_told(one.now))} → {mask(_told(one.then))}"))
        for difference in one.differences():
            for sign, text, style in shown(difference):
                console.print(Text(f"    {sign} {mask(text)}", style))


def _named(event: StoredEvent) -> str:
    from ..events import event_name

    return " ".join(filter(None, [event.event["type"], event_name(event.event), event.message_id]))


def _told(outcome: Outcome) -> str:
    from ..values import MISSING

    return outcome.reason if outcome.payload is MISSING else f"delivered by “{outcome.route}”"
