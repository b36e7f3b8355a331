"""`eventrouter status`: what is going on."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from ..errors import ConfigError
from .common import ConfigOption, DataDirOption, JsonOption, opened, print_json, print_table, read_settings
from .common import short_duration as duration


def register(app: typer.Typer) -> None:
    """Adds `status`."""

    @app.command()
    def status(
        watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing it, until Ctrl-C.")] = False,
        every: Annotated[
            float | None,
            typer.Option(
                "--every", metavar="SECONDS", min=0.5, help="How often to look (2); --watch too.", show_default=False
            ),
        ] = None,
        as_json: JsonOption = False,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """Show sources, the event log and destinations: what came, what waits, what failed and why.

        Rates are those of the last minute; with --watch those since the last look, a line for each with --json.
        For each destination: events routed = delivered + waiting + filtered + dead (letters that were not sent again).
        The warehouse counts records: events, and what is told of them, such as dead letters and merged persons.
        """
        from ..logs import mask

        settings = read_settings(config=config, data_dir=data_dir)
        if watch or every is not None:
            from .watch import watch as watch_it

            watch_it(settings, every or 2.0, as_json=as_json)
            return

        async def ask(problem: str = "") -> dict[str, Any]:
            async with opened(settings, broken=bool(problem)) as router:
                return {**await router.status(), "problem": mask(problem)}

        try:
            found = asyncio.run(ask())
        except ConfigError as error:
            found = asyncio.run(ask(f"the rules file can't be used: {error.problems[0]}"))
            more = f" (and {len(error.problems) - 1} more: `eventrouter check`)" if len(error.problems) > 1 else ""
            typer.echo(f"The rules file can't be used{more}:\n{error.problems[0]}\n", err=True)
        if as_json:
            print_json(found)
        else:
            show(found)


def show(found: dict[str, Any]) -> None:
    """The status for a person."""
    events = found.get("events", {})
    parts = [f"{name.replace('_', ' ')} {number}" for name, number in events.items()]
    typer.echo(f"Events: {', '.join(parts)}")
    if over := found.get("rates_over_seconds"):
        rates = ", ".join(f"{name} {rate(number)}" for name, number in found["per_second"].items())
        typer.echo(f"A second, over the last {duration(over)}: {rates}")
    typer.echo(
        f"Rules {rules_in_use(found)}, {found.get('shards')} shards, duplicates are known back to"
        f" {duration(found.get('dedup_window_seconds') or 0.0)} ago"
    )
    for line in process_lines(found):
        typer.echo(line)
    if memory := memory_line(found):
        typer.echo(memory)
    if (router := found.get("router", {})).get("reason"):
        typer.echo(f"Routing is failing: {router['reason']}")
    refused = [
        (source, reason, number)
        for source, row in found.get("sources", {}).items()
        for reason, number in row.get("rejected", {}).items()
    ]
    if refused:
        print_table(["source", "rejected for", "events"], refused)
    print_table(
        ["destination", "state", "sent/s", "failed/s", "waiting", "delivered", "filtered", "dead", "oldest", "reason"],
        [
            (
                f"{name} (records)" if row.get("unit") == "records" else name,
                row.get("state"),
                rate(row.get("per_second", {}).get("delivered")),
                rate(row.get("per_second", {}).get("failed") or None),
                row.get("waiting"),
                row.get("delivered"),
                total(row.get("filtered")),
                total(row.get("dead")),
                duration(row.get("oldest_seconds")),
                reason(row),
            )
            for name, row in found.get("destinations", {}).items()
        ],
    )


def rules_in_use(found: dict[str, Any]) -> str:
    """The version of the rules in use; with a broken file, those that the processes go on with."""
    own = str(found.get("rules") or "")
    if not found.get("problem"):
        return own or "unknown"
    there = sorted({one["rules"] for one in found.get("processes", [])})
    return f"{' and '.join(there) or own or 'unknown'} (the last good ones: the file can't be used)"


def process_lines(found: dict[str, Any]) -> list[str]:
    """Who works with other rules than those of the file, and why; or with other values of their variables."""
    from ..config_model import TEXT_DIGITS

    text = str(found.get("rules") or "")[:TEXT_DIGITS]
    versions = {one["rules"] for one in found.get("processes", []) if text and one["rules"].startswith(text)}
    lines = []
    for one in found.get("processes", []):
        who = f"The {one['kind']} {one['pid']} on {one['host']}"
        if one["problem"]:
            lines.append(f"{who} goes on with the rules {one['rules']}: {one['problem'].splitlines()[0]}")
        elif one["rules"] not in versions:
            lines.append(f"{who} has the rules {one['rules']}")
        elif len(versions) > 1:
            lines.append(f"{who} has the rules {one['rules']}: the values of variables are not the same for all")
    return lines


def memory_line(found: dict[str, Any]) -> str:
    """What is to be told of the server's memory; empty while there is much of it."""
    from ..lane import BUDGET_PERCENT
    from ..limits import NEAR

    memory = found.get("memory", {})
    if memory.get("budget_used", 0.0) < NEAR:
        return ""
    full = f"The server's memory is {memory['used_bytes'] / memory['max_bytes']:.0%} full"
    return f"{full}: from {BUDGET_PERCENT}% on events go to the collectors' spools"


def reason(row: dict[str, Any]) -> str:
    """What is to be told of a destination beside its numbers; empty when all is well."""
    return "; ".join(filter(None, [_why(row), *(f"{part:.0%} of {name} used" for name, part in _near(row))]))


def _near(row: dict[str, Any]) -> list[tuple[str, float]]:
    from ..limits import NEAR

    return [(name, part) for name, part in row.get("limits_used", {}).items() if part >= NEAR]


def _why(row: dict[str, Any]) -> str:
    if row.get("paused_at"):
        return f"since {row['paused_at'][:16]}{': ' if row['reason'] else ''}{row['reason']}"
    seconds = row.get("next_try_seconds")
    keys = row.get("parked_keys")
    if keys and not row.get("reason"):
        return f"{keys} order {'key waits' if keys == 1 else 'keys wait'}: {row.get('parked_reason') or ''}"
    return f"{row.get('reason') or ''}{f' (next try in {duration(seconds)})' if seconds is not None else ''}"


def total(counts: Any) -> int:
    """The sum of numbers by reason."""
    return sum(counts.values()) if isinstance(counts, dict) else int(counts or 0)


def rate(number: float | None) -> str:
    """`0`, `0.25`, `3.2`, `1,234` a second; empty for None."""
    if number is None:
        return ""
    return f"{number:.2g}" if number < 9.95 else f"{number:,.0f}"
