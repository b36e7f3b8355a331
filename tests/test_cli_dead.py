"""`eventrouter dead`: what was given up is listed with its reason, and sent again."""

from __future__ import annotations

import json

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from cli_kit import Place, wait_until

RULES = """
version: 1
sources: {{ website: {{ write_key: k }} }}
destinations:
  hook: {{ plugin: webhook, options: {{ url: "{url}", allow_private: true }} }}
  quiet: {{ plugin: stdout, enabled: false }}
routes:
  - {{ name: all, to: hook, when: type == "track" }}
"""


class Hook:
    """A webhook that refuses until it is told not to."""

    def __init__(self) -> None:
        self.server = HTTPServer()
        self.accepts = False
        self.taken = 0
        self.server.expect_request("/").respond_with_handler(self.answer)
        self.server.start()

    def answer(self, request: Request) -> Response:
        if not self.accepts:
            return Response("no [thanks]", 422)
        self.taken += 1
        return Response("ok", 200)


@pytest.fixture(scope="module")
def hook():
    hook = Hook()
    yield hook
    hook.server.stop()


@pytest.fixture(scope="module")
def place(tmp_path_factory, hook):
    place = Place(tmp_path_factory.mktemp("dead"), RULES.format(url=hook.server.url_for("/")))
    place.up()
    (place.path / "f").write_text(
        "".join(f'{{"type":"track","event":"{name}","userId":"u{name}","messageId":"{name}"}}\n' for name in "abc")
    )
    place.run("send", "f")
    wait_until(lambda: len(listed(place)) == 3, 40)
    yield place
    place.close()


def listed(place: Place, *options: str) -> list[dict]:
    return json.loads(place.run("dead", "list", "--json", *options).stdout)


def test_they_are_listed_with_the_reason(place):
    result = place.run("dead", "list")
    assert (result.returncode, result.stdout.count("HTTP 422")) == (0, 3)
    assert "permanent" in result.stdout


def test_they_are_filtered_and_limited(place):
    assert [row["message_id"] for row in listed(place, "--event", "b")] == ["b"]
    assert len(listed(place, "--limit", "2")) == 2
    assert listed(place, "--destination", "quiet") == listed(place, "--until", "1h") == []
    assert len(listed(place, "--since", "1h", "--class", "permanent", "--destination", "hook")) == 3
    assert place.run("dead", "list", "--event", "none").stdout == "There are no such dead letters.\n"
    assert "These" not in place.run("dead", "list", "--limit", "3").stderr


@pytest.mark.parametrize("command", ["list", "replay", "discard"])
@pytest.mark.parametrize(
    ("option", "name", "told"),
    [
        ("--destination", "hok", "there is no destination hok; did you mean `hook`?"),
        ("--destination", "nobody", "there is no destination nobody; there are hook, quiet"),
        ("--class", "permanet", "there is no class permanet; did you mean `permanent`?"),
        ("--class", "all", "there is no class all; there are permanent, attempts,"),
    ],
)
def test_a_name_that_nobody_knows_is_told_with_those_that_are(place, command, option, name, told):
    result = place.run("dead", command, option, name)
    shown = " ".join(result.stderr.replace("│", " ").split())
    assert (result.returncode, result.stdout, told in shown) == (2, "", True), shown


def test_dead_letters_of_a_destination_that_is_gone_are_found(place):
    rules = (place.path / "routes.yaml").read_text()
    (place.path / "other.yaml").write_text(rules.replace(" hook", " renamed"))
    assert len(listed(place, "--config", "other.yaml", "--destination", "hook")) == 3


def test_a_data_directory_that_is_not_there_is_told_and_not_made(place):
    for command in (["dead", "list"], ["status"]):
        result = place.run(*command, "--data-dir", "nodir")
        assert (result.returncode, "there is no data directory nodir" in result.stderr) == (1, True)
    assert "nodir" not in place.files()


def test_a_wrong_time_is_told(place):
    result = place.run("dead", "list", "--since", "noon")
    assert (result.returncode, "'noon' is not a time" in result.stderr) == (2, True)


def test_one_is_shown_with_its_payload_and_the_answer(place):
    shown = place.run("dead", "show", "a")
    assert 0 == shown.returncode, shown
    for part in ("track a a of website to hook", "state     dead", "no [thanks]", '"event": "a"', "HTTP 422"):
        assert part in shown.stdout
    [row] = json.loads(place.run("dead", "show", "a", "--destination", "hook", "--json").stdout)
    assert ("dead", "no [thanks]", "a") == (row["state"], row["response"], json.loads(row["payload"])["messageId"])
    missing = place.run("dead", "show", "z")
    assert (1, True) == (missing.returncode, "There is no dead letter of z" in missing.stdout)


def test_they_are_discarded_after_a_question_and_once_and_shown_on_demand(place, hook):
    (place.path / "g").write_text('{"type":"track","event":"spare","userId":"s","messageId":"s"}\n')
    place.run("send", "g")
    wait_until(lambda: len(listed(place, "--id", "s")) == 1)
    refused = place.run("dead", "discard", "--id", "s", stdin="n\n")
    assert (1, True) == (refused.returncode, "Discard 1 dead letter (1 to hook)?" in refused.stderr)
    done = place.run("dead", "discard", "--id", "s", stdin="y\n")
    assert (0, "Discarded 1 dead letter.") == (done.returncode, done.stdout.strip())
    wait_until(lambda: listed(place, "--id", "s") == [])
    assert ["discarded"] == [row["state"] for row in listed(place, "--id", "s", "--all")]
    assert "discarded" in place.run("dead", "list", "--all").stdout
    assert {"discarded": 0} == json.loads(place.run("dead", "discard", "--id", "s", "--yes", "--json").stdout)
    row = json.loads(place.run("status", "--json").stdout)["destinations"]["hook"]
    assert ({"permanent": 1}, {"permanent": 3}) == (row["discarded"], row["dead"])
    assert "everything adds up" in place.run("audit").stdout.lower() or 0 == place.run("audit").returncode


def test_what_the_rules_send_nowhere_now_is_filtered(place, hook):
    (place.path / "h").write_text('{"type":"track","event":"odd","userId":"o","messageId":"o"}\n')
    place.run("send", "h")
    wait_until(lambda: len(listed(place, "--id", "o")) == 1)
    rules = (place.path / "routes.yaml").read_text()
    (place.path / "less.yaml").write_text(rules.replace('type == "track"', 'event != "odd"'))
    done = place.run("dead", "replay", "--yes", "--id", "o", "--config", "less.yaml")
    expected = "Queued 0 dead letters, filtered 1 by today's rules, skipped 0.\n  1: no_route\n"
    assert expected == done.stdout, done.stderr
    wait_until(lambda: listed(place, "--id", "o") == [])
    assert ["filtered: no_route"] == [row["state"] for row in listed(place, "--id", "o", "--all")]
    assert 0 == place.run("audit").returncode


def test_they_are_sent_again_after_a_question_and_only_once(place, hook):
    hook.accepts = True
    refused = place.run("dead", "replay", "--event", "a", stdin="n\n")
    assert (refused.returncode, "Send 1 dead letter again (1 to hook)?" in refused.stderr) == (1, True)
    assert hook.taken == 0
    result = place.run("dead", "replay", "--event", "a", stdin="y\n")
    assert (result.returncode, result.stdout.strip()) == (0, "Queued 1 dead letter, skipped 0.")
    wait_until(lambda: hook.taken == 1)
    wait_until(lambda: len(listed(place)) == 2)
    first, *_ = listed(place, "--reason", "http 4")  # of several shards: any may be the first
    assert [first] == listed(place, "--reason", "http 4", "--limit", "1")
    nothing = {"filtered": [], "skipped": [], "held_up": {}}
    done = place.run("dead", "replay", "--yes", "--as-was", "--json")
    assert {"sent": 2, **nothing} == json.loads(done.stdout), done.stderr
    wait_until(lambda: hook.taken == 3)
    wait_until(lambda: listed(place) == [])
    assert ["sent"] * 3 == [
        row["state"] for row in listed(place, "--all", "--class", "permanent") if row["event_name"] in "abc"
    ]
    assert place.run("dead", "replay").stdout == "Queued 0 dead letters, skipped 0.\n"
    again = place.run("dead", "replay", "--again", "--event", "a", "--yes", "--json")
    assert {"sent": 1, **nothing} == json.loads(again.stdout)
    wait_until(lambda: hook.taken == 4)
    assert 0 == place.run("pause", "hook").returncode
    waits = place.run("dead", "replay", "--again", "--event", "a", "--yes").stdout
    assert "Queued 1 dead letter, skipped 0.\nWhat is queued waits, since hook is paused.\n" == waits
    assert 0 == place.run("resume", "hook").returncode
    wait_until(lambda: hook.taken == 5)
    assert 0 == place.run("audit").returncode
