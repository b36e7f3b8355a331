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


@pytest.mark.parametrize("command", ["list", "replay"])
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


def test_they_are_sent_again_after_a_question_and_only_once(place, hook):
    hook.accepts = True
    refused = place.run("dead", "replay", "--event", "a", stdin="n\n")
    assert (refused.returncode, "Send 1 dead letter again (1 to hook)?" in refused.stderr) == (1, True)
    assert hook.taken == 0
    result = place.run("dead", "replay", "--event", "a", stdin="y\n")
    assert (result.returncode, result.stdout.strip()) == (0, "Sent 1 dead letter again, skipped 0.")
    wait_until(lambda: hook.taken == 1)
    wait_until(lambda: len(listed(place)) == 2)
    assert json.loads(place.run("dead", "replay", "--yes", "--as-was", "--json").stdout) == {"sent": 2, "skipped": []}
    wait_until(lambda: hook.taken == 3)
    wait_until(lambda: listed(place) == [])
    assert len(listed(place, "--replayed")) == 3
    assert place.run("dead", "replay").stdout == "Sent 0 dead letters again, skipped 0.\n"
