"""docs/operations.md: what `audit` and `trace` show there is what they show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from http_sink import Sink
from redis import Redis
from system import System, until

from eventrouter.settings import socket_path
from eventrouter.testing import Answer

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
RULES = """
version: 1
sources: { website: { write_key: key-website } }
destinations:
  crm: { plugin: webhook, options: { url: "${SINK}/docs-audit", allow_private: true } }
  ads: { plugin: webhook, consent: marketing, options: { url: "${SINK}/ads", allow_private: true } }
routes:
  - { name: orders, to: crm, when: event == "Order Completed" }
  - { name: all, to: ads }
"""


def examples(title: str) -> dict[str, str]:
    """What each command of a section is said to print."""
    [text] = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^```console\n\$ (.*?)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert blocks
    return dict(blocks)


def plain(text: str) -> list[str]:
    """Lines without what differs from run to run, and without empty ones."""
    text = re.sub(r"20\d\d-\d\d-\d\dT[\d:.]+Z", "TIME", text)
    text = re.sub(r"\b[0-9a-f]{32}\b", "PERSON", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "VERSION", text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def shown(system: System, command: str, code: int = 0) -> list[str]:
    done = system.run(*shlex.split(command)[1:])
    assert done.returncode == code, done.stdout + done.stderr
    return plain(done.stdout)


def order(number: int) -> dict[str, object]:
    consent = {"consent": {"categoryPreferences": {"marketing": number == 3}}}
    name = "Order Completed" if number < 4 else "Product Viewed"
    return {"type": "track", "event": name, "messageId": f"o-{number}", "anonymousId": f"a{number}", "context": consent}


@pytest.fixture(scope="module")
def world(sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    def answer(body: dict[str, object]) -> Answer:
        if body["messageId"] == "o-2":
            return Answer(422)
        if body["messageId"] == "o-3" and not any(hit.json == body for hit in sink.at("/docs-audit")):
            return Answer(500)
        return Answer()

    sink.always("/docs-audit", answer)
    with System(tmp_path_factory.mktemp("docs"), RULES, {"SINK": sink.url}) as system:
        batch = [*map(order, range(1, 6)), order(1), {"type": "track", "userId": "u"}]
        assert system.post("/v1/batch", {"batch": batch}).status == 200
        until(lambda: len(sink.taken("/docs-audit")) == 2, every=0.2)
        system.until_count(2, "deliveries_delivered_total", destination="crm")
        system.rows(1, "SELECT * FROM dead_letters")
        system.rows(1, "SELECT * FROM rejected_events")
        yield system


def test_an_audit_that_adds_up_is_as_the_page_says(world: System) -> None:
    example = examples("Was anything lost?")
    assert plain(example["eventrouter audit"]) == shown(world, "eventrouter audit")
    assert plain(example["eventrouter audit --deep"]) == shown(world, "eventrouter audit --deep")[-2:]


def test_what_is_missing_and_was_booked_is_as_the_page_says(world: System) -> None:
    example = examples("Was anything lost?")
    with Redis(unix_socket_path=str(socket_path(world.data))) as redis:
        redis.hincrby("er:{0}:counts", "to:crm", 1)
        redis.hincrby("er:{0}:counts", "events:crm", 1)
        assert plain(example["eventrouter audit | tail -3"]) == shown(world, "eventrouter audit", 1)[-3:]
        [(command, said)] = [(one, text) for one, text in example.items() if one.startswith("redis-cli")]
        assert [said.strip()] == [f"(integer) {redis.execute_command(*shlex.split(command)[3:])}"]
        assert shown(world, "eventrouter audit")[-1] == "Every sum adds up, in each of 4 shards."


def test_the_story_of_an_event_is_as_the_page_says(world: System) -> None:
    for command, text in examples("What became of one event?").items():
        assert plain(text) == shown(world, command)
