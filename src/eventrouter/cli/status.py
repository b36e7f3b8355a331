"""`eventrouter status`: what is going on."""

from __future__ import annotations

import asyncio
from typing import Any

import typer

from ..errors import ConfigError
from .common import ConfigOption, DataDirOption, JsonOption, opened, print_json, print_table, read_settings
from .common import short_duration as duration


def register(app: typer.Typer) -> None:
    """Adds `status`."""

    @app.command()
    def status(as_json: JsonOption = False, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
        """Show sources, the event log and destinations: what came, what waits, what failed and why.

        For each destination: events routed = delivered + waiting + filtered + dead (letters that were not sent again).
        The warehouse counts records: events, and what is told of them, such as dead letters and merged persons.
        """
        settings = read_settings(config=config, data_dir=data_dir)

        async def ask(*, rules: bool = True) -> dict[str, Any]:
            async with opened(settings, rules=rules) as router:
                return await router.status()

        try:
            found = asyncio.run(ask())
        except ConfigError as error:
            found = asyncio.run(ask(rules=False))
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
    typer.echo(
        f"Rules {found.get('rules') or 'unknown'}, {found.get('shards')} shards, duplicates are known back to"
        f" {duration(found.get('dedup_window_seconds') or 0.0)} ago"
    )
    for line in _processes(found):
        typer.echo(line)
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
        ["destination", "state", "waiting", "delivered", "filtered", "dead", "oldest", "reason"],
        [
            (
                f"{name} (records)" if row.get("unit") == "records" else name,
                row.get("state"),
                row.get("waiting"),
                row.get("delivered"),
                _total(row.get("filtered")),
                _total(row.get("dead")),
                duration(row.get("oldest_seconds")),
                _reason(row),
            )
            for name, row in found.get("destinations", {}).items()
        ],
    )


def _processes(found: dict[str, Any]) -> list[str]:
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


def _reason(row: dict[str, Any]) -> str:
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


def _total(counts: Any) -> int:
    return sum(counts.values()) if isinstance(counts, dict) else int(counts or 0)
