"""What several commands share: options, settings, a connected app, output."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import EventRouterError

if TYPE_CHECKING:
    from rich.console import Console

    from ..app import EventRouter
    from ..settings import Settings

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="The rules (EVENTROUTER_CONFIG; routes.yaml).", show_default=False)
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        "-d",
        help="Where the embedded server and databases live (EVENTROUTER_DATA_DIR; .eventrouter).",
        show_default=False,
    ),
]
# Text, so that it is `Settings` that checks it, as it does the variable.
HostOption = Annotated[
    str | None,
    typer.Option("--host", help="The address to listen on (EVENTROUTER_HOST; 127.0.0.1).", show_default=False),
]
PortOption = Annotated[
    str | None,
    typer.Option("--port", "-p", help="The port to listen on (EVENTROUTER_PORT; 8000).", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

CONNECT_SECONDS = 3.0
SILENT_SECONDS = 5.5
"""How long a server may say nothing at all: from 5 s on, one that is busy with a script says so."""
NARROW_FIRST, NARROW_LAST = 12, 24
"""How far the first and the last column of a table may be narrowed, in characters."""
_AGO = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class UsageError(EventRouterError):
    """The command line itself is wrong."""

    exit_code = 2


def read_settings(**options: Any) -> Settings:
    """The settings, with logs set up as they say. Raises `ConfigError`."""
    from .. import logs
    from ..settings import Settings

    settings = Settings.read(**options)
    logs.setup(settings.log_level, settings.log_format)
    logs.hide(*settings.server_secrets)
    if settings.admin_token is not None:
        logs.hide(settings.admin_token.get_secret_value())
    return settings


def load_app(settings: Settings, *, serves: bool = False) -> EventRouter:
    """The app of routes.yaml, not connected; its secrets are kept out of the logs. Raises `ConfigError`.

    One that `serves`, as a collector or a worker, goes on with the last good rules where the file can't be used.
    """
    from ..app import EventRouter
    from ..hiding import hide_secrets

    app = EventRouter.open(settings) if serves else EventRouter.load(settings)
    hide_secrets(app.config)
    return app


def without_rules(settings: Settings) -> EventRouter:
    """An app that knows of no source and no destination."""
    from ..app import EventRouter
    from ..config import Config
    from ..plugins import Plugins

    return EventRouter(Config(str(settings.config), "", {}), settings, Plugins.load())


def last_good_app(settings: Settings) -> EventRouter:
    """An app of the last good rules, where the data directory has them; else without rules."""
    import os

    from ..app import EventRouter
    from ..errors import ConfigError
    from ..hiding import hide_secrets
    from ..kept_rules import KeptRules
    from ..plugins import Plugins
    from ..rules_file import last_good

    plugins, kept = Plugins.load(), KeptRules(settings.data_dir, settings.config)
    try:
        config = last_good(settings.config, plugins, os.environ, kept)
    except ConfigError:  # the variables of this shell may not be those of the processes
        config = None
    if config is None:
        return without_rules(settings)
    hide_secrets(config)
    return EventRouter(config, settings, plugins)


def check_data_dir(settings: Settings, *, needed: bool) -> None:
    """Raises `StartError` when the data directory is `needed` and not there: nothing has run on it yet."""
    from ..errors import StartError

    if needed and not settings.data_dir.is_dir():
        raise StartError(
            f"there is no data directory {settings.data_dir}",
            hint="name that of your `eventrouter up` with --data-dir or EVENTROUTER_DATA_DIR, or start one",
        )


def warn_of_new(directory: Path, what: str) -> None:
    """Says in the log that a data directory begins empty: a mistyped one does, too. `what` that means is told."""
    import structlog

    structlog.get_logger("eventrouter.cli").warning(
        "the data directory is new",
        directory=str(directory.absolute()),
        hint=f"{what}; another one is named with --data-dir or EVENTROUTER_DATA_DIR",
    )


@asynccontextmanager
async def opened(
    settings: Settings, *, connect: bool = True, rules: bool = True, broken: bool = False, reads_only: bool = False
) -> AsyncIterator[EventRouter]:
    """The app, connected to its server unless `connect` is False: its warehouse can be read without one.

    Without `rules` it has none; where their file is `broken`, the last good ones, if they are kept here. With
    `reads_only` its warehouse is neither made nor changed.
    """
    from redis.exceptions import RedisError

    from ..errors import DeliveryError, UnavailableError

    app = last_good_app(settings) if broken else load_app(settings) if rules else without_rules(settings)
    check_data_dir(settings, needed=settings.embedded if connect else not app.config.warehouse.url)
    try:
        app.targets.reads_only = reads_only
        if connect:
            await reach(app)
        yield app
    except DeliveryError as error:
        raise UnavailableError(
            f"the warehouse is away: {error.reason}", hint="see `warehouse:` in routes.yaml"
        ) from None
    except RedisError as error:
        raise UnavailableError(
            f"the Redis at {settings.shown_server_url} failed at this: {error}",
            hint="its log may say why; what was done until then is done",
        ) from None
    finally:
        await app.close()


async def reach(router: EventRouter) -> None:
    """Connects, as patiently as somebody who looks on. Raises `StartError`."""
    await router.connect(CONNECT_SECONDS, silent=SILENT_SECONDS)


def read_time(text: str | None) -> datetime | None:
    """`2h` (ago), `2026-11-24` or `2026-11-24T17:00` (UTC unless it says otherwise) as a time in UTC."""
    if text is None:
        return None
    try:
        if match := _AGO.fullmatch(text.strip()):
            return datetime.now(UTC) - timedelta(seconds=float(match[1]) * _UNITS[match[2]])
        found = datetime.fromisoformat(text.strip())
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # beyond what a datetime can hold is no time either
        raise typer.BadParameter(f"{text!r} is not a time; write 2h (ago), 2026-11-24 or 2026-11-24T17:00") from None


def read_window(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """What `--since` and `--until` say, in UTC. Raises `BadParameter` where nothing can lie between them."""
    begin, end = read_time(since), read_time(until)
    if begin is not None and end is not None and begin >= end:
        raise typer.BadParameter(f"nothing lies between {since} and {until}", param_hint="--since, --until")
    return begin, end


def print_json(value: Any) -> None:
    """`value` on stdout as JSON; times and the like as text. Nothing is lost where stdout is no Unicode."""
    import json

    typer.echo(json.dumps(value, indent=2, ensure_ascii=not is_unicode(), default=str))


def is_unicode() -> bool:
    """Whether stdout takes every character."""
    import sys

    return str(sys.stdout.encoding).lower().startswith("utf")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout, without columns that are empty; its first and last column may wrap.

    Where it would not fit, each row is some lines instead, so that nothing is cut. Nothing in the rows is taken for
    markup.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    shown = [number for number in range(len(columns)) if not number or any(row[number] for row in cells)]
    names = [columns[number] for number in shown]
    cells = [[row[number] for number in shown] for row in cells]
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    widths = [max(map(cell_len, column)) for column in zip(names, *cells, strict=True)]
    bounds = [NARROW_FIRST, *widths[1:-1], NARROW_LAST]
    if console.width < sum(map(min, widths, bounds)) + 2 * len(names):
        _print_cards(console, names, cells)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, name in enumerate(names):
        wraps = number in (0, len(names) - 1)
        table.add_column(name, no_wrap=not wraps, overflow="fold" if wraps else "ellipsis")
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


def _print_cards(console: Console, names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.cells import cell_len
    from rich.padding import Padding
    from rich.text import Text

    for title, *row in rows:
        console.print(Text(title, style="bold", overflow="fold"))
        lines: list[str] = []
        for name, cell in zip(names[1:], row, strict=True):
            if not cell:
                continue
            pair = f"{name.replace('_', ' ')} {cell}"
            if lines and cell_len(lines[-1]) + 2 + cell_len(pair) <= console.width - 2:
                lines[-1] += f", {pair}"
            else:
                lines.append(pair)
        for line in lines:
            console.print(Padding(Text(line, overflow="fold"), (0, 0, 0, 2)))


def counted(number: int, word: str, plural: str = "") -> str:
    """`1 event`, `2 events`."""
    return f"{number} {word if number == 1 else plural or f'{word}s'}"


def short_duration(seconds: float | None) -> str:
    """`3.2 s`, `12 min`, `5 h`, `2 d`; empty for None."""
    if seconds is None:
        return ""
    for limit, unit, divisor in ((90, "s", 1), (5400, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / divisor:.3g} {unit}"
    return f"{seconds / 86400:.3g} d"
