"""docs/enrichments.md: its examples are run, its tables are those of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import geo_kit
from eventrouter.builtin.campaign import CAMPAIGN, CLICK_IDS
from eventrouter.config import load, loads
from eventrouter.enrichments import Enrichments
from eventrouter.errors import ConfigError
from eventrouter.events import StoredEvent
from eventrouter.plugins import Plugins
from eventrouter.route import Router

TEXT = (Path(__file__).parents[1] / "docs" / "enrichments.md").read_text()
BLOCKS = [
    (match[1] or "", match[2], match[3])
    for match in re.finditer(r"(?:<!-- ([^\n]+) -->\n)?```(\w+)\n(.*?)```", TEXT, re.DOTALL)
]
HEAD = "version: 1\nsources:\n  website: { write_key: dev-website }\nenrichments:\n"


def blocks(label: str) -> list[str]:
    return [body for name, _, body in BLOCKS if name == label]


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins.load()


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A routes.yaml yet to be written, beside the files that the page names."""
    geo_kit.city(tmp_path)
    geo_kit.asn(tmp_path)
    return tmp_path / "routes.yaml"


async def enriched(path: Path, plugins: Plugins, event: Any) -> Any:
    config = load(path, plugins, {})
    enrichments = Enrichments([one.cls(one.options) for one in config.enrichments.values()])
    await enrichments.start()
    try:
        (found,), _, counts = await enrichments.run(0, [StoredEvent("website", event)])
    finally:
        await enrichments.close()
    assert {} == counts
    return found.event


def test_each_file_is_valid(rules: Path, plugins: Plugins) -> None:
    files = [body for _, language, body in BLOCKS if language == "yaml"]
    assert 3 == len(files)
    for file in files:
        rules.write_text(file)
        assert () == load(rules, plugins, {}).warnings


async def test_the_event_gets_what_the_page_says(rules: Path, plugins: Plugins) -> None:
    rules.write_text(blocks("rules")[0])
    event = json.loads(blocks("event")[0])
    added = json.loads(blocks("adds")[0])
    expected = {**event, "context": {**event["context"], **added}}
    assert expected == await enriched(rules, plugins, event)


async def test_a_bot_gets_what_the_page_says(rules: Path, plugins: Plugins) -> None:
    rules.write_text(HEAD + "  user_agent: false\n")
    ((label, _, body),) = [block for block in BLOCKS if block[0].startswith("bot ")]
    agent = label.removeprefix("bot ")
    event = await enriched(rules, plugins, {"messageId": "m", "context": {"userAgent": agent}})
    assert {"userAgent": agent, **json.loads(body)} == event["context"]


def test_bots_are_kept_from_destinations_as_the_page_says(plugins: Plugins) -> None:
    config = loads(blocks("bots")[0], plugins, {})
    assert "bots" in config.enrichments
    event = {"type": "page", "messageId": "m", "anonymousId": "a", "context": {}}
    people = Router(config).route([StoredEvent("website", event)])
    assert {"crm", "ads"} == {one.destination for one in people.deliveries}
    bots = Router(config).route([StoredEvent("website", {**event, "context": {"isBot": True}})])
    assert ([], {("crm", "bot"): 1, ("ads", "no_route"): 1}) == (bots.deliveries, dict(bots.filtered))


@pytest.mark.parametrize("number", [0, 1])
def test_each_problem_is_told_as_the_page_says(number: int, rules: Path, plugins: Plugins) -> None:
    shown = blocks("problem")[number]
    line = re.search(r"^5\| (.*)$", shown, re.MULTILINE)
    assert line is not None
    rules.write_text(f"{HEAD}{line[1]}\n")
    with pytest.raises(ConfigError) as caught:
        load(rules, plugins, {}, check_files=True)
    told = "".join(f"{problem}\n" for problem in caught.value.problems)
    assert shown == told.replace(f"{rules}:", "routes.yaml:").replace(str(rules.parent), "/etc/eventrouter")


def rows(section: str) -> list[list[str]]:
    text = TEXT.partition(f"## {section}\n")[2].partition("\n## ")[0] if section else TEXT.partition("\n## ")[0]
    table = re.findall(r"^\| (.+) \|$", text, re.MULTILINE)
    return [row.split(" | ") for row in table if not row.startswith("-")][1:]


def test_every_enrichment_of_ours_is_listed_with_its_default(plugins: Plugins) -> None:
    ours = {row["name"] for row in plugins.list() if row["kind"] == "enrichment" and row["package"] == "eventrouter"}
    listed = {row[0].strip("`"): row[3] for row in rows("")}
    assert ours == set(listed)
    defaults = {cls.name: "on" if cls.enabled else "off" for cls in plugins.enrichments if cls.name != "identity"}
    assert defaults == {name: default for name, default in listed.items() if name in defaults and name != "identity"}


@pytest.mark.parametrize("name", ["bots", "campaign", "geo", "user_agent"])
def test_every_option_is_listed_with_its_default(name: str, plugins: Plugins) -> None:
    (cls,) = [one for one in plugins.enrichments if one.name == name]
    expected = {
        option: "required" if field.is_required() else f"`{json.dumps(field.default)}`"
        for option, field in cls.Options.model_fields.items()
    }
    if not expected:
        assert "There are no options." in TEXT.partition(f"## {name}\n")[2].partition("\n## ")[0]
    else:
        assert expected == {row[0].strip("`"): row[1] for row in rows(name)}


def test_every_parameter_of_a_campaign_is_listed() -> None:
    listed = {name for row in rows("campaign") for name in re.findall(r"`(\w+)`", row[0])}
    assert {*CAMPAIGN, *CLICK_IDS} == listed
