"""docs/sources.md: its tables are those of the code, its examples run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from eventrouter.config import loads
from eventrouter.config_model import CollectConfig, CookieConfig, SourceConfig
from eventrouter.config_sources import KEYS
from eventrouter.origins import Origins
from eventrouter.plugins import Plugins
from eventrouter.query_parameters import QueryParameters
from eventrouter.visitor import CHANNELS
from source_kit import Collecting

TEXT = (Path(__file__).parent.parent / "docs" / "sources.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
BLOCKS = [
    (match[1] or "", match[2], match[3])
    for match in re.finditer(r"(?:<!-- ([a-z ]+) -->\n)?```(\w+)\n(.*?)```", TEXT, re.DOTALL)
]
FILES = ["version: 1\n" + body for _, language, body in BLOCKS if language == "yaml"]
SECRETS = {"SCRUB_SALT": "pepper, and more of it", "STRIPE_WEBHOOK_SECRET": "whsec_x"}
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"


def rows(section: str) -> list[list[str]]:
    """The cells of the section's tables, without their heads, backticks taken off."""
    lines = re.findall(r"^\|(.+)\|$", SECTIONS[section], re.MULTILINE)
    cells = [[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)] for line in lines]
    heads = {index for index, row in enumerate(cells) if set(row[0]) == {"-"}}
    return [row for index, row in enumerate(cells) if index not in heads and index + 1 not in heads]


def block(label: str) -> Any:
    return next(json.loads(body) for name, _, body in BLOCKS if name == label)


@pytest.mark.parametrize("text", FILES)
def test_each_file_is_valid(text: str) -> None:
    assert loads(text, Plugins(), SECRETS).warnings == ()


def test_every_key_is_told() -> None:
    assert [row[0] for row in rows("One source")] == list(KEYS)
    assert sorted(row[0] for row in rows("Scrub") if len(row) == 2 and row[0].isalpha()) == [
        "hash",
        "query",
        "remove",
        "salt",
    ]
    assert [row[0] for row in rows("Cookie")] == ["name", "domain", "max_age"]
    assert [row[0] for row in rows("The collector")] == ["path_prefix", "public_url", "trusted_proxies", "spool"]


def test_the_defaults_are_those_of_the_code() -> None:
    source, cookie = SourceConfig("a", ()), CookieConfig()
    assert (source.enabled, source.origins, source.rate_limit, source.scrub) == (True, None, None, None)
    assert [row[2] for row in rows("Cookie")] == [cookie.name, "the collector's host alone", "365d"]
    assert cookie.max_age == 365 * 86_400
    assert CollectConfig() == CollectConfig("", "", (), 1024**3)


def test_the_origins_are_allowed_as_the_table_says() -> None:
    table = rows("Origins")
    assert len(table) == 9
    for pattern, origin, said in table:
        config = loads(f"version: 1\nsources: {{ a: {{ write_key: k, origins: ['{pattern}'] }} }}\n", Plugins(), {})
        allowed = Origins(config.sources["a"].origins or ()).allow(origin.encode())
        assert allowed == (said == "may send"), (pattern, origin)


async def test_a_page_of_another_origin_is_refused() -> None:
    collecting = Collecting(FILES[0], **SECRETS)
    event = {"userId": "u", "event": "A"}
    refused = await collecting.post("/v1/track", event, "dev-website", origin="https://other.example")
    assert (refused.status, refused.json["code"]) == (403, "origin_not_allowed")
    assert (await collecting.post("/v1/track", event, "dev-website", origin="https://shop.example")).status == 200
    assert (await collecting.post("/e/v1/track", event, "backend-2025")).status == 200
    assert (await collecting.post("/v1/track", event, "backend-2026")).status == 200
    assert len(collecting.events) == 3


async def test_a_source_that_is_switched_off_is_refused() -> None:
    collecting = Collecting("version: 1\nsources: { a: { write_key: k, enabled: false } }\n")
    refused = await collecting.post("/v1/track", {"userId": "u", "event": "A"}, "k")
    assert (refused.status, refused.json["code"]) == (403, "source_disabled")


async def test_too_many_events_are_answered_as_the_page_says() -> None:
    collecting = Collecting("version: 1\nsources: { a: { write_keys: [k, l], rate_limit: 60/m } }\n")
    event = {"type": "track", "userId": "u", "event": "A"}
    assert (await collecting.post("/v1/batch", {"batch": [event] * 4}, "k")).status == 200
    limited = await collecting.post("/v1/track", event, "l")
    assert (limited.status, limited.headers[b"retry-after"], limited.json) == (429, b"4", block("limited"))
    assert len(collecting.events) == 4


async def test_the_example_of_scrub_stores_what_the_page_says() -> None:
    collecting = Collecting(FILES[1], **SECRETS)
    assert (await collecting.post("/v1/batch", {"batch": [block("sends")]}, "dev-website")).status == 200
    [event] = collecting.events
    assert {name: event[name] for name in block("stores")} == block("stores")


def test_query_parameters_go_as_the_table_says() -> None:
    clean = QueryParameters(["token", "email"]).clean
    examples = [row for row in rows("Scrub") if re.search(r"[=/]", row[0])]
    assert len(examples) == 6
    assert [clean(text) for text, _ in examples] == [cleaned for _, cleaned in examples]


def test_the_channels_are_those_of_the_code() -> None:
    told = {}
    for first, second in rows("Whose address"):
        if first.startswith("channel"):
            told |= dict.fromkeys(re.findall(r"`(\w+)`", first.partition(" is ")[2] + "`"), second == "yes")
    assert told == CHANNELS


@pytest.mark.parametrize(
    ("event", "agent", "visitor"),
    [
        ({"context": {"direct": True}}, "curl/8.5.0", True),
        ({"context": {"direct": False}}, FIREFOX, False),
        ({"channel": "web"}, "curl/8.5.0", True),
        ({"context": {"channel": "server"}}, FIREFOX, False),
        ({}, FIREFOX, True),
        ({"context": {"library": {"name": "analytics-swift"}, "device": {"type": "ios"}}}, "Shop/1 CFNetwork", True),
        ({"context": {"library": {"name": "analytics-python"}}}, "analytics-python/2.3.3", False),
    ],
)
async def test_the_address_is_a_visitors_as_the_table_says(event: Any, agent: str, visitor: bool) -> None:
    collecting = Collecting(
        "version: 1\nsources: { a: { write_key: k } }\ncollect: { trusted_proxies: [10.0.0.0/8] }\n"
    )
    body = {"userId": "u", "event": "A", **event}
    forwarded = "203.0.113.7, 10.1.1.1"
    await collecting.post("/v1/track", body, "k", client="10.0.0.1", user_agent=agent, x_forwarded_for=forwarded)
    assert collecting.events[0]["context"].get("ip") == ("203.0.113.7" if visitor else None)
