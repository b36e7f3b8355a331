"""`eventrouter dead`: deliveries that were given up, and sending them again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..records import DEAD_LETTER_CLASSES
from .common import (
    ConfigOption,
    DataDirOption,
    JsonOption,
    counted,
    opened,
    print_json,
    print_table,
    read_settings,
    read_time,
)

if TYPE_CHECKING:
    from ..app import EventRouter

PAGE = 500
"""Dead letters that are read and sent at once."""

DestinationOption = Annotated[str | None, typer.Option("--destination", help="Only for this destination.")]
ClassOption = Annotated[
    str | None,
    typer.Option("--class", help=f"Only of this class: {', '.join(DEAD_LETTER_CLASSES)}."),
]
SinceOption = Annotated[
    str | None, typer.Option("--since", help="Last tried at or after: 2h (ago), 2026-11-24, 2026-11-24T17:00 (UTC).")
]
UntilOption = Annotated[str | None, typer.Option("--until", help="Last tried before.")]
EventOption = Annotated[str | None, typer.Option("--event", help="Only for events of this name.")]


def register(app: typer.Typer) -> None:
    """Adds `dead list` and `dead replay`."""
    dead = typer.Typer(no_args_is_help=True, help="Deliveries that are not tried again by themselves (dead letters).")
    app.add_typer(dead, name="dead")

    @dead.command("list")
    def list_(
        destination: DestinationOption = None,
        class_: ClassOption = None,
        since: SinceOption = None,
        until: UntilOption = None,
        event: EventOption = None,
        replayed: Annotated[bool, typer.Option("--replayed", help="Those too that were sent again.")] = False,
        limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 100,
        as_json: JsonOption = False,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """List dead letters, the oldest first, with the reason of each."""
        filters = _filters(destination, class_, since, until, event) | {"replayed": replayed}
        settings = read_settings(config=config, data_dir=data_dir)

        async def ask() -> list[dict[str, Any]]:
            async with opened(settings, connect=False) as router:
                return await find(router, filters, limit)

        rows = asyncio.run(ask())
        if as_json:
            print_json(rows)
        elif not rows:
            typer.echo("There are no such dead letters.")
        else:
            columns = ["last_at", "destination", "class", "event", "attempts", "message_id", "reason"]
            print_table(columns, [[_cell(row, column) for column in columns] for row in rows])
            if len(rows) == limit:
                typer.echo(f"There may be more: these are the first {limit} (--limit).")

    @dead.command()
    def replay(
        destination: DestinationOption = None,
        class_: ClassOption = None,
        since: SinceOption = None,
        until: UntilOption = None,
        event: EventOption = None,
        limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many. [default: all]")] = None,
        as_was: Annotated[
            bool, typer.Option("--as-was", help="With the payload of then, not by today's rules.")
        ] = False,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
        as_json: JsonOption = False,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """Send dead letters again, by today's rules. Their order is not kept; their idempotency keys are."""
        filters = _filters(destination, class_, since, until, event)
        settings = read_settings(config=config, data_dir=data_dir)

        async def main() -> tuple[int, list[tuple[str, str]]]:
            async with opened(settings) as router:
                rows = await find(router, filters, limit)
                if rows and not yes:
                    counts = Counter(str(row.get("destination")) for row in rows)
                    what = ", ".join(f"{number} to {name}" for name, number in sorted(counts.items()))
                    typer.confirm(f"Send {counted(len(rows), 'dead letter')} again ({what})?", abort=True, err=True)
                return await send(router, rows, as_was=as_was)

        sent, skipped = asyncio.run(main())
        reasons = Counter(why for _, why in skipped)
        if as_json:
            print_json({"sent": sent, "skipped": [{"message_id": each, "reason": why} for each, why in skipped]})
            return
        typer.echo(f"Sent {counted(sent, 'dead letter')} again, skipped {len(skipped)}.")
        for why, number in reasons.most_common():
            typer.echo(f"  {number}: {why}")


async def find(router: EventRouter, filters: dict[str, Any], limit: int | None) -> list[dict[str, Any]]:
    """The dead letters that fit, up to `limit` (None: all), read page by page. Raises `typer.BadParameter`."""
    rows: list[dict[str, Any]] = []
    after = None
    await _check_destination(router, filters["destination"])
    while limit is None or len(rows) < limit:
        size = PAGE if limit is None else min(PAGE, limit - len(rows))
        page = await router.dead_letters(**filters, limit=size, after=after)
        rows += page
        if len(page) < size:
            break
        last = page[-1]
        after = (last["last_at"], last["source"], last["message_id"], last["destination"])
    return rows


async def send(router: EventRouter, rows: list[dict[str, Any]], *, as_was: bool) -> tuple[int, list[tuple[str, str]]]:
    """Sends them again with a progress bar on stderr; returns the number sent, and (message id, why) of the others."""
    from rich.console import Console
    from rich.progress import track

    sent = 0
    skipped: list[tuple[str, str]] = []
    pages = [rows[first : first + PAGE] for first in range(0, len(rows), PAGE)]
    console = Console(stderr=True)
    for page in track(pages, "Sending again", console=console, disable=not console.is_terminal, transient=True):
        done, left = await router.replay(page, as_was=as_was)
        sent += done
        skipped += left
    return sent, skipped


async def _check_destination(router: EventRouter, name: str | None) -> None:
    """A name that neither the rules nor a dead letter know is a mistake: nothing found would be taken for good news."""
    if name is None or name in router.config.destinations:
        return
    if await router.dead_letters(destination=name, replayed=True, limit=1):
        return
    stored = {str(row["destination"]) for row in await router.dead_letters(replayed=True, limit=PAGE)}
    raise _unknown("destination", name, sorted({*router.config.destinations, *stored}))


def _unknown(what: str, name: str, known: Sequence[str]) -> typer.BadParameter:
    from ..config_reader import did_you_mean

    hint = did_you_mean(name, known, "there are") or f"there are no {what}s"
    return typer.BadParameter(f"there is no {what} {name}; {hint}", param_hint=f"--{what}")


def _filters(
    destination: str | None, class_: str | None, since: str | None, until: str | None, event: str | None
) -> dict[str, Any]:
    if class_ is not None and class_ not in DEAD_LETTER_CLASSES:
        raise _unknown("class", class_, DEAD_LETTER_CLASSES)
    return {
        "destination": destination,
        "class_": class_,
        "since": read_time(since),
        "until": read_time(until),
        "event": event,
    }


def _cell(row: dict[str, Any], column: str) -> Any:
    if column == "event":
        return row.get("event_name") or row.get("event_type")
    return row.get(column)
