"""The root of the command line: quick, open to plugins, and errors that say what to do."""

from __future__ import annotations

import ast
import errno
import json
import socket
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from cli_kit import Place
from eventrouter import __version__, child, cli
from eventrouter.errors import ConfigError, EventRouterError, Problem
from eventrouter.hookspecs import hookimpl
from eventrouter.plugins import Plugins


def invoke(app: typer.Typer, *arguments: str):
    return CliRunner().invoke(app, list(arguments))


def app_that_fails(error: Exception) -> typer.Typer:
    app = cli.build()

    @app.command()
    def fails() -> None:
        raise error

    return app


def test_output_that_has_no_room_is_told():
    done = invoke(app_that_fails(OSError(errno.ENOSPC, "No space left on device")), "fails")
    assert (1, "eventrouter: no space is left where this writes to\n  = hint: make room, or write elsewhere\n") == (
        done.exit_code,
        done.stderr,
    )


def test_the_version_is_told():
    assert invoke(cli.build(), "--version").stdout == f"eventrouter {__version__}\n"


def test_all_commands_are_listed(monkeypatch):
    monkeypatch.setattr(Plugins, "load", lambda: Plugins())
    text = invoke(cli.build(), "--help").stdout
    for name in cli.MODULES:
        assert f" {name} " in text


def test_without_a_command_there_is_help():
    assert "Usage" in invoke(cli.build()).output


def test_what_stdout_has_no_character_for_is_a_question_mark_and_in_json_an_escape(tmp_path):
    rules = """\
version: 1
sources: { website: { write_key: a } }
destinations: { lines: { plugin: stdout } }
routes: [{ to: lines }]
tests: [{ name: é, given: { type: page, name: é }, expect: { lines: { name: è } } }]
"""
    place = Place(tmp_path, rules)
    (tmp_path / "page.json").write_text('{ "type": "page", "userId": "u", "name": "\\u00e9" }')
    done = place.run("test", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr, "  ? ?  routes.yaml:5" in done.stdout) == (1, "", True)
    done = place.run("explain", "page.json", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr, "page ???" in done.stdout) == (0, "", True)
    done = place.run("explain", "page.json", "--json", PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout)["event"]["name"] == "é"


def test_an_unknown_command_is_told():
    result = invoke(cli.build(), "nonsense")
    assert (result.exit_code, "No such command 'nonsense'" in result.stderr) == (2, True)


def test_an_error_is_told_with_its_advice_and_without_a_traceback():
    result = invoke(app_that_fails(EventRouterError("no salt", hint="add salt")), "fails")
    assert (result.exit_code, result.stderr) == (1, "eventrouter: no salt\n  = hint: add salt\n")


def test_a_bad_configuration_has_an_exit_code_of_its_own():
    error = ConfigError([Problem("routes.yaml", 3, 1, "no such thing"), Problem("routes.yaml", 0, 0, "too long")])
    result = invoke(app_that_fails(error), "fails")
    assert (result.exit_code, result.stderr) == (78, "routes.yaml:3:1: no such thing\nroutes.yaml: too long\n")


def test_a_secret_in_an_error_is_masked():
    result = invoke(app_that_fails(EventRouterError("can't reach redis://user:hunter2@host")), "fails")
    assert result.stderr == "eventrouter: can't reach redis://**********@host\n"


def test_a_bug_keeps_its_traceback():
    assert isinstance(invoke(app_that_fails(ZeroDivisionError()), "fails").exception, ZeroDivisionError)


def test_under_up_an_error_goes_to_the_parent_alone(monkeypatch):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monkeypatch.setattr(child, "_line", theirs)
        result = invoke(app_that_fails(EventRouterError("no salt", hint="add salt")), "fails")
        assert (result.exit_code, result.stderr) == (1, "")
        assert ours.recv(1000) == b'{"error": {"message": "no salt", "hint": "add salt"}}\n'


class Extra:
    @hookimpl
    def register_commands(self, app):
        @app.command()
        def extra():
            """What a plugin adds."""
            typer.echo("extra!")


def test_plugins_add_commands(monkeypatch):
    monkeypatch.setattr(Plugins, "load", lambda: Plugins(Extra()))
    assert invoke(cli.build(), "extra").stdout == "extra!\n"
    assert "What a plugin adds" in invoke(cli.build(), "--help").stdout


def test_a_broken_plugin_breaks_neither_help_nor_the_other_commands(monkeypatch):
    def broken():
        raise EventRouterError("plugin x can't be imported", hint="remove it")

    monkeypatch.setattr(Plugins, "load", broken)
    assert invoke(cli.build(), "--help").exit_code == 0
    assert invoke(cli.build(), "up", "--help").exit_code == 0
    assert "plugin x can't be imported" in invoke(cli.build(), "nonsense").stderr


@pytest.mark.parametrize("module", ["pydantic", "redis", "sqlalchemy", "aiohttp", "uvicorn", "arq", "rich"])
def test_nothing_heavy_is_imported_before_a_command_runs(module):
    code = f"import sys; from eventrouter import cli; cli.build(); sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_who_only_reads_the_rules_pays_for_no_database_and_no_colors(tmp_path):
    (tmp_path / "routes.yaml").write_text("version: 1\nsources: { website: { write_key: k } }\n")
    code = (
        "import atexit, sys; from eventrouter import cli;"
        "atexit.register(lambda: print({name.split('.')[0] for name in sys.modules}));"
        "sys.argv[1:] = ['check', 'routes.yaml']; cli.main()"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = ast.literal_eval(result.stdout.splitlines()[-1])
    assert "structlog" in loaded
    assert loaded & {"sqlalchemy", "psycopg", "aiohttp", "rich", "maxminddb", "ua_parser", "redis"} == set()


def test_python_dash_m_is_the_same():
    result = subprocess.run([sys.executable, "-m", "eventrouter", "--version"], capture_output=True, text=True)
    assert result.stdout == f"eventrouter {__version__}\n"
