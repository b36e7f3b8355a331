"""`eventrouter preview`: what new rules would do to the events of the warehouse."""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import (
    ConfigOption,
    DataDirOption,
    JsonOption,
    counted,
    opened,
    print_json,
    print_table,
    read_settings,
    read_window,
)
from .terminal import harmless, terminal
from .where import Where

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
        new: Annotated[Path, typer.Argument(metavar="NEW", help="The new rules file.")],
        last: Annotated[
            int, typer.Option("--last", min=1, help="How many events are looked at, at most: the newest.")
        ] = 10_000,
        since: Annotated[
            str | None,
            typer.Option("--since", help="Received at or after: 2h (ago), 2026-11-24, 2026-11-24T17:00 (UTC)."),
        ] = None,
        until: Annotated[str | None, typer.Option("--until", help="Received before.")] = None,
        where: Annotated[
            str | None, typer.Option("--where", help="Of these, only events that meet this condition, as in `when`.")
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
        from ..preview import Preview
        from ..route import Router

        window = read_window(since, until)
        settings = read_settings(config=config, data_dir=data_dir)
        plugins = Plugins.load()
        then = configuration.load(new, plugins, os.environ)
        hide_secrets(then)

        async def run() -> tuple[Preview, Where, Config]:
            async with opened(settings, connect=False, reads_only=True) as router:
                meant = Where(where, router.router.expressions)
                new_rules = Router(then, router.plugins.template_filters)
                found = Preview(router.router, new_rules, examples=examples)
                if found.destinations:
                    await _compare(found, router, window, last, meant)
                return found, meant, router.config

        found, meant, now = asyncio.run(run())
        if as_json:
            print_json(_report(found, meant, now, then))
        else:
            _print(found, meant, now, then, "" if window == (None, None) else " of that time")
        if fail_on_change and found.changed:
            raise typer.Exit(1)


async def _compare(
    found: Preview, router: EventRouter, window: tuple[datetime | None, datetime | None], last: int, meant: Where
) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    warehouse = await router.warehouse()
    since, until = window
    after: StoredEvent | None = None
    columns = TextColumn("events looked at"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=last)
        while meant.looked < last:
            limit = min(PAGE, last - meant.looked)
            page = await warehouse.scan_events(since=since, until=until, newest_first=True, limit=limit, after=after)
            if not page:
                return
            after = page[-1]
            found.add([event for event in page if meant(event)])
            bar.update(task, completed=meant.looked)


def _report(found: Preview, meant: Where, now: Config, then: Config) -> dict[str, Any]:
    from ..values import MISSING

    mask = now.mask | then.mask

    def outcome(one: Outcome) -> dict[str, Any]:
        if one.payload is not MISSING:
            return {"route": mask(one.route), "payload": mask.inside(one.payload, keys=True)}
        return {"reason": mask(one.reason), "failed": one.failed}

    def example(one: Example) -> dict[str, Any]:
        return {
            "source": one.event.source,
            "messageId": one.event.message_id,
            "now": outcome(one.now),
            "then": outcome(one.then),
        }

    return {
        "looked_at": meant.looked,
        "where_failed": sum(meant.failures.values()),
        "events": found.events,
        "rules": {"now": now.version, "then": then.version},
        "changed": found.changed,
        "same": found.same,
        "deliveries": {
            name: {side: found.delivered[name, side] for side in ("now", "then")} for name in found.destinations
        },
        "differences": [
            {
                "destination": destination,
                "route": mask(route),
                "what": what,
                "count": count,
                "examples": [example(one) for one in found.examples.get((destination, route, what), [])],
            }
            for (destination, route, what), count in found.changes.items()
        ],
        "failures": [
            {"destination": destination, "route": mask(route), "reason": mask(reason), "count": count}
            for (destination, route, reason), count in found.failures.items()
        ],
    }


def _print(found: Preview, meant: Where, now: Config, then: Config, when: str) -> None:
    from rich.text import Text

    from ..preview import KINDS

    console = terminal()
    if not found.destinations:
        console.print("No delivery differs: the rules are the same for each destination.")
        return
    console.print(_looked(found, meant, when))
    for reason, times in meant.failures.items():
        console.print(Text(f"--where failed for {counted(times, 'event')}: {reason}", "red"))
    if not found.events:
        return
    console.print(f"now {now.path} ({now.version}), then {then.path} ({then.version})")
    rows = []
    for name in found.destinations:
        numbers = [found.delivered[name, side] for side in ("now", "then")]
        numbers += [found.count(name, kind) for kind in KINDS]
        rows.append([name, *(f"{number:,}" for number in numbers)])
    print_table(["destination", "now", "then", *KINDS], rows)
    if found.same:
        console.print(f"The rules are the same for {', '.join(found.same)}.")
    if not found.changed:
        console.print("No delivery differs.")
    order = {name: number for number, name in enumerate(found.destinations)}
    for key in sorted(found.changes, key=lambda each: (order[each[0]], KINDS.index(each[2]))):
        _print_difference(console, found, now.mask | then.mask, *key)


def _looked(found: Preview, meant: Where, when: str) -> str:
    """Which events were compared."""
    if not meant.looked:
        return f"The warehouse has no events{when} to compare."
    looked = f" of {meant.looked:,} that were looked at" if found.events != meant.looked else ""
    if not found.events:
        return f"No event{looked} meets --where."
    events = "1 event" if found.events == 1 else f"{found.events:,} events"
    return f"{events}{looked}, received from {found.received[0]} to {found.received[1]}"


def _print_difference(console: Console, found: Preview, mask: Mask, destination: str, route: str, what: str) -> None:
    from rich.text import Text

    from ..differences import shown
    from ..preview import FAIL, VANISH
    from ..values import MISSING

    key = (destination, route, what)
    number = found.changes[key]
    verb = what if number != 1 else f"{what}{'es' if what == VANISH else 's'}"
    by = mask(f"sent by “{route}” now" if what == VANISH else f"by “{route}”")
    console.print(Text.assemble((f"{destination}: {number:,} {verb}", "bold"), f", {by}"))
    for (name, failing, reason), times in found.failures.items():
        if what == FAIL and (name, failing) == (destination, route):
            console.print(Text(f"  {times:,} {'time' if times == 1 else 'times'}: {mask(reason)}", "red"))
    for one in found.examples.get(key, []):
        console.print(Text(f"  {harmless(mask(_named(one.event)))}", "bold"))
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
