"""`eventrouter send`: a file into a real collector."""

from __future__ import annotations

import json
import re

import pytest

from cli_kit import Place
from eventrouter.cli.send import open_input
from eventrouter.errors import EventRouterError

FILE = '{"type":"track","event":"Paid","userId":"u1"}\nnonsense\n{"type":"track"}\n{"type":"page","anonymousId":"a"}\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("send"))
    place.up()
    (place.path / "events.jsonl").write_text(FILE)
    yield place
    place.close()


def test_a_file_is_sent_and_what_was_refused_is_told_by_line(place):
    result = place.run("send", "events.jsonl")
    assert result.returncode == 1
    assert result.stdout == "Sent 2 events, 2 lines were refused.\n"
    lines = result.stderr.splitlines()
    assert [line.split(":")[:2] for line in lines] == [["line 2", " invalid_json"], ["line 3", " no_user_anon_id"]]


def test_a_script_gets_json(place):
    result = place.run("send", "events.jsonl", "--json")
    report = json.loads(result.stdout)
    assert (result.returncode, report["sent"]) == (1, 2)
    assert [(one["line"], one["code"]) for one in report["rejected"]] == [(2, "invalid_json"), (3, "no_user_anon_id")]


def test_standard_input_is_sent_to_a_source_by_name(place):
    result = place.run("send", "-", "--source", "app", stdin='{"type":"track","event":"E","userId":"u"}\n')
    assert (result.returncode, result.stdout) == (0, "Sent 1 event, 0 lines were refused.\n")


def test_another_collector_and_key_can_be_named(place):
    result = place.run("send", "events.jsonl", "--url", place.url, "--write-key", "wrong", EVENTROUTER_PORT="1")
    assert (result.returncode, "refuses the write key" in result.stderr) == (1, True)


def test_a_source_that_is_not_there_is_told_with_those_that_are(place):
    result = place.run("send", "events.jsonl", "--source", "nobody")
    assert (result.returncode, "it has: website, app" in result.stderr) == (1, True)


def test_a_file_that_is_not_there_is_told(place):
    result = place.run("send", "none.jsonl")
    assert (result.returncode, "cannot read none.jsonl: No such file" in result.stderr) == (1, True)


def test_a_closed_standard_input_is_told(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(EventRouterError, match="the standard input is closed"):
        open_input("-")


def test_a_collector_that_is_away_is_waited_for_as_long_as_told(place):
    result = place.run("send", "events.jsonl", "--wait", "1", EVENTROUTER_PORT="1")
    first, *rest = result.stderr.splitlines()
    assert re.fullmatch(
        r"Waiting for http://127\.0\.0\.1:1 until \d\d:\d\d:\d\d \(--wait 1\): .*Connection refused.*", first
    )
    assert (result.returncode, "the collector takes no events" in "".join(rest)) == (1, True)
    assert "is `eventrouter up` running?" in result.stderr
