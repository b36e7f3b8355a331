"""`eventrouter audit`: whether anything was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
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

if TYPE_CHECKING:
    from ..app import EventRouter
    from ..comparison import Comparison

COLUMNS = ("accepted", "in_log", "duplicates", "routed", "unreadable", "rejected")
"""What is told of a source's events; those that were rejected are none of the accepted ones."""
PARTS = ("delivered", "waiting", "filtered", "dead", "discarded", "forgotten")
"""What becomes of the events that are routed."""


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def audit(
        deep: Annotated[
            bool, typer.Option("--deep", help="Compare the ids that Redis remembers with those in the warehouse.")
        ] = False,
        since: Annotated[
            str | None,
            typer.Option(
                "--since", help="For --deep: routed at or after: 2h (ago), 2026-11-24, 2026-11-24T17:00 (UTC)."
            ),
        ] = None,
        until: Annotated[str | None, typer.Option("--until", help="For --deep: routed before.")] = None,
        recount: Annotated[
            bool,
            typer.Option(
                "--recount",
                help="Count what waits even where it is very much: Redis pauses about a second for each GB.",
            ),
        ] = False,
        as_json: JsonOption = False,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """Show that no event was lost: what came is what went, for each source and destination.

        accepted = in the log + duplicates + routed (+ unreadable), and for each destination routed = delivered +
        waiting + filtered + dead + discarded + forgotten. This holds at every moment, in each shard. Exit code 1: it
        does not; what is off is told, by how much, and what to do. Nothing is changed.
        """
        if (since or until) and not deep:
            raise typer.BadParameter("they choose the ids that --deep compares", param_hint="--since, --until")
        begin, end = read_window(since, until)
        bounds = {"since": begin, "until": end}
        settings = read_settings(config=config, data_dir=data_dir)

        async def ask() -> dict[str, Any]:
            # The sums need no rules, so that a broken file is no obstacle; the warehouse's address is in them.
            async with opened(settings, rules=deep) as router:
                return await _audit(router, recount=recount, **(bounds if deep else {}))

        found = asyncio.run(ask())
        if as_json:
            print_json(found)
        else:
            show(found)
        if not found["adds_up"]:
            raise typer.Exit(1)


async def _audit(router: EventRouter, *, recount: bool, **bounds: datetime | None) -> dict[str, Any]:
    from ..audit import read_counts, report_of

    shards = router.settings.shards
    report = report_of(await read_counts(router.lanes, shards, recount=recount))
    if bounds:
        report |= {"ids": await _compare(router, **bounds)}
        report["adds_up"] = report["adds_up"] and not report["ids"]["missing"]
    return report


async def _compare(router: EventRouter, **bounds: datetime | None) -> dict[str, Any]:
    """The comparison, with a progress bar on stderr."""
    import msgspec
    from rich.console import Console
    from rich.progress import Progress

    from ..comparison import compare

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("Comparing ids", total=None)
        found: Comparison = await compare(
            router.lanes,
            router.settings.shards,
            await router.warehouse(),
            progress=lambda done, total: progress.update(task, completed=done, total=total),
            **bounds,
        )
    report: dict[str, Any] = msgspec.to_builtins(found)
    return report


def show(found: Mapping[str, Any]) -> None:
    """The audit for a person."""
    events = found["events"]
    parts = [f"{name.replace('_', ' ')} {events[name]:,}" for name in ("in_log", "duplicates", "routed")]
    if events["unreadable"]:
        parts.append(f"unreadable {events['unreadable']:,}")
    typer.echo(f"Events: accepted {events['accepted']:,} = {' + '.join(parts)}")
    print_table(
        ["source", "accepted", "in log", "duplicates", "routed", "unreadable", "refused"],
        [(name, *(_number(row[one]) for one in COLUMNS)) for name, row in found["sources"].items()],
    )
    unknown = [f"{part.replace('_', ' ')} {number:,}" for part, number in found["unknown_source"].items() if number]
    if unknown:
        typer.echo(f"Of these nobody can tell the source: {', '.join(unknown)}.")
    off = {fault["what"] for fault in found["faults"]}
    print_table(
        ["destination", "routed", *PARTS, "again", "sum"],
        [
            (
                f"{name} (records)" if row["unit"] == "records" else name,
                *(_number(row[one]) for one in ("routed", *PARTS, "again")),
                "OFF" if f"destination {name}" in off else "ok",
            )
            for name, row in found["destinations"].items()
        ],
    )
    for name, row in found["destinations"].items():
        for part in PARTS[2:]:
            if row[part]:
                typer.echo(f"{name}, {part}: {', '.join(f'{why} {number:,}' for why, number in row[part].items())}")
    if found["not_counted"]:
        names = ", ".join(found["not_counted"])
        typer.echo(f"Very much waits for {names}: its number is that of the lane's counter (--recount counts it).")
    if not all(row["in_log_counted"] for row in found["sources"].values()):
        typer.echo("What a source has in the log is not counted, but what is left of its sum (--recount counts it).")
    _show_faults(found["faults"], found["shards"])
    if "ids" in found:
        _show_ids(found["ids"], found["destinations"])


def _show_faults(faults: Iterable[Mapping[str, Any]], shards: int) -> None:
    if not faults:
        typer.echo(f"Every sum adds up, in each of {counted(shards, 'shard')}.")
        return
    typer.echo("It does not add up:")
    for fault in faults:
        typer.echo(f"  {fault['message']}\n    = hint: {fault['hint']}")


def _show_ids(ids: Mapping[str, Any], destinations: Mapping[str, Any]) -> None:
    places = [("in the warehouse", "stored"), ("on the way there", "on_the_way"), ("refused by it", "refused")]
    found = ", ".join(f"{ids[name]:,} {place}" for place, name in places if ids[name] or name == "stored")
    if not ids["compared"]:
        typer.echo("\nNothing was compared: Redis remembers no ids that were routed in that time.")
    else:
        typer.echo(f"\nOf {ids['compared']:,} ids that were routed from {ids['since']} to {ids['until']}: {found}.")
    if ids["missing"]:
        typer.echo(
            f"MISSING in the warehouse: {counted(ids['missing'], 'id')}\n"
            "    = hint: rows that somebody has deleted count, too. Others can come from a backup of the warehouse, or"
            " once more from who sent them. Which ids they are is not known: Redis remembers digests"
        )
    elif ids["compared"]:
        typer.echo("None of them is missing. (What was routed earlier is not remembered: of that only the sums tell.)")
    if ids["strangers"]:
        some = ", ".join(f"{one[2]} of {one[1]}" for one in ids["examples"])
        typer.echo(
            f"Note: {ids['strangers']:,} events in the warehouse are not remembered as routed ({some}). Redis was"
            " restored from an older backup, or somebody else put them there. Sent again, they are delivered again."
        )
    for line in _dead_letters(ids["dead_letters"], destinations):
        typer.echo(line)


def _dead_letters(stored: Mapping[str, Any], destinations: Mapping[str, Any]) -> Iterable[str]:
    """Where the warehouse has other numbers of dead letters than were counted."""
    counted_ = {
        f"{name}:{class_}": number
        for name, row in destinations.items()
        for class_, number in row["dead"].items()
        if class_ != "unreadable"
    }
    for key in sorted({*counted_, *stored}):
        rows, on_the_way = stored.get(key, (0, 0))
        number = counted_.get(key, 0)
        if number != rows and not on_the_way:
            name, class_ = key.split(":", 1)
            yield (
                f"Note: {name} has {number:,} dead letters of the class {class_} by the counters, {rows:,} in the"
                " warehouse: one for each event, also where that died twice. Under load some may be on their way."
            )


def _number(value: Any) -> str:
    """Of reasons with their numbers: the sum. Nothing for 0."""
    number = sum(value.values()) if isinstance(value, dict) else value
    return f"{number:,}" if number else ""
