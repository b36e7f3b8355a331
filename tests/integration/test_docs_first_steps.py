"""README.md and docs/quickstart.md: every command, rule, query and plugin in them does what the page says."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sqlite3
import subprocess
import sys
import time
import types
from contextlib import closing
from pathlib import Path

import pytest
import segment.analytics as analytics
from http_sink import Sink
from standardwebhooks import Webhook
from system import System

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
    command = command.replace(".eventrouter/", f"{system.data}/").replace("eventrouter send", f"{_command()} send")
    done = subprocess.run(
        command, shell=True, cwd=system.directory, env=system.variables(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _command() -> str:
    return shlex.join([sys.executable, "-P", "-m", "eventrouter"])


def test_the_readmes_first_event_is_in_the_warehouse(tmp_path: Path) -> None:
    plain = blocks(README)
    curl, success, query, row = (
        block for block in plain if block.strip() != "make up" and "──" not in block and "routes.yaml:" not in block
    )
    with System(tmp_path, (ROOT / "routes.yaml").read_text("utf-8")) as system:
        assert shell(curl, system).strip() == success.strip()
        system.rows(1, "SELECT * FROM order_completed")
        assert shell(query, system).strip() == row.strip()


def test_the_readmes_route_is_valid_and_its_mistake_is_told_as_shown() -> None:
    (rules,) = blocks(README, "yaml")
    environment = {"ALERTS_URL": "https://example.com/alerts", "ALERTS_SECRET": SECRET}
    config.loads(rules, Plugins.load(), environment)
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
        (tmp_path / "events.jsonl").write_text('{"type": "track", "userId": "bob", "event": "Order Completed"}\n')
        shell(send, system)
        system.rows(3, "SELECT * FROM order_completed")

        person, orders = blocks(QUICKSTART, "sql")
        with closing(sqlite3.connect(system.data / "warehouse.sqlite3")) as connection:
            assert sorted(row[0] for row in connection.execute(person)) == ["identify", "page", "track", "track"]
            assert connection.execute(orders).fetchall() == [(None, None), ("o-1", 1200), ("o-2", 99)]

        (hit,) = sink.wait(alerts, 1)
        assert hit.json == {"text": "Order o-1: 1200"}
        Webhook(SECRET).verify(hit.body, hit.headers)
        assert time.time() - float(hit.headers["webhook-timestamp"]) < 60


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
