"""Rules that change while everything runs: what is saved is in use within two seconds, what is wrong is not."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from http_sink import Sink

from cli_kit import Place, wait_until

RULES = """
version: 1
sources: {{ website: {{ write_key: test-key }} }}
destinations:
  hook: {{ plugin: webhook, options: {{ url: "{url}", allow_private: true }} }}
routes:
  - {{ name: tracks, to: hook, when: type == "track", map: {{ name: "{{{{ event }}}}", mark: {mark} }} }}
tests:
  - {{ name: a page goes nowhere, given: {{ type: page }}, expect: {{}} }}
"""


@pytest.fixture
def sink():
    with Sink() as sink:
        yield sink


@pytest.fixture
def place(tmp_path: Path, sink):
    place = Place(tmp_path, RULES.format(url=sink.url + "/hook", mark=1))
    place.up()
    yield place
    place.close()


def save(place: Place, text: str) -> None:
    """Saves as editors do: a new file in the place of the old one."""
    new = place.path / "routes.yaml.new"
    new.write_text(text)
    new.replace(place.path / "routes.yaml")


def status(place: Place) -> dict:
    return json.loads(place.run("status", "--json").stdout)


def rules(place: Place) -> list[tuple[str, str, bool]]:
    return [(one["kind"], one["rules"], bool(one["problem"])) for one in status(place)["processes"]]


def send(place: Place, name: str, key: str = "test-key") -> int:
    line = json.dumps({"type": "track", "event": name, "userId": "u", "messageId": name}) + "\n"
    return place.run("send", "-", "--url", place.url, "--write-key", key, stdin=line).returncode


def bodies(sink: Sink) -> list[dict]:
    return [hit.json for hit in sink.at("/hook")]


def test_saved_rules_are_in_use_within_two_seconds_and_wrong_ones_are_not(place: Place, sink) -> None:
    assert send(place, "before") == 0
    wait_until(lambda: bodies(sink) == [{"name": "before", "mark": 1}])
    first = {version for _, version, _ in rules(place)}
    assert len(first) == 1

    good = RULES.format(url=sink.url + "/hook", mark=2).replace("test-key", "[test-key, another]")
    save(place, good)
    time.sleep(2)
    assert send(place, "after", "another") == 0
    wait_until(lambda: bodies(sink)[1:] == [{"name": "after", "mark": 2}])
    wait_until(
        lambda: {(version, problem) for _, version, problem in rules(place)} == {(status(place)["rules"], False)}
    )

    save(place, good.replace('type == "track"', "tpe == 'track'"))
    wait_until(lambda: [problem for _, _, problem in rules(place)] == [True, True])
    told = place.run("status")
    assert (told.returncode, told.stdout.count("goes on with the rules")) == (0, 2)
    assert "`when` uses the unknown name `tpe`" in told.stderr
    assert send(place, "broken", "another") == 0
    wait_until(lambda: {"name": "broken", "mark": 2} in bodies(sink))

    save(place, good.replace('type == "track"', 'type != "group"').replace("mark: 2", "mark: 3"))
    wait_until(lambda: all("a page goes nowhere" in one["problem"] for one in status(place)["processes"]))
    assert send(place, "untested", "another") == 0
    wait_until(lambda: {"name": "untested", "mark": 2} in bodies(sink))

    save(place, good.replace("mark: 2", "mark: 4"))
    wait_until(lambda: not any(one["problem"] for one in status(place)["processes"]))
    assert send(place, "mended") == 0
    wait_until(lambda: {"name": "mended", "mark": 4} in bodies(sink))
