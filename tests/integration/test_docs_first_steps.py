"""README.md and docs/quickstart.md: every command, rule, query and plugin in them does what the page says."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import shlex
import socket
import sqlite3
import subprocess
import sys
import time
import types
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import segment.analytics as analytics
from http_sink import Sink
from standardwebhooks import Webhook
from system import System

from cli_kit import free_port, wait_until
from eventrouter import Reject, config
from eventrouter.errors import ConfigError
from eventrouter.plugins import Plugins
from eventrouter.testing import Answer, FakeServer, make_message

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
QUICKSTART = (ROOT / "docs" / "quickstart.md").read_text("utf-8")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def blocks(page: str, language: str = "") -> list[str]:
    """The fenced examples of a language, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def shell(command: str, system: System) -> str:
    """Runs an example as it stands, but against this system: its port, folder and interpreter."""
    command = command.replace("http://127.0.0.1:8000", system.url).replace(".venv/bin/python", sys.executable)
    command = command.replace(".eventrouter/", f"{system.data}/").replace(".venv/bin/eventrouter", _command())
    done = subprocess.run(
        command, shell=True, cwd=system.directory, env=system.variables(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _command() -> str:
    return shlex.join([sys.executable, "-P", "-m", "eventrouter"])


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """What `make up` starts in a fresh clone."""
    with System(tmp_path_factory.mktemp("clone"), (ROOT / "routes.yaml").read_text("utf-8")) as system:
        yield system


def test_the_readmes_first_event_is_in_the_warehouse(packaged: System) -> None:
    plain = blocks(README)
    start, curl, success, query, row = (block for block in plain if "──" not in block and "routes.yaml:" not in block)
    assert ["git clone REPOSITORY eventrouter", "cd eventrouter", "make up"] == start.splitlines()
    assert shell(curl, packaged).strip() == success.strip()
    packaged.rows(1, "SELECT * FROM order_completed")
    assert shell(query, packaged).strip() == row.strip()


def test_the_readmes_script_is_served_and_as_small_as_it_says(packaged: System) -> None:
    (tag,) = blocks(README, "html")
    assert tag.strip() in (ROOT / "docs" / "browser.md").read_text("utf-8").replace(
        "https://events.example.com", "http://127.0.0.1:8000"
    ).replace("YOUR_WRITE_KEY", "dev-website")
    (source,) = re.findall(r'src="(.*?)"', tag.replace("http://127.0.0.1:8000", packaged.url))
    request = urllib.request.Request(source, headers={"accept-encoding": "gzip"})
    with urllib.request.urlopen(request, timeout=30) as response:
        body = response.read()
    assert f"{len(body) / 1000:.1f} KB" in re.findall(r"[\d.]+ KB", README)
    assert gzip.decompress(body).startswith(b"/*! eventrouter.js")


@pytest.mark.parametrize("page", [README, QUICKSTART], ids=["README", "quickstart"])
def test_every_command_is_written_as_a_fresh_clone_has_it(page: str) -> None:
    commands = "up collect work check test explain preview send status plugins schema dead"
    assert re.findall(rf"(?<!\.venv/bin/)\beventrouter (?:{'|'.join(commands.split())})\b", page) == []
    assert set(re.findall(r"\.venv/bin/eventrouter (\w+)", page)) <= set(commands.split())
    assert re.findall(r"(?<!\.venv/bin/)\b(?:python3?|pip) -?\w+ .*", page) == []


def test_the_readmes_route_passes_its_test_and_its_mistake_is_told_as_shown(tmp_path: Path) -> None:
    (rules,) = blocks(README, "yaml")
    environment: dict[str, str] = {}
    (tmp_path / "routes.yaml").write_text(rules)
    for command in ("check", "test"):
        done = subprocess.run([*shlex.split(_command()), command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "2 tests: 2 passed" in done.stdout
    (shown,) = (block for block in blocks(README) if "routes.yaml:" in block)
    with pytest.raises(ConfigError) as caught:
        config.loads(rules.replace("event ==", "event ="), Plugins.load(), environment)
    assert [str(problem) for problem in caught.value.problems] == [shown.rstrip()]


def test_the_readmes_plugin_delivers_and_tells_what_was_refused() -> None:
    (source,) = blocks(README, "python")
    with FakeServer() as server:
        module = types.ModuleType("acme")
        code = compile(source.replace("https://api.acme.example", server.url), "README.md", "exec", dont_inherit=True)
        exec(code, vars(module))
        plugins = Plugins(module)
        acme = plugins.destinations["acme"]
        server.answer = Answer(200, body='{"refused": {"1": "no name"}}')
        messages = [make_message(payload={"n": number}, message_id=f"m{number}") for number in range(3)]

        async def deliver() -> object:
            destination = acme(acme.Options(api_key="k", allow_private=True), destination="acme")
            try:
                return await destination.deliver(messages)
            finally:
                await destination.close()

        outcomes = asyncio.run(deliver())
    assert isinstance(outcomes, dict)
    assert {key: (type(why), str(why)) for key, why in outcomes.items()} == {messages[1].id: (Reject, "no name")}


def test_the_quickstart_from_events_to_a_signed_webhook(sink: Sink, tmp_path: Path) -> None:
    rules, alerts = blocks(QUICKSTART, "yaml")[-1], "/quickstart/alerts"
    environment = {"ALERTS_URL": sink.url + alerts}
    with System(tmp_path, rules, environment) as system:
        curl, send = blocks(QUICKSTART, "bash")
        assert json.loads(shell(curl, system)) == {"success": True}
        (python,) = blocks(QUICKSTART, "python")
        try:
            exec(python.replace("http://127.0.0.1:8000", system.url), {})
        finally:
            analytics.shutdown()
            analytics.default_client = None
        system.rows(2, "SELECT * FROM order_completed")
        shell(send, system)
        system.rows(3, "SELECT * FROM order_completed")

        person, orders = blocks(QUICKSTART, "sql")
        with closing(sqlite3.connect(system.data / "warehouse.sqlite3")) as connection:
            assert sorted(row[0] for row in connection.execute(person)) == ["identify", "page", "track", "track"]
            assert connection.execute(orders).fetchall() == [("o-1", 1200), ("o-2", 99), ("o-3", 5)]

        (hit,) = sink.wait(alerts, 1)
        assert hit.json == {"text": "Order o-1: 1200"}
        Webhook(SECRET).verify(hit.body, hit.headers)
        assert time.time() - float(hit.headers["webhook-timestamp"]) < 60


def test_the_quickstarts_listener_shows_what_arrives() -> None:
    (command,) = (block for block in blocks(QUICKSTART) if "http.server" in block)
    port = free_port()
    argv = shlex.split(command.replace("9000", str(port)).replace(".venv/bin/python", sys.executable))
    process = subprocess.Popen([argv[0], "-u", *argv[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: _answers(port))
        headers = {"webhook-id": "msg_1", "content-type": "application/json"}
        body = b'{"text": "Order o-1: 1200"}'
        request = urllib.request.Request(f"http://127.0.0.1:{port}/alerts", data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            assert response.status == 204
    finally:
        process.terminate()
        out, _ = process.communicate(timeout=30)
    assert out == 'msg_1 {"text": "Order o-1: 1200"}\n'


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def test_the_quickstarts_rules_are_valid_as_they_stand() -> None:
    plugins = Plugins.load()
    assert list(config.loads(blocks(QUICKSTART, "yaml")[-1], plugins, {}).destinations) == ["alerts"]


def test_the_readme_leads_to_every_page() -> None:
    pages = {file.name for file in (ROOT / "docs").glob("*.md")}
    assert {page for page in pages if f"(docs/{page})" not in README} == set()
    assert [page for page in re.findall(r"\(docs/([a-z_]+\.md)", README) if page not in pages] == []


def test_a_second_start_goes_on_where_the_first_stopped(tmp_path: Path) -> None:
    system = System(tmp_path, (ROOT / "routes.yaml").read_text("utf-8"))
    system.key = "dev-website"
    with system:
        system.track("Before", "visitor")
        system.stop()
        system.start()
        system.track("After", "visitor")
        system.rows(2, "SELECT * FROM tracks")
