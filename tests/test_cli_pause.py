"""`eventrouter pause` and `resume`: a destination gets nothing for a while, and then what waited, in order."""

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
  hook: {{ plugin: webhook, options: {{ url: "{url}/hook", allow_private: true }} }}
  other: {{ plugin: webhook, options: {{ url: "{url}/other", allow_private: true }} }}
routes:
  - {{ name: all, to: [hook, other] }}
"""


class Hooks:
    """Two webhooks that take what comes."""

    def __init__(self) -> None:
        self.server = HTTPServer()
        self.taken: dict[str, list[str]] = {"/hook": [], "/other": []}
        for path in self.taken:
            self.server.expect_request(path).respond_with_handler(self.answer)
        self.server.start()

    def answer(self, request: Request) -> Response:
        self.taken[request.path].append(request.json["messageId"])
        return Response("ok", 200)


@pytest.fixture(scope="module")
def hooks():
    hooks = Hooks()
    yield hooks
    hooks.server.stop()


@pytest.fixture(scope="module")
def place(tmp_path_factory, hooks):
    place = Place(tmp_path_factory.mktemp("pause"), RULES.format(url=hooks.server.url_for("").rstrip("/")))
    place.up()
    yield place
    place.close()


def send(place: Place, *ids: str) -> None:
    lines = [f'{{"type":"track","event":"E","userId":"u","messageId":"{one}"}}\n' for one in ids]
    (place.path / "f").write_text("".join(lines))
    assert place.run("send", "f").returncode == 0


def row(place: Place) -> dict:
    return json.loads(place.run("status", "--json").stdout)["destinations"].get("hook", {})


def test_a_paused_destination_gets_nothing_until_it_is_resumed(place, hooks):
    send(place, "a")
    wait_until(lambda: hooks.taken["/hook"] == ["a"])
    paused = place.run("pause", "hook", "--reason", "they [move] house")
    assert (0, "hook is paused; 0 deliveries waiting.\n") == (paused.returncode, paused.stdout)
    send(place, "b", "c")
    wait_until(lambda: hooks.taken["/other"] == ["a", "b", "c"])
    wait_until(lambda: row(place)["waiting"] == 2)
    told = row(place)
    assert ("paused", "they [move] house") == (told["state"], told["reason"])
    assert f"since {told['paused_at'][:16]}: they [move] house" in place.run("status").stdout

    # It outlives everything that runs.
    [process] = place.running
    assert 0 == place.stop(process)
    place.running.clear()
    place.up()
    send(place, "d")
    wait_until(lambda: row(place)["waiting"] == 3)
    assert ["a"] == hooks.taken["/hook"]
    again = json.loads(place.run("pause", "hook", "--reason", "still", "--json").stdout)
    expected = {"destination": "hook", "state": "paused", "reason": "still", "waiting": 3}
    assert expected | {"paused_at": told["paused_at"]} == again

    resumed = place.run("resume", "hook")
    assert (0, True) == (resumed.returncode, resumed.stdout.startswith("hook gets deliveries again; ")), resumed
    wait_until(lambda: hooks.taken["/hook"] == ["a", "b", "c", "d"])
    assert ("ok", None) == (row(place)["state"], row(place)["paused_at"])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("hok", "there is no destination hok; did you mean `hook`?"),
        ("nobody", "there is no destination nobody; there are hook, other"),
        ("log", "there is no destination log; there are hook, other"),
        ("warehouse", "the warehouse can't be paused"),
    ],
)
def test_what_can_not_be_paused_is_told(place, name, told):
    result = place.run("pause", name)
    shown = " ".join(result.stderr.replace("│", " ").split())
    assert (2, "", True) == (result.returncode, result.stdout, told in shown), shown


def test_it_works_while_the_rules_are_broken_or_the_destination_is_gone(place):
    send(place, "x")
    wait_until(lambda: row(place).get("delivered"))
    (place.path / "broken.yaml").write_text("version: 1\nnonsense: 1\n")
    result = place.run("pause", "hook", "--config", "broken.yaml")
    assert (0, True) == (result.returncode, "The rules file can't be used" in result.stderr)
    (place.path / "other.yaml").write_text("version: 1\nsources: { website: { write_key: k } }\n")
    gone = place.run("status", "--config", "other.yaml").stdout
    assert "hook paused, not in routes.yaml" in " ".join(gone.split())
    done = place.run("resume", "hook", "--config", "other.yaml")
    told = "hook is paused no longer, but it is not in routes.yaml; 0 deliveries waiting.\n"
    assert (0, told) == (done.returncode, done.stdout)
    assert row(place)["state"] == "ok"
