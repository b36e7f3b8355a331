"""`eventrouter explain`: what becomes of one event, and why."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import EventRouterError, StartError
from .common import ConfigOption, DataDirOption, JsonOption, UsageError, load_app, opened, print_json, read_settings
from .terminal import harmless, terminal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from ..app import EventRouter
    from ..events import StoredEvent
    from ..explain import Explanation

MAX_BYTES = 1_000_000
"""Of a file with an event."""
SHOWN = 100
"""How many characters of a value are shown."""

FIND = (
    "`eventrouter tail --since 1h` shows the messageIds of events, and the table `events` of the warehouse has them all"
)


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def explain(
        event: Annotated[
            str | None,
            typer.Argument(
                metavar="EVENT",
                help="A file with an event as JSON, - for stdin, or the messageId of a stored event.",
                show_default=False,
            ),
        ] = None,
        source: Annotated[
            str | None,
            typer.Option("--source", help="Whose event it is (of a file's: the first source).", show_default=False),
        ] = None,
        destination: Annotated[
            str | None, typer.Option("--destination", help="Only this destination.", show_default=False)
        ] = None,
        as_json: JsonOption = False,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """Explain what the rules make of an event: routes looked at, parts of conditions, payloads, requests.

        Nothing is sent. A stored event is read from the warehouse; no server is needed. An event of a file gets what
        enrichments add to one event by itself, so no `person_id`.
        """
        from ..enrichments import patched
        from ..events import StoredEvent
        from ..explain import Explainer

        if not event:
            raise UsageError(
                "explain needs an event",
                hint=f"give a file with an event as JSON, - for stdin, or the messageId of a stored event: {FIND}",
            )
        if event.lstrip().startswith("{"):
            raise UsageError("an event itself is no argument", hint="pipe it: echo '{…}' | eventrouter explain -")
        settings = read_settings(config=config, data_dir=data_dir)
        if event == "-" or _is_readable(event):
            router = load_app(settings)
            stored = asyncio.run(patched(router.config.enrichments.values(), _read_file(event, source, router)))
        elif event.endswith(".json"):
            raise typer.BadParameter(f"there is no file {event}")
        else:
            router, stored = asyncio.run(_find(event, source, settings))
        if destination is not None and destination not in router.config.destinations:
            names = ", ".join(router.config.destinations)
            raise typer.BadParameter(f"there is no destination {destination!r}; there are: {names}")

        async def explained() -> list[Explanation]:  # a plugin may want its loop
            explanations = Explainer(router.config, router.router).explain(stored)
            return [one for one in explanations if destination in (None, one.destination)]

        found = asyncio.run(explained())
        shown = StoredEvent(stored.source, router.config.mask.inside(stored.event, keys=True))
        if as_json:
            print_json(_report(shown, router.config.version, found))
        else:
            _print(shown, router.config.version, found)


def _known(source: str | None, router: EventRouter) -> str:
    sources = router.config.sources
    if source is not None and source not in sources:
        raise typer.BadParameter(f"there is no source {source!r}; there are: {', '.join(sources)}")
    return source or next(iter(sources))


def _is_readable(path: str) -> bool:
    """Whether there is a file, or a pipe, as of `<(…)`."""
    try:
        return Path(path).exists() and not Path(path).is_dir()
    except (OSError, ValueError):  # too long for a name, or none
        return False


def _bytes_of(path: str) -> bytes:
    """Raises `EventRouterError` where it can't be read, or doesn't end soon."""
    if path == "-" and not sys.stdin:
        raise EventRouterError("stdin is closed")
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if path == "-" else Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise EventRouterError(f"{path} can't be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        name = "stdin" if path == "-" else path
        raise EventRouterError(f"{name} has more than {MAX_BYTES:,} bytes: too many for an event")
    return data


def _read_file(path: str, source: str | None, router: EventRouter) -> StoredEvent:
    """The event of a file, accepted as the collector would. Raises `EventRouterError` that says why it wouldn't."""
    from datetime import UTC, datetime

    import msgspec

    from ..accept import accept
    from ..acceptance import BodyError
    from ..collecting import make_source
    from ..decode import decode
    from ..events import StoredEvent

    config = router.config
    known = make_source(config.sources[_known(source, router)], router.plugins.template_filters, config.vars)
    name = "stdin" if path == "-" else path
    try:
        data = _bytes_of(path)
        value = decode(data).value
        batch = isinstance(value, dict) and "batch" in value and "type" not in value
        if batch or isinstance(value, list):
            what = "batch" if batch else "list"
            raise EventRouterError(
                f"{name} is a {what} of events: one is wanted", hint="give one of them, in its braces"
            )
        body = b'{"batch":[' + data + b"]}"  # as it is: what isn't quite JSON is the collector's to refuse
        found = accept(body, endpoint="batch", source=known.name, received_at=datetime.now(UTC), scrub=known.scrub)
    except BodyError as error:
        raise EventRouterError(f"{name} is no event: {error}", hint="one JSON object, as a client sends it") from None
    for rejection in found.rejections:
        record = rejection.record
        raise EventRouterError(f"the collector would refuse this event: {record.message} ({record.code})")
    return msgspec.json.decode(found.events[0].data, type=StoredEvent)


async def _find(message_id: str, source: str | None, settings: Any) -> tuple[EventRouter, StoredEvent]:
    """The stored event with this messageId. Raises `EventRouterError` when there is none, or several."""
    import msgspec

    from ..events import StoredEvent

    try:
        async with opened(settings, connect=False, reads_only=True) as router:
            rows = await (await router.warehouse()).find_stored(message_id)
    except StartError as error:
        hint = f"give a file with an event as JSON; for a stored event {error.hint}"
        raise StartError(f"there is no file {message_id}, and {error}", hint=hint) from None
    sources = [row["source"] for row in rows]
    rows = [row for row in rows if source in (None, row["source"])]
    if len(rows) == 1:
        return router, StoredEvent(rows[0]["source"], msgspec.json.decode(rows[0]["payload"]))
    if rows:
        raise EventRouterError(f"there are events {message_id!r} of {', '.join(sources)}", hint="choose by --source")
    hint = f"there is one of {', '.join(sources)}" if sources else f"{FIND}; an event may be given as a JSON file, too"
    raise EventRouterError(
        f"there is no file and no event {message_id!r}{f' of {source}' if source else ''}", hint=hint
    )


def _report(event: StoredEvent, rules: str, found: list[Explanation]) -> dict[str, Any]:
    from ..values import MISSING

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items() if part is not MISSING}
        if isinstance(value, tuple) and hasattr(value, "_asdict"):
            return plain(value._asdict())
        return [plain(part) for part in value] if isinstance(value, tuple) else value

    destinations = []
    for one in found:
        report = plain(one._replace(requests=()))
        report["requests"] = [
            {name: getattr(request, name) for name in request.__struct_fields__} for request in one.requests
        ]
        destinations.append(report)
    return {"source": event.source, "event": event.event, "rules": rules, "destinations": destinations}


def _print(event: StoredEvent, rules: str, found: list[Explanation]) -> None:
    from rich.text import Text

    from ..events import event_name

    console = terminal()
    name = event_name(event.event)
    what = f"{event.event['type']} “{name}”" if name else str(event.event["type"])
    console.print(
        Text.assemble(
            (harmless(what), "bold"), f" {harmless(event.message_id)} from {event.source}, by the rules {rules}"
        )
    )
    for one in found:
        console.print()
        console.print(Text.assemble((one.destination, "bold"), f" ({one.plugin})"))
        _print_why(console, one)
        _print_outcome(console, event, one)


def _print_why(console: Console, one: Explanation) -> None:
    from rich.text import Text

    for look in one.looks:
        mark = ("  ✓ ", "green") if look.matches else ("  ✗ ", "red")
        why = f"  {look.why}" if look.why else ""
        console.print(Text.assemble(mark, look.route, (f"  {look.place}", "dim"), why))
        width = max((len(part.text) + 2 * part.depth for part in look.parts if not part.joined), default=0)
        for part in look.parts:
            text = "  " * part.depth + (part.joined if part.joined else part.text.replace("\n", " "))
            value = str(part.value).lower() if isinstance(part.value, bool) else part.value
            style = {"true": "green", "false": "red"}.get(value, "bold red")
            line = Text.assemble(f"      {text:<{min(width, 60)}}  ", (f"{value:<5}", style), _read(part.reads))
            line.rstrip()
            console.print(line)
    for check in one.checks:
        mark = ("  ✓ ", "green") if check.passed else ("  ✗ ", "red")
        console.print(Text.assemble(mark, check.what, _read(check.reads)))


def _print_outcome(console: Console, event: StoredEvent, one: Explanation) -> None:
    from rich.text import Text

    from ..differences import differences, shown
    from ..values import MISSING

    outcome = one.outcome
    if outcome.payload is MISSING:
        what = "a dead letter of the class template" if outcome.failed else "filtered"
        console.print(Text.assemble("  → ", (what, "bold"), f": {outcome.reason}"))
        return
    console.print(Text.assemble("  → ", ("delivered", "bold"), f" by “{outcome.route}”"))
    unlike = list(differences(event.event, outcome.payload, exact=True))
    if not unlike:
        console.print("      the event as it is")
    elif (len(unlike) == 1 and not unlike[0].path) or len(unlike) > len(event.event):
        console.print(Text(f"      {json.dumps(outcome.payload, ensure_ascii=False)}", "green"))
    else:
        console.print("      the event, but for")
        for difference in unlike:
            for sign, text, style in shown(difference):
                console.print(Text(f"      {sign} {text}", style))
    for request in one.requests:
        console.print(Text(f"      {request.method} {request.url}", "bold"))
        for name, value in request.headers.items():
            console.print(Text(f"      {name}: {value}", "dim"))
        console.print(Text(f"      {request.body}"))
    if one.unsent:
        console.print(Text(f"      the plugin {one.plugin} {one.unsent}", "red"))
    elif not one.requests:
        console.print(Text(f"      the plugin {one.plugin} doesn't tell what it would send", "dim"))


def _read(reads: Mapping[str, Any]) -> tuple[str, str]:
    """What a part or a check reads, with its style."""
    return f"  {', '.join(f'{path} = {_cut(value)}' for path, value in reads.items())}", "dim"


def _cut(value: Any) -> str:
    from ..values import MISSING

    if value is MISSING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
