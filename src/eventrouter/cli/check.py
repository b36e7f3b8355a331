"""`eventrouter check`: all that is wrong with the rules file, in one run."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import EXIT_CONFIG, ConfigError, EventRouterError, Problem, first_of
from .common import JsonOption, counted

if TYPE_CHECKING:
    from ..config import Config


MAX_JSON = 1000
"""Problems that a script is told."""


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def check(
        file: Annotated[
            Path,
            typer.Argument(envvar="EVENTROUTER_CONFIG", metavar="FILE", help="The rules file.", show_default=True),
        ] = Path("routes.yaml"),
        as_json: JsonOption = False,
    ) -> None:
        """Check the rules file: every problem with its line, and what to do. Exit code 78 when it can't be used.

        The files that it includes and the `routes_test.yaml` beside it are checked, too.
        """
        from ..config import load
        from ..plugins import Plugins

        config: Config | None = None
        problems: list[Problem] = []
        try:
            config = load(file, Plugins.load(), os.environ, check_files=True, check_tests=True)
            problems = [*config.warnings, *_small_parts(config)]
        except ConfigError as error:
            problems = error.problems
        except EventRouterError as error:  # a plugin that can't be used
            problems = [Problem("plugins", 0, 0, str(error), error.hint)]
        if as_json:
            report = {
                "ok": config is not None,
                "path": str(file),
                "version": config.version if config else None,
                "problems": [asdict(problem) for problem in first_of(problems, MAX_JSON)],
                "left_out": max(len(problems) - MAX_JSON, 0),
            }
            typer.echo(json.dumps(report, ensure_ascii=False))
        else:
            if problems:
                typer.echo(str(ConfigError(problems)), err=True)
            errors = sum(problem.severity == "error" for problem in problems)
            if config is None:
                typer.echo(f"{file}: {counted(errors, 'problem')}", err=True)
            else:
                typer.echo(f"{file}: ok ({_summary(config)})")
        if config is None:
            raise typer.Exit(EXIT_CONFIG)


def _small_parts(config: Config) -> list[Problem]:
    """By the number of shards that the environment gives; nothing where that can't be read."""
    from ..config_destinations import small_parts
    from ..settings import Settings

    try:
        return small_parts(config, Settings.read().shards)
    except ConfigError:
        return []


def _summary(config: Config) -> str:
    counts = [("source", len(config.sources)), ("destination", len(config.destinations)), ("route", len(config.routes))]
    return ", ".join(counted(count, word) for word, count in counts)
