"""docs/browser.md: its examples run, and its tables are what the sources know. tests/clients runs its snippet."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

ROOT = Path(__file__).parent.parent
BROWSER = ROOT / "browser"
GUIDE = (ROOT / "docs" / "browser.md").read_text("utf-8")
BLOCKS = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', GUIDE, re.MULTILINE | re.DOTALL))


def rows(header: str) -> dict[str, list[str]]:
    """The rows of the tables with this first column: the names in it, and the texts beside them."""
    found = {}
    for table in re.findall(rf"^\| {header} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", GUIDE, re.MULTILINE):
        for line in table.splitlines():
            first, *rest = (cell.strip() for cell in line.strip("|").split("|"))
            for name in re.findall(r"`([^`]+)`", first):
                found[name] = rest
    return found


def source(name: str) -> str:
    return (BROWSER / "src" / name).read_text("utf-8")


@pytest.fixture
def sent(httpserver: HTTPServer) -> Any:
    """Runs an example in Node.js; gives what it printed, and the events that it sent."""
    if not (BROWSER / "node_modules" / "analytics").is_dir():
        subprocess.run(["npm", "ci", "--loglevel=error"], cwd=BROWSER, check=True, timeout=110)
    httpserver.expect_request("/v1/batch", method="POST").respond_with_json({"success": True})

    def run(title: str) -> tuple[str, list[dict[str, Any]]]:
        script = BLOCKS[title].replace("https://events.example.com", httpserver.url_for("/"))
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        done = subprocess.run(
            ["node", "--input-type=module", "-"],
            input=script,
            env={**os.environ, "PATH": path},
            cwd=BROWSER,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        bodies = [json.loads(request.data) for request, _ in httpserver.log]
        assert {body["writeKey"] for body in bodies} == {"YOUR_WRITE_KEY"}
        return done.stdout, [event for body in bodies for event in body["batch"]]

    return run


def test_the_example_of_the_plugin_sends_each_call(sent: Any) -> None:
    _, events = sent("analytics")
    assert sorted(event["type"] for event in events) == ["group", "identify", "page", "track"]
    [track] = [event for event in events if event["type"] == "track"]
    assert (track["userId"], track["event"], track["properties"]) == ("user-1", "Order Completed", {"total": 42.5})


def test_the_example_of_a_server_sends_for_each_user_and_says_that_all_is_sent(sent: Any) -> None:
    printed, events = sent("server")
    assert printed == "true\n"
    assert [(event["userId"], event["properties"]["total"]) for event in events] == [("user-1", 42.5), ("user-2", 7)]
    assert all("anonymousId" not in event for event in events)


def test_every_attribute_of_the_tag_stands_there() -> None:
    [taken] = re.findall(r"function readOptions\(\{ (.+) \}\)", source("script.js"))
    names = ["data-" + re.sub("[A-Z]", lambda letter: f"-{letter[0].lower()}", name) for name in taken.split(", ")]
    assert sorted([*names, "data-auto-page"]) == sorted(rows("attribute"))


def test_every_call_stands_there() -> None:
    [methods] = re.findall(r"^const METHODS = \[(.+)\]$", source("script.js"), re.MULTILINE)
    names = re.findall(r"'(\w+)'", methods)
    assert set(names) == {row.split("(")[0] for row in rows("call")}
    assert " ".join(names) in BLOCKS["snippet"]


def test_every_option_of_the_plugin_stands_there_with_its_default() -> None:
    options = rows("option")
    typed = re.findall(
        r"^  (\w+)\??:", source("index.d.ts").partition("interface Options")[2].partition("\n}")[0], re.M
    )
    assert sorted(typed) == sorted(options)
    defaults = re.findall(r"^  (\w+): ([\d_]+),$", source("index.js"), re.MULTILINE)
    assert len(defaults) == 4
    for name, value in defaults:
        assert f"`{value.replace('_', '')}`" in options[name][0], name


def test_what_it_stores_is_what_the_sources_store() -> None:
    keys = "".join(re.findall(r"^\| (?:localStorage|cookie) \| (.+?) \|", GUIDE, re.MULTILINE))
    for key, file in {
        "__anon_id": "identity.js",
        "__user_id": "identity.js",
        "er_anonymous_id": "index.js",
        "eventrouter.consent": "index.js",
    }.items():
        assert key in keys
        assert f"'{key}'" in source(file)
