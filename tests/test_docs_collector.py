"""docs/collector.md: each example is asked of a collector, and no code, path or limit is left out."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from eventrouter import serve as server
from eventrouter.accept import accept
from eventrouter.acceptance import Limits
from eventrouter.collect import Collector
from eventrouter.collecting import Sources
from eventrouter.config import loads
from eventrouter.decode import MAX_DEPTH
from eventrouter.events import EVENT_TYPES
from eventrouter.pixel import MAX_FIELDS, read_pairs, read_pixel
from eventrouter.plugins import Plugins
from eventrouter.receive import PACE_BYTES, PACE_SECONDS, Budget
from eventrouter.validation import MAX_ID_BYTES, MAX_MESSAGE_ID

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "collector.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
EXAMPLES = re.findall(r"^```http\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
CODE = "\n".join(path.read_text() for path in (ROOT / "src" / "eventrouter").glob("*.py"))
(RULES,) = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def rows(section: str) -> list[list[str]]:
    """The cells of the section's tables, heads included."""
    lines = re.findall(r"^\|(.+)\|$", SECTIONS[section], re.MULTILINE)
    return [[cell.strip() for cell in line.split(" |")] for line in lines if not set(line) <= set("-|")]


def codes(cells: list[str]) -> set[str]:
    return {code for cell in cells for code in re.findall(r"`([a-z_]+)`", cell)}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Where a collector of the page's rules listens."""
    config = loads(RULES, Plugins(), {})
    sources = Sources(config, {})

    async def nothing(*_: Any) -> Any:
        return {}

    app = Collector(
        sources=sources.by_key,
        webhooks=sources.webhooks,
        accept=accept,
        append=nothing,
        ready=nothing,
        metrics=nothing,
        options=config.collect,
    )
    stop = asyncio.Event()
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(server.serve(app, "127.0.0.1", 0, stop=stop, on_ready=url.set_result))
    yield int((await url).rpartition(":")[2])
    stop.set()
    await task


def parse(message: str) -> tuple[str, dict[str, str], str]:
    """The first line of an HTTP message, its headers by their names in small letters, and its body."""
    head, _, body = message.replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.strip().split("\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return first, {name.lower(): value for name, value in headers.items()}, body.strip()


async def ask(port: int, request: str) -> str:
    first, headers, body = parse(request)
    headers |= {"connection": "close", "content-length": str(len(body.encode()))}
    head = "\r\n".join([first, *(f"{name}: {value}" for name, value in headers.items())])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{head}\r\n\r\n{body}".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.decode("utf-8", "replace")


@pytest.mark.parametrize("example", EXAMPLES)
async def test_each_request_gets_the_answer_that_is_shown(port: int, example: str) -> None:
    request, separator, response = example.partition("\nHTTP/1.1 ")
    first, headers, body = parse(separator.strip() + " " + response)
    found_first, found_headers, found_body = parse(await ask(port, request))
    assert first == found_first
    assert headers == {name: found_headers.get(name) for name in headers}
    if body:
        assert json.loads(body) == json.loads(found_body)


def test_the_examples_are_found() -> None:
    assert len(EXAMPLES) == 11


@pytest.mark.parametrize("row", rows("The pixel")[1:])
def test_each_parameter_says_what_the_page_shows(row: list[str]) -> None:
    query, event = (cell.strip("`") for cell in row)
    assert read_pixel(read_pairs(query.encode())).value == json.loads(event)


async def test_each_path_is_there(port: int) -> None:
    paths = [(path, row[1].split(", ")) for row in rows("Paths")[1:] for path in re.findall(r"`(/[^`]+)`", row[0])]
    assert len(paths) == 25
    for path, methods in paths:
        path = path.replace("KEY", "dev-app").replace("SOURCE", "none").replace("/eventrouter.js", "/health")
        for method in ("GET", "POST", "PUT"):
            status = int((await ask(port, f"{method} {path} HTTP/1.1\nHost: localhost\n\n")).split()[1])
            if "webhook" in path:
                assert status == 404
            else:
                assert (status == 405) == (method not in methods), (method, path)
    for type_ in EVENT_TYPES:
        assert {f"/v1/{type_}", f"/v1/{type_[0]}"} <= {path for path, _ in paths}


def test_no_code_of_a_refused_request_is_left_out() -> None:
    table = [row for row in rows("What is refused") if len(row) == 3]
    told = {code: row[1] for row in table[1:] for code in codes(row[:1])}
    statuses = {
        code: status or "400"
        for code, status in re.findall(r'BodyError\(\s*"([a-z_]+)",(?:[^()]|\([^()]*\))*?(?:status=(\d+))?\)', CODE)
    }
    made = re.findall(r'(?:failure|busy|_refuse)\(\s*(\d{3}), "([a-z_]+)"', CODE)
    statuses |= {code: status for status, code in made}
    assert told.keys() - statuses.keys() == {"missing_write_key", "rate_limited", "unavailable"}
    assert statuses.keys() - told.keys() == set()
    assert {code: told[code] for code in statuses} == statuses | {
        "unknown_write_key": "401",
        "invalid_signature": "401",
    }


def test_no_code_of_a_refused_event_is_left_out() -> None:
    told = {code for row in rows("What is refused") if len(row) == 2 for code in codes(row[:1])}
    found = set(re.findall(r'EventFault\(\s*"([a-z_]+)"', CODE))
    made = {f"too_many_{name}" for name in ("properties", "traits")} | {
        f"{name}_not_string" for name in ("name", "category")
    }
    made |= {f"{name}_not_object" for name in ("properties", "traits", "context", "integrations")}
    assert told == found | made | {"mapping_failed"}


def test_the_limits_are_those_of_the_code() -> None:
    limits = {row[0]: row[1] for row in rows("The body")}
    ours = Limits()
    assert limits["one event, as compact JSON"] == f"{ours.max_event_bytes // 1024} KB"
    assert limits["a body, before and after it is decompressed"] == f"{ours.max_batch_bytes // 1024} KB"
    assert limits["events of a batch"] == f"{ours.max_batch_events:,}"
    assert limits["keys of `properties`, and of `traits`"] == f"{ours.max_properties:,}"
    assert limits["levels of nesting"] == str(MAX_DEPTH)
    assert limits["`messageId`"] == f"{MAX_MESSAGE_ID} characters"
    assert limits["other ids"] == f"{MAX_ID_BYTES:,} bytes"
    assert limits["parameters of a pixel"] == f"{MAX_FIELDS:,}"
    assert limits["a request's head"] == f"{server.HEADER_BYTES // 1024} KB, {server.HEADER_SECONDS:g} s"
    assert "serves 8,192 connections" in SECTIONS["Connections"]
    assert inspect.signature(server.serve).parameters["connections"].default == 8192
    assert f"open for {server.KEEP_ALIVE_SECONDS} s" in SECTIONS["Connections"]
    assert f"nothing for {server.SILENT_SECONDS:g} s" in SECTIONS["Connections"]
    assert limits["a body's arrival"] == f"{ours.body_timeout:g} s"
    assert limits["all requests that are in memory"] == f"{ours.max_held_bytes // 1024**2} MB"
    budget = Budget(ours.max_held_bytes)
    assert limits["of these, bodies that are incomplete"] == f"{budget.incomplete_limit // 1024**2} MB"
    assert limits["a body's pace, while those take 16 MB or more"] == f"{PACE_BYTES // 1024} KB in {PACE_SECONDS:g} s"
    budget.take_incomplete(16 * 1024**2 - 1)
    assert not budget.crowded
    budget.take_incomplete(1)
    assert budget.crowded
