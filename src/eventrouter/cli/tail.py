"""`eventrouter tail`: what becomes of events, as it happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from .common import ConfigOption, DataDirOption, counted, is_unicode, opened, read_settings, read_time
from .terminal import harmless
from .where import Where

if TYPE_CHECKING:
    from ..app import EventRouter
    from ..events import StoredEvent
    from ..onlookers import Row
    from ..tail import Tail, Wanted

COLORS = {
    "accepted": "green", "rejected": "red", "duplicate": "yellow", "filtered": "bright_black", "retried": "yellow",
    "dead": "red", "state": "magenta",
}  # fmt: skip
HISTORY = 1000
"""How many events --since shows at most: the newest ones."""
GREET_SECONDS = 3.0
TELL_SECONDS = 5.0
"""How often it is told how much was not seen."""

SourceOption = Annotated[list[str] | None, typer.Option("--source", help="Only of this source.", show_default=False)]
TypeOption = Annotated[
    list[str] | None, typer.Option("--type", help="Only of this type: track, page, …", show_default=False)
]
EventOption = Annotated[
    list[str] | None, typer.Option("--event", help="Only of this event's or page's name.", show_default=False)
]
DestinationOption = Annotated[
    list[str] | None, typer.Option("--destination", help="Only what becomes of it there.", show_default=False)
]
OutcomeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--outcome",
        help="Only accepted, rejected, routed, duplicate, filtered, delivered, retried, dead or state.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Adds `tail`."""

    @app.command()
    def tail(
        source: SourceOption = None,
        type_: TypeOption = None,
        event: EventOption = None,
        destination: DestinationOption = None,
        outcome: OutcomeOption = None,
        where: Annotated[
            str | None, typer.Option("--where", metavar="EXPRESSION", help="Only events that meet this condition.")
        ] = None,
        user: Annotated[str | None, typer.Option("--user", help="Only events of this userId.")] = None,
        anonymous: Annotated[str | None, typer.Option("--anonymous", help="Only of this anonymousId.")] = None,
        since: Annotated[
            str | None, typer.Option("--since", help="Begin so long ago (2m), or at this time; else now.")
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each.")] = False,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """Show events as they come, and what becomes of them at each destination, until Ctrl-C.

        Nothing waits for it: what comes too fast to be shown is counted. Options may be given several times; then one
        of them is enough. Filtered events have a line of their own with --json, --destination or --outcome.
        """
        from ..onlookers import What

        if unknown := set(outcome or ()) - set(get_args(What)):
            known = ", ".join(get_args(What))
            raise typer.BadParameter(f"there is no outcome {min(unknown)}; there are {known}")
        settings = read_settings(config=config, data_dir=data_dir)
        begin = read_time(since)

        async def main() -> None:
            from ..tail import Wanted

            async with opened(settings) as router:
                condition = _condition(router, where, user, anonymous)
                wanted = Wanted(
                    sources=source or (),
                    types=type_ or (),
                    names=event or (),
                    destinations=destination or (),
                    whats=outcome or (),
                    condition=condition,
                )
                plain = None if as_json else Plain(filtered=bool(destination or outcome))
                await _show(router, wanted, begin, plain)

        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(main())


def _condition(
    router: EventRouter, where: str | None, user: str | None, anonymous: str | None
) -> Callable[[StoredEvent], bool] | None:
    ids = {name: value for name, value in (("userId", user), ("anonymousId", anonymous)) if value is not None}
    if where is None and not ids:
        return None
    holds = Where(where, router.router.expressions)
    return lambda one: all(one.event.get(name) == value for name, value in ids.items()) and holds(one)


async def _show(router: EventRouter, wanted: Wanted, begin: datetime | None, plain: Plain | None) -> None:
    from ..tail import Tail

    tail = Tail(router.redis, router.settings.shards, router.snapshot, int(begin.timestamp() * 1000) if begin else None)
    history = await _history(router, begin) if begin else []
    notes = Notes(tail, wanted, {f"{one.kind}:{one.host}:{one.pid}" for one in (await router.snapshot()).processes})
    async for rows in tail:
        if history:
            rows, history = sorted([*history, *rows], key=lambda row: row.at_ms), []
        shown = list(wanted.take(rows, time.monotonic()))
        lines = [_json(row) for row in shown] if plain is None else plain.lines(shown)
        if lines:
            typer.echo("\n".join(lines), color=False if os.environ.get("NO_COLOR") else None)
        for note in notes.new():
            typer.echo(note, err=True)


async def _history(router: EventRouter, begin: datetime) -> list[Row]:
    """The events since then, as the warehouse has them; none when it is away."""
    from ..errors import DeliveryError
    from ..onlookers import row_of

    try:
        warehouse = await router.warehouse()
        events = await warehouse.scan_events(since=begin, newest_first=True, limit=HISTORY)
    except DeliveryError as error:
        typer.echo(f"The warehouse is away, so events begin now: {error}", err=True)
        return []
    if len(events) == HISTORY:
        typer.echo(f"There were more events since then: these are the last {HISTORY:,}", err=True)
    return [row_of(_ms(one.event["receivedAt"]), "accepted", one) for one in events]


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


class Notes:
    """What is to be said beside what is shown: who shows what they do, and what was not seen."""

    def __init__(self, tail: Tail, wanted: Wanted, expected: set[str]) -> None:
        self._tail = tail
        self._wanted = wanted
        self._expected = expected
        self._greet_at: float | None = time.monotonic() + GREET_SECONDS
        self._problem = ""
        self._told: dict[str, int] = {}
        self._told_at = 0.0

    def new(self) -> list[str]:
        """What has not been said yet."""
        notes = []
        if self._greet_at is not None and (self._expected <= self._tail.processes or time.monotonic() > self._greet_at):
            self._greet_at = None
            there = [name.split(":")[0] for name in self._tail.processes]
            who = [counted(there.count(kind), kind) for kind in ("collector", "worker") if kind in there]
            notes.append(f"Looking on at {' and '.join(who) or 'nobody: no collector or worker answers'}")
            notes += [f"{one} does not answer" for one in sorted(self._expected - self._tail.processes) if who]
        if self._tail.problem != self._problem:
            self._problem = self._tail.problem
            notes.append(f"Redis is away: {self._problem}" if self._problem else "Redis is back")
        if time.monotonic() - self._told_at < TELL_SECONDS:
            return notes
        for number, text in (
            (self._tail.skipped, "{:,} came too fast to be shown"),
            (self._tail.skipped_bytes, "about {:,} bytes of outcomes came too fast to be read"),
            (self._wanted.unknown, "{:,} outcomes are of events that came before"),
        ):
            if number > self._told.get(text, 0):
                notes.append(f"({text.format(number - self._told.get(text, 0))})")
                self._told[text], self._told_at = number, time.monotonic()
        return notes


def _json(row: Row) -> str:
    import msgspec

    from ..times import EPOCH, write_time

    at = write_time(EPOCH + timedelta(milliseconds=row.at_ms))
    found: dict[str, Any] = {"at": at, **msgspec.to_builtins(row)}
    del found["at_ms"]
    return json.dumps(found, ensure_ascii=not is_unicode())


class Plain:
    """Rows as lines for a person."""

    def __init__(self, *, filtered: bool) -> None:
        """`filtered`: whether what is filtered has lines of its own; the line of its routing tells it in any case."""
        self._filtered = filtered

    def lines(self, rows: Sequence[Row]) -> list[str]:
        """A line for each row; nothing in it is taken for control characters."""
        return [self._line(row) for row in rows if self._filtered or row.what != "filtered"]

    def _line(self, row: Row) -> str:
        event = f"{row.type} {json.dumps(row.name, ensure_ascii=False)}" if row.name else row.type
        what = typer.style(f"{row.what:<9}", fg=COLORS.get(row.what))
        parts = [
            f"{datetime.fromtimestamp(row.at_ms / 1000).astimezone():%H:%M:%S.%f}"[:12],
            what,
            harmless(f"{row.destination or row.source:<12}"),
            harmless(event),
            harmless(row.message_id),
            harmless(self._detail(row)),
        ]
        return "  ".join(filter(None, parts))

    def _detail(self, row: Row) -> str:
        event = row.event or {}
        if row.what == "accepted":
            who = event.get("userId"), event.get("anonymousId")
            return f"user {who[0]}" if who[0] else f"anonymous {who[1]}" if who[1] else ""
        if row.what != "routed":
            return ": ".join(filter(None, (row.class_, row.reason)))
        by_reason: dict[str, list[str]] = {}
        for name, reason in row.filtered.items():
            by_reason.setdefault(reason, []).append(name)
        to = f"to {', '.join(row.to)}" if row.to else "to the warehouse alone"
        rest = [f"not to {', '.join(names)} ({reason})" for reason, names in by_reason.items()]
        person = event.get("person_id")
        return "; ".join([to, *rest, *([f"person {person}"] if person else [])])
