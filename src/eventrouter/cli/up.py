"""`eventrouter up`: everything on one machine, with one command."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import ConfigOption, DataDirOption, HostOption, PortOption, read_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..settings import Settings

# `-P`: without the present directory in the module path, where a user's redis.py would replace the library.
COMMAND = (sys.executable, "-P", "-m", "eventrouter")

WorkersOption = Annotated[
    str | None,
    typer.Option("--workers", "-w", help="Worker processes (EVENTROUTER_WORKERS; 1).", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Adds `up`."""

    @app.command()
    def up(
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
        host: HostOption = None,
        port: PortOption = None,
        workers: WorkersOption = None,
    ) -> None:
        """Run everything on this machine: an embedded Valkey, the collector and the workers, one more for each group.

        Ctrl-C or SIGTERM ends it within 30 seconds, with nothing lost; so does `kill -9`, after which the same command
        goes on.
        """
        run(read_settings(config=config, data_dir=data_dir, host=host, port=port, workers=workers))


def run(settings: Settings) -> None:
    """Runs until a signal. Raises `StartError` and `ChildError`; a first start that fails leaves no files behind."""
    import asyncio
    import time

    from ..data_directory import DataDirectory
    from ..disk import is_full
    from ..embedded import EmbeddedServer
    from ..errors import StartError
    from ..kept_rules import KeptRules
    from ..ports import bind, is_answering
    from ..supervise import Child, Supervisor

    started = time.monotonic()
    directory = DataDirectory(settings.data_dir)
    listener, ready = None, False
    kept = KeptRules(settings.data_dir, settings.config)
    begins = "config" not in settings.model_fields_set and not settings.config.exists() and not kept.texts()
    try:
        if directory.path.exists():
            directory.open()  # who uses it says more than that the port is in use
        elif not begins:
            check_rules(settings)
        listener = bind(settings.host, settings.port)
        server = EmbeddedServer(settings.data_dir, maxmemory=settings.maxmemory) if settings.embedded else None
        if server is not None:
            server.check()
        if not directory.is_open:
            directory.open()
        if settings.embedded and is_full(directory.path):
            raise StartError(f"the disk of the data directory {directory.path} is full", hint="free some space")
        if begins:
            write_default(settings.config)
        environment = child_environment(settings)
        children = [
            Child("collector", (*COMMAND, "collect"), environment, listener=listener),
            *(
                Child(f"worker-{number}", (*COMMAND, "work"), environment, is_worker=True)
                for number in range(1, settings.workers + 1)
            ),
        ]

        async def is_ready() -> bool:
            return await is_answering(reachable(settings.host), settings.port)

        def tell(facts: Mapping[str, Any]) -> None:
            nonlocal ready
            ready = True
            show(settings, facts, time.monotonic() - started)

        def worker_of(group: str) -> Child:
            own = environment | {"EVENTROUTER_WORKER_GROUP": group}
            return Child(f"worker-{group}", (*COMMAND, "work", "--group", group), own, is_worker=True)

        asyncio.run(Supervisor(directory, server, children, worker_of).run(is_ready, tell))
    finally:
        if listener is not None:
            listener.close()
        if not ready:
            directory.discard()
        directory.close()


def check_rules(settings: Settings) -> None:
    """Ends as the collector would where the rules can't be used. Another process reads them: this one stays small."""
    import os
    import subprocess

    command = (sys.executable, "-P", "-c", "from eventrouter.cli.up import read_rules; read_rules()")
    checked = subprocess.run(command, env=os.environ | child_environment(settings), check=False)
    if checked.returncode:
        raise typer.Exit(checked.returncode)


def read_rules() -> None:
    """Reads the rules that the environment names; ends the process with what is wrong with them, or their files."""
    import os

    from .. import rules_file
    from ..errors import EventRouterError
    from ..plugins import Plugins
    from . import fail

    try:
        rules_file.read_rules(read_settings().config, Plugins.load(), os.environ, check_files=True)
    except EventRouterError as error:
        raise SystemExit(fail(error)) from None


def write_default(path: Path) -> None:
    """Writes the annotated default rules, and says so. Raises `StartError`."""
    from importlib.resources import files

    from ..errors import StartError

    try:
        path.write_bytes((files("eventrouter") / "routes.yaml").read_bytes())
    except OSError as error:
        raise StartError(f"there is no {path}, nor can it be written: {error.strerror}", hint="see --config") from None
    typer.echo(f"There was no {path}: wrote the default one.")


def child_environment(settings: Settings) -> dict[str, str]:
    """The settings as the variables that a child reads; those with secrets are in its environment already."""
    names = ("config", "data_dir", "host", "port", "shards", "log_level", "log_format")
    return {f"EVENTROUTER_{name.upper()}": str(getattr(settings, name)) for name in names} | {
        "EVENTROUTER_WORKER_GROUP": ""
    }


def reachable(host: str) -> str:
    """An address at which a server that listens on `host` is reached from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def own_name() -> str:
    """What to type to run another command: the name alone where the shell finds it."""
    name = sys.argv[0]
    is_script = Path(name).name == "eventrouter"  # else `python -m eventrouter`
    script = Path(name if is_script else Path(sys.executable).with_name("eventrouter")).absolute()
    if shutil.which("eventrouter") == str(script):
        return "eventrouter"
    return shlex.quote(name) if is_script else shlex.join(COMMAND)


def show(settings: Settings, facts: Mapping[str, Any], seconds: float) -> None:
    """Says on stdout where everything is, and a command to try it."""
    from rich.console import Console
    from rich.text import Text

    from .. import __version__

    host = reachable(settings.host)
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    key = str(facts.get("write_key", ""))
    event = json.dumps({"anonymousId": "me", "event": "Hello", "properties": {"total": 42}})
    lines = [
        ("bold green", f"eventrouter {__version__} is ready ({seconds:.1f} s)"),
        ("", f"  listens at  {url}"),
        ("", f"  write key   {key} (source {facts.get('source')})" if key else "  write key   none: see `sources:`"),
        ("", f"  warehouse   {facts.get('warehouse', '')}"),
        ("", f"  rules       {settings.config}"),
    ]
    if facts.get("problem"):
        problem = str(facts["problem"]).replace("\n", "\n    ")
        lines.append(("bold yellow", f"  It can't be used as it is, so the last good rules are in use:\n    {problem}"))
    if facts.get("away"):
        lines.append(("bold yellow", f"  away        {facts['away']}; until then events wait on this disk"))
    if key:
        lines += [
            ("", ""),
            ("bold", "Try it:"),
            ("", f"  curl -u {shlex.quote(key + ':')} {url}/v1/track -d {shlex.quote(event)}"),
            ("", f"  {own_name()} status{_elsewhere(settings)}"),
        ]
    # At once, so that whoever waits for the first line finds all of them.
    told = Text("\n").join(Text(line, style=style) for style, line in lines)
    Console(soft_wrap=True, highlight=False).print(told)


def _elsewhere(settings: Settings) -> str:
    """The options by which another command finds this run, where they are not the defaults."""
    fields, options = type(settings).model_fields, []
    for name, option in (("config", "--config"), ("data_dir", "--data-dir")):
        value = getattr(settings, name)
        if value != fields[name].default:
            options.append(f" {option} {shlex.quote(str(value))}")
    return "".join(options)
