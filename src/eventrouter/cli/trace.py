"""`eventrouter trace`: the whole story of one event."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import EventRouterError, UnavailableError
from .common import ConfigOption, DataDirOption, JsonOption, opened, print_json, reach, read_settings
from .terminal import terminal

if TYPE_CHECKING:
    from rich.console import Console

    from ..app import EventRouter

STYLES = {"delivered": "green", "dead": "red", "waiting": "yellow", "unknown": "yellow"}


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def trace(
        message_id: Annotated[str, typer.Argument(metavar="MESSAGE_ID", help="The event's messageId.")],
        source: Annotated[
            str | None, typer.Option("--source", help="Only the event of this source.", show_default=False)
        ] = None,
        as_json: JsonOption = False,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """Tell the story of an event: when it came, whose it is, where it is, what became of it at each destination.

        It is looked for in the warehouse, in the event log and in what waits; attempts are known for a while. What
        can't be known any more is told by the rules that routed it. Exit code 1: nothing is known of it.
        """
        settings = read_settings(config=config, data_dir=data_dir)

        async def ask() -> dict[str, Any]:
            async with opened(settings, connect=False, reads_only=True) as router:
                return await _trace(router, message_id, source)

        found = asyncio.run(ask())
        if as_json:
            print_json(found)
        else:
            _show(found)
        if not (found["events"] or found["rejected"]):
            raise typer.Exit(1)


async def _trace(router: EventRouter, message_id: str, source: str | None) -> dict[str, Any]:
    """Whatever Redis and the warehouse know; one of them may be away."""
    from redis.exceptions import RedisError

    from ..fates import Fates
    from ..trace import Tracer

    away: list[str] = []
    snapshot = redis = warehouse = None
    try:
        await reach(router)
        snapshot, redis = await router.snapshot(), router.redis
    except (EventRouterError, RedisError, OSError, TimeoutError) as error:
        away.append(f"Redis: {error}")
    try:
        warehouse = await router.warehouse()
    except (EventRouterError, OSError, TimeoutError) as error:
        away.append(f"the warehouse: {error}")
    if len(away) == 2:
        hint = "start them, or name yours with --data-dir, EVENTROUTER_REDIS_URL and `warehouse:` in routes.yaml"
        raise UnavailableError(f"nobody can be asked; {'; '.join(away)}", hint=hint)
    lanes = snapshot.lanes if snapshot else router.config.destinations
    names = [name for name in lanes if name not in ("log", "warehouse")]
    fates = Fates(router.router, router.config, snapshot)
    sources = [source] if source else list(router.config.sources)
    found = await Tracer(fates, names, router.settings.shards, redis, warehouse).trace(message_id, sources)
    if source:
        for part in ("events", "rejected"):
            found[part] = [one for one in found[part] if one["source"] == source]
    return found | {"rules": router.config.version, "not_asked": away}


def _show(found: Mapping[str, Any]) -> None:
    from rich.text import Text

    console = terminal()
    for event in found["events"]:
        what = f"{event['type']} “{event['name']}”" if event["name"] else str(event["type"])
        console.print(Text.assemble((what, "bold"), f" {found['message_id']} from {event['source']}"))
        _show_facts(console, _facts(event, found["rules"]))
        for fate in event["destinations"]:
            _show_fate(console, fate)
        console.print()
    for one in found["rejected"]:
        console.print(Text.assemble(("refused", "bold red"), f" at {one['received_at']} from {one['source']}"))
        console.print(Text(f"  {one['code']}: {one['message']}"))
    if not found["events"] and not found["rejected"]:
        _show_nothing(console, found)
    for away in found["not_asked"]:
        console.print(Text(f"Not asked, since it is away: {away}", "yellow"))
    if found["not_looked"]:
        text = "Very much waits, so that these were not looked through to the end: "
        console.print(Text(text + ", ".join(found["not_looked"]), "yellow"))


def _facts(event: Mapping[str, Any], rules: str) -> Iterable[tuple[str, str]]:
    happened = "" if event["timestamp"] == event["received_at"] else f", happened {event['timestamp']}"
    yield "received", f"{event['received_at']}{happened}"
    yield "is", f"{event['state']} (shard {event['shard']})"
    if event["person_id"]:
        today = event["person_today"]
        yield "person", event["person_id"] + (f", today {today}" if today not in (None, event["person_id"]) else "")
    if event["rules"]:
        yield "rules", event["rules"] + (" (as in use)" if event["rules"] == rules else f" (in use: {rules})")


def _show_facts(console: Console, facts: Iterable[tuple[str, str]]) -> None:
    from rich.text import Text

    for name, value in facts:
        console.print(Text.assemble((f"  {name:<10}", "dim"), value))


def _show_fate(console: Console, fate: Mapping[str, Any]) -> None:
    from rich.text import Text

    state = f"dead ({fate['class']})" if fate["class"] and fate["state"] == "dead" else fate["state"]
    parts = [fate["at"] or "", _times(fate["attempts"], fate["state"])]
    parts.append(f"HTTP {fate['status']}" if fate["status"] and str(fate["status"]) not in fate["reason"] else "")
    parts.append(fate["reason"])
    parts.append(f"next try {fate['next_try_at']}" if fate["next_try_at"] else "")
    told = ", ".join(filter(None, parts))
    style = STYLES.get(fate["state"], "")
    console.print(Text.assemble(f"  {fate['destination']:<10}", (state, style), f": {told}" if told else ""))
    for one in fate["history"]:
        if one["outcome"] == "retry":
            line = f"attempt {one['attempts']} at {_time(one['at_ms'])} failed: {one['reason']}"
            console.print(Text(f"            {line}", "dim"))


def _show_nothing(console: Console, found: Mapping[str, Any]) -> None:
    from rich.text import Text

    console.print(Text(f"Nothing is known of an event {found['message_id']}.", "bold"))
    for one in found["remembered"]:
        until = one["until"] or "now"
        console.print(
            f"  But its id is remembered as routed, for {one['source']}, between {one['since']} and {until}:"
            " `audit --deep` tells whether ids are missing in the warehouse."
        )
    if found["not_asked"]:
        console.print("  But not everything could be asked:")
    elif not found["remembered"]:
        console.print(
            "  It is neither in the warehouse nor on its way there, and was not refused. It may lie in a collector's"
            " spool (its /metrics tell), have another messageId, or never have arrived."
        )


def _times(attempts: int | None, state: str) -> str:
    if not attempts:
        return ""
    if state == "delivered":
        return f"at attempt {attempts}"
    return f"tried {attempts} time{'' if attempts == 1 else 's'}"


def _time(ms: int) -> str:
    from datetime import timedelta

    from ..times import EPOCH, write_time

    return write_time(EPOCH + timedelta(milliseconds=ms))
