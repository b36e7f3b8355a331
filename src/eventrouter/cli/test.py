"""`eventrouter test`: do the rules do what their tests say?"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError
from .common import JsonOption, print_json
from .terminal import terminal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..rule_tests import Mistake, TestResult

LOOK_SECONDS = 0.3


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def test(
        file: Annotated[
            Path,
            typer.Argument(envvar="EVENTROUTER_CONFIG", metavar="FILE", help="The rules file.", show_default=True),
        ] = Path("routes.yaml"),
        only: Annotated[
            str, typer.Option("--only", "-k", help="Only tests with this in their name.", show_default=False)
        ] = "",
        watch: Annotated[bool, typer.Option("--watch", "-w", help="Run again whenever a file changes.")] = False,
        as_json: JsonOption = False,
    ) -> None:
        """Run the tests of the rules: those under `tests:`, and those in `routes_test.yaml` beside the file.

        Nothing is sent, and no server is needed. Exit code 1 when a test fails.
        """
        if not watch:
            raise typer.Exit(_run(file, only, as_json)[0])
        from ..config_tests import companion
        from ..file_changes import FileChanges

        files = {str(file), str(companion(file))}
        changes = FileChanges(files)
        while True:
            try:
                files |= set(_run(file, only, as_json)[1])
            except ConfigError as error:  # told, and waited out
                typer.echo(str(error), err=True)
            changes.watch(files)
            if not as_json:
                typer.echo("Waiting for a change (Ctrl-C ends) …", err=True)
            while not changes.changed():
                time.sleep(LOOK_SECONDS)
            if not as_json:
                typer.echo(err=True)


def _run(file: Path, only: str, as_json: bool) -> tuple[int, tuple[str, ...]]:
    """The exit code, and the files that the rules are made of."""
    from ..config import load
    from ..config_tests import companion, load_companion
    from ..plugins import Plugins
    from ..rule_tests import run_tests

    plugins = Plugins.load()
    config = load_companion(load(file, plugins, os.environ), os.environ)
    tests = config.tests
    chosen = [one for one in tests if only.lower() in one.name.lower()]
    if not chosen:
        where = f"{file} and {companion(file)} have" if not tests else "there is"
        typer.echo(
            f"{where} no {'test' if tests else 'tests'}{f' with “{only}” in its name' if tests else ''}", err=True
        )
        if as_json:
            _print_json([])
        return (1 if tests else 0), config.files
    results = run_tests(config, chosen, plugins.template_filters)
    failed = _print_json(results) if as_json else _print(results)
    return (1 if failed else 0), config.files


def _print(results: Iterable[TestResult]) -> int:
    """Prints each result as it comes; returns how many failed."""
    from rich.text import Text

    console = terminal()
    passed = failed = 0
    path = ""
    for result in results:
        if result.test.path != path:
            path = result.test.path
            console.print(Text(path, "bold"))
        if result.passed:
            passed += 1
            console.print(Text.assemble(("  ✓ ", "green"), result.test.name))
            continue
        failed += 1
        place = f"  {path}:{result.test.line}"
        console.print(Text.assemble(("  ✗ ", "bold red"), (result.test.name, "bold"), (place, "dim")))
        for mistake in result.mistakes:
            console.print(_shown(mistake))
    total = passed + failed
    console.print(
        Text.assemble(
            f"{total} {'test' if total == 1 else 'tests'}: ",
            (f"{passed} passed", "green" if passed else ""),
            ", ",
            (f"{failed} failed", "bold red" if failed else ""),
        )
    )
    return failed


def _shown(mistake: Mistake) -> object:
    from rich.text import Text

    from ..differences import shown

    lines = Text(f"      {mistake.destination + ': ' if mistake.destination else ''}{mistake.message}")
    for difference in mistake.differences:
        for sign, text, style in shown(difference):
            lines.append(f"\n        {sign} {text}", style)
    return lines


def _print_json(results: Iterable[TestResult]) -> int:
    from ..values import MISSING

    report = []
    for result in results:
        mistakes = []
        for mistake in result.mistakes:
            found = []
            for one in mistake.differences:
                sides = {"expected": one.expected, "actual": one.actual}
                found.append({"path": one.path, **{key: value for key, value in sides.items() if value is not MISSING}})
            mistakes.append({"destination": mistake.destination, "message": mistake.message, "differences": found})
        test = result.test
        report.append(
            {"name": test.name, "path": test.path, "line": test.line, "passed": result.passed, "mistakes": mistakes}
        )
    failed = sum(not one["passed"] for one in report)
    print_json({"passed": len(report) - failed, "failed": failed, "tests": report})
    return failed
