"""`eventrouter send`: events from a file to a collector."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from .common import ConfigOption, JsonOption, counted, print_json, read_settings

if TYPE_CHECKING:
    from ..sender import Report
    from ..settings import Settings

SHOWN = 20
"""Faults that are told one by one."""


def register(app: typer.Typer) -> None:
    """Adds `send`."""

    @app.command()
    def send(
        file: Annotated[
            str, typer.Argument(metavar="FILE", help="A file with one event per line, as JSON; - for stdin.")
        ],
        url: Annotated[
            str | None,
            typer.Option("--url", help="The collector (http://EVENTROUTER_HOST:EVENTROUTER_PORT).", show_default=False),
        ] = None,
        wait: Annotated[
            float, typer.Option("--wait", min=0, help="Seconds to wait for a collector that is away or busy.")
        ] = 120.0,
        write_key: Annotated[
            str | None, typer.Option("--write-key", help="The write key (that of --source).", show_default=False)
        ] = None,
        source: Annotated[
            str | None,
            typer.Option("--source", help="Whose events they are, by routes.yaml (the first).", show_default=False),
        ] = None,
        as_json: JsonOption = False,
        config: ConfigOption = None,
    ) -> None:
        """Send the events of a JSONL file, in order; a line that is refused is told and costs no other.

        An event without a messageId gets one that follows from the file's path, the line's number and its text: the
        same command may be given again after it broke off, and no event is kept twice. Exit code 1 when a line was
        refused.
        """
        from ..sender import Sender

        settings = read_settings(config=config)
        address = url or default_url(settings)
        key = write_key or first_key(settings, source)
        opened, size, name = open_input(file)
        bar = Bar(size)

        def tell(why: str, seconds: float) -> None:
            until = datetime.now(UTC).astimezone() + timedelta(seconds=seconds)
            bar.print(f"Waiting for {address} until {until:%H:%M:%S} (--wait {wait:g}): {why}")

        sender = Sender(address, key, patience=wait, waiting=tell)
        with opened as stream:
            report = asyncio.run(sender.send(stream, name, progress=bar))
        if as_json:
            print_json({"sent": report.sent, "rejected": [vars(fault) for fault in report.faults]})
        else:
            show(report)
        if report.faults:
            raise typer.Exit(1)


class Bar:
    """A progress bar on stderr, in a terminal only: bytes read of `size` (0: unknown)."""

    def __init__(self, size: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("Sending", total=size or None)

    def print(self, line: str) -> None:
        """A line above the bar; in a terminal or not."""
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, read: int, note: str) -> None:
        """`read` bytes have been dealt with; `note` says what is going on."""
        self._progress.update(self._task, completed=read, description=note)


def show(report: Report) -> None:
    """What came of it, for a person."""
    for fault in report.faults[:SHOWN]:
        typer.echo(f"line {fault.line}: {fault.code}: {fault.message}", err=True)
    if len(report.faults) > SHOWN:
        typer.echo(f"… and {len(report.faults) - SHOWN} more (--json shows all)", err=True)
    refused = len(report.faults)
    verb = "was" if refused == 1 else "were"
    typer.echo(f"Sent {counted(report.sent, 'event')}, {counted(refused, 'line')} {verb} refused.")


def default_url(settings: Settings) -> str:
    """The collector that `eventrouter up` runs with the same settings."""
    from .up import reachable

    host = reachable(settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def first_key(settings: Settings, source: str | None) -> str:
    """The write key of `source`, else of the first source that is enabled. Raises `EventRouterError`."""
    from ..config import load
    from ..errors import EventRouterError
    from ..plugins import Plugins

    config = load(settings.config, Plugins.load(), os.environ)
    for one in config.sources.values():
        if one.write_keys and (one.name == source if source else one.enabled):
            return one.write_keys[0]
    what = f"no source {source!r}" if source else "no source that is enabled"
    raise EventRouterError(f"{settings.config} has {what}", hint=f"it has: {', '.join(config.sources) or 'none'}")


def open_input(file: str) -> tuple[BinaryIO, int, str]:
    """The file (or stdin) for reading, its size (0: unknown) and its name (empty for stdin)."""
    from ..errors import EventRouterError

    if file == "-":
        if sys.stdin is None:
            raise EventRouterError("the standard input is closed", hint="give a JSONL file, or pipe one in")
        return sys.stdin.buffer, 0, ""
    path = Path(file)
    try:
        return path.open("rb"), path.stat().st_size, str(path.resolve())
    except OSError as error:
        raise EventRouterError(
            f"cannot read {file}: {error.strerror}", hint="give a JSONL file, or - for stdin"
        ) from None
