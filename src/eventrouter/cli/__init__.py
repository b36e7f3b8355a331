"""The command line, `eventrouter …`: one file per group of commands, each with `register(app)`.

Nothing heavy is imported before a command needs it: `--help` and the start of `up` shall be quick.
"""

from __future__ import annotations

import errno
import importlib
import io
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__, child
from ..errors import EXIT_CONFIG, ConfigError, EventRouterError

MODULES = (
    "up", "collect", "work", "check", "test", "explain", "preview", "send", "status", "tail", "audit", "trace", "pause",
    "dead", "replay", "plugins", "schema",
)  # fmt: skip
"""The files with commands, in the order in which `--help` shows them."""


class Root(TyperGroup):
    """The root command: knows the commands of plugins too, and shows errors as what to do instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command; an `EventRouterError` ends it with its message on stderr and exit code 1 (78: bad config)."""
        child.attach()
        _import_structlog()
        try:
            return super().invoke(ctx)
        except EventRouterError as error:
            raise typer.Exit(fail(error)) from None
        except OSError as error:
            if error.errno != errno.ENOSPC or error.filename is not None:
                raise
            full = EventRouterError("no space is left where this writes to", hint="make room, or write elsewhere")
            raise typer.Exit(fail(full)) from None

    def list_commands(self, ctx: Any) -> list[str]:
        """All commands; with those of plugins, unless a plugin is broken."""
        own = super().list_commands(ctx)
        try:
            return own + [name for name in self._plugin_commands() if name not in own]
        except EventRouterError:
            return own

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by name: ours first; plugins are only loaded for a name that is none of ours."""
        found = super().get_command(ctx, cmd_name)
        return found if found is not None else self._plugin_commands().get(cmd_name)

    def _plugin_commands(self) -> dict[str, Any]:
        if not hasattr(self, "_from_plugins"):
            from ..plugins import Plugins

            extra = typer.Typer(add_completion=False)
            extra.callback()(lambda: None)
            Plugins.load().hook.register_commands(app=extra)
            self._from_plugins: dict[str, Any] = dict(getattr(typer.main.get_command(extra), "commands", {}))
        return self._from_plugins


def fail(error: EventRouterError) -> int:
    """Tells a person (or `up`, when it started this process) what is wrong; returns the exit code."""
    from ..logs import mask

    code = EXIT_CONFIG if isinstance(error, ConfigError) else int(getattr(error, "exit_code", 1))
    message, hint = mask(str(error)), mask(error.hint)
    if not child.report(error={"message": message, "hint": hint}):
        text = message if code == EXIT_CONFIG else f"eventrouter: {message}"
        typer.echo(f"{text}\n  = hint: {hint}" if hint else text, err=True)
    return code


def build() -> typer.Typer:
    """The command line, without what plugins add (they are asked when it runs)."""
    app = typer.Typer(
        cls=Root,
        name="eventrouter",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root(
        version: Annotated[
            bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
        ] = False,
    ) -> None:
        """Own your event tracking: every event in your warehouse, and by rules in any other tool."""

    for name in MODULES:
        importlib.import_module(f"{__name__}.{name}").register(app)
    return app


def main() -> None:
    """The entry point of the `eventrouter` script. What a terminal has no character for is a `?` there."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    build()()


def _import_structlog() -> None:
    """Without rich, which it would bring along (5 MB) for tracebacks that show local variables: never wanted here."""
    if "rich" not in sys.modules:
        sys.modules["rich"] = None  # type: ignore[assignment]  # so that for now it can't be imported
        try:
            importlib.import_module("structlog")
        finally:
            del sys.modules["rich"]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"eventrouter {__version__}")
        raise typer.Exit
