"""Rules that change while everything runs: what is saved is in use within two seconds, what is wrong is not."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest
from http_sink import Sink

from cli_kit import Place
from cli_kit import wait_until as wait
from eventrouter.testing import Answer

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


def wait_until(condition: Callable[[], object]) -> None:
    """Patient with a busy machine."""
    wait(condition, 60)


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


def send(place: Place, *names: str, key: str = "test-key") -> int:
    """Sends an event of each name; those that begin alike are of one user."""
    events = [{"type": "track", "event": name, "userId": name[0], "messageId": name} for name in names]
    lines = "".join(json.dumps(event) + "\n" for event in events)
    return place.run("send", "-", "--url", place.url, "--write-key", key, stdin=lines).returncode


def metrics(place: Place) -> str:
    with urlopen(place.url + "/metrics") as answer:
        return answer.read().decode()


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
    assert send(place, "after", key="another") == 0
    wait_until(lambda: bodies(sink)[1:] == [{"name": "after", "mark": 2}])
    wait_until(
        lambda: {(version, problem) for _, version, problem in rules(place)} == {(status(place)["rules"], False)}
    )

    save(place, good.replace('type == "track"', "tpe == 'track'"))
    wait_until(lambda: [problem for _, _, problem in rules(place)] == [True, True])
    told = place.run("status")
    assert (told.returncode, told.stdout.count("goes on with the rules")) == (0, 2)
    assert "`when` uses the unknown name `tpe`" in told.stderr
    assert send(place, "broken", key="another") == 0
    wait_until(lambda: {"name": "broken", "mark": 2} in bodies(sink))

    save(place, good.replace('type == "track"', 'type != "group"').replace("mark: 2", "mark: 3"))
    wait_until(lambda: all("a page goes nowhere" in one["problem"] for one in status(place)["processes"]))
    assert send(place, "untested", key="another") == 0
    wait_until(lambda: {"name": "untested", "mark": 2} in bodies(sink))

    save(place, good.replace("mark: 2", "mark: 4"))
    wait_until(lambda: not any(one["problem"] for one in status(place)["processes"]))
    assert send(place, "mended") == 0
    wait_until(lambda: {"name": "mended", "mark": 4} in bodies(sink))


def children(place: Place, what: str) -> list[int]:
    """The processes of `up` that run `what`."""
    found = []
    for one in psutil.Process(place.running[-1].pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is such a one too
            if what in " ".join(one.cmdline()):
                found.append(one.pid)
    return found


def destination(place: Place) -> dict:
    return status(place)["destinations"]["hook"]


def test_a_destination_on_hold_is_tried_at_once_when_its_options_are_corrected(place: Place, sink) -> None:
    sink.always("/wrong", Answer(401))
    wrong = RULES.format(url=sink.url + "/wrong", mark=1)
    save(place, wrong)
    wait_until(lambda: {version for _, version, _ in rules(place)} == {status(place)["rules"]})
    names = [f"{user}1" for user in "abcdef"]
    assert send(place, *names) == 0
    # It was probed once: the next try is minutes away.
    wait_until(lambda: (destination(place)["next_try_seconds"] or 0) > 60)
    save(place, wrong.replace("/wrong", "/hook"))
    wait_until(lambda: sorted(one["name"] for one in bodies(sink)) == names)
    assert (destination(place)["state"], destination(place)["waiting"]) == ("ok", 0)


def test_what_waits_for_a_destination_that_is_taken_out_stays_and_arrives_in_order_when_it_is_back(
    place: Place, sink
) -> None:
    with_it = RULES.format(url=sink.url + "/hook", mark=1)
    without = with_it.replace("hook: {", "other: {").replace("to: hook", "to: other").replace("/hook", "/other")
    names = [f"{key}{number}" for number in range(20) for key in "abc"]
    sink.always("/hook", Answer(503))
    assert send(place, *names) == 0
    wait_until(lambda: destination(place)["waiting"] == len(names) and destination(place)["state"] == "backing off")
    save(place, without)
    wait_until(lambda: {version for _, version, _ in rules(place)} == {status(place)["rules"]})
    sink.always("/hook", None)
    assert (destination(place)["state"], destination(place)["waiting"]) == ("not in routes.yaml", len(names))
    assert re.search(rf"hook +not in routes.yaml .*\b{len(names)}\b", place.run("status").stdout)
    assert send(place, "meanwhile") == 0
    wait_until(lambda: [hit.json["name"] for hit in sink.at("/other")] == ["meanwhile"])
    os.kill(children(place, "eventrouter work")[0], signal.SIGKILL)
    assert destination(place)["waiting"] == len(names)
    assert sink.taken("/hook") == []

    save(place, with_it)
    wait_until(lambda: len({hit.id for hit in sink.taken("/hook")}) >= len(names))
    wait_until(lambda: (destination(place)["waiting"], destination(place)["delivered"]) == (0, len(names)))
    first = {hit.id: hit.json["name"] for hit in reversed(sink.taken("/hook"))}  # by key; what comes again has the same
    arrived = list(reversed(first.values()))
    assert sorted(arrived) == sorted(names)
    for key in "abc":
        assert [name for name in arrived if name[0] == key] == [name for name in names if name[0] == key]


def test_what_dies_while_the_file_is_broken_comes_back_with_the_last_good_rules(place: Place, sink) -> None:
    good = RULES.format(url=sink.url + "/hook", mark=2)
    save(place, good)
    wait_until(lambda: {version for _, version, _ in rules(place)} == {status(place)["rules"]})
    version = status(place)["rules"]
    save(place, good.replace('type == "track"', "tpe == 'track'").replace("mark: 2", "mark: 3"))
    wait_until(lambda: [problem for _, _, problem in rules(place)] == [True, True])
    for what in ("eventrouter collect", "eventrouter work"):
        [victim] = children(place, what)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda what=what, victim=victim: children(place, what) not in ([], [victim]))
    wait_until(lambda: send(place, "after the kill") == 0)
    wait_until(lambda: {"name": "after the kill", "mark": 2} in bodies(sink))
    told = [("collector", version, True), ("worker", version, True)]
    wait_until(lambda: rules(place) == told)
    assert "eventrouter_rules_problems 2.0" in metrics(place)

    assert place.stop(place.running[-1]) == 0
    place.up()
    assert "so the last good rules are in use:\n    routes.yaml:7:" in place.out
    assert send(place, "after the start") == 0
    wait_until(lambda: {"name": "after the start", "mark": 2} in bodies(sink))
    wait_until(lambda: rules(place) == told)

    save(place, good.replace("mark: 2", "mark: 4"))
    wait_until(lambda: not any(one["problem"] for one in status(place)["processes"]))
    assert send(place, "mended") == 0
    wait_until(lambda: {"name": "mended", "mark": 4} in bodies(sink))


def test_rules_whose_tests_fail_are_as_broken_ones_at_a_start(tmp_path: Path, sink) -> None:
    good = RULES.format(url=sink.url + "/hook", mark=1)
    place = Place(tmp_path, good.replace('type == "track"', 'type != "group"'))
    first = place.run("up")
    assert first.returncode == 78
    assert "the test “a page goes nowhere” fails: hook: expected nothing, got" in first.stderr
    assert place.files() == ["routes.yaml"]
    save(place, good)
    try:
        assert place.stop(place.up()) == 0
        save(place, good.replace('type == "track"', 'type != "group"'))
        place.up()
        assert "the test “a page goes nowhere” fails" in place.out
        assert send(place, "by the last good rules") == 0
        wait_until(lambda: bodies(sink) == [{"name": "by the last good rules", "mark": 1}])
    finally:
        place.close()
