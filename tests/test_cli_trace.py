"""`eventrouter trace` on a real system."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from cli_kit import Place, wait_until

RULES = """
version: 1
sources: {{ website: {{ write_key: k }}, app: {{ write_key: a }} }}
destinations:
  hook:
    plugin: webhook
    options: {{ url: "{url}", allow_private: true }}
    retry: {{ initial: 20ms, max_interval: 20ms }}
  away: {{ plugin: webhook, options: {{ url: "http://127.0.0.1:9/", allow_private: true }} }}
  quiet: {{ plugin: stdout, consent: marketing }}
routes:
  - {{ name: orders, to: hook, when: 'event in ["Order", "Refused", "Second try"]' }}
  - {{ name: some, to: away, when: event == "Order" }}
  - {{ name: all, to: quiet }}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    tried: set[str] = set()

    def answer(request: Request) -> Response:
        name = request.json["event"]
        if name == "Refused":
            return Response("no", 422)
        if name == "Second try" and name not in tried:
            tried.add(name)
            return Response("later", 500)
        return Response("ok", 200)

    with HTTPServer() as server:
        server.expect_request("/").respond_with_handler(answer)
        place = Place(tmp_path_factory.mktemp("trace"), RULES.format(url=server.url_for("/")))
        place.up()
        names = {"m1": "Order", "m2": "Refused", "m3": "Second try", "m4": None}
        lines = [
            {"type": "track", "userId": f"u{message_id}", "messageId": message_id} | ({"event": name} if name else {})
            for message_id, name in names.items()
        ]
        (place.path / "f").write_text("\n".join(map(json.dumps, lines)))
        place.run("send", "f")
        settled = {("m1", "hook"): "delivered", ("m2", "hook"): "dead", ("m3", "hook"): "delivered"}
        wait_until(lambda: all(fate(place, one, name)["state"] == state for (one, name), state in settled.items()), 40)
        wait_until(lambda: fate(place, "m1", "away")["reason"].startswith("backing off"), 40)
        wait_until(lambda: trace(place, "m4")["rejected"], 40)
        yield place
        place.close()


def trace(place: Place, message_id: str, *options: str) -> dict:
    return json.loads(place.run("trace", message_id, "--json", *options).stdout)


def fate(place: Place, message_id: str, destination: str) -> dict:
    events = trace(place, message_id)["events"]
    fates = [one for event in events for one in event["destinations"] if one["destination"] == destination]
    return fates[0] if fates else {"state": "", "reason": ""}


def test_it_tells_when_it_came_whose_it_is_and_what_became_of_it(place: Place) -> None:
    done = place.run("trace", "m1")
    assert (done.returncode, done.stderr) == (0, "")
    first, received, state, person, rules, hook, away, quiet, *_ = done.stdout.splitlines()
    assert first == "track “Order” m1 from website"
    assert received.split()[0] == "received"
    assert "in the warehouse (shard " in state
    assert len(person.split()[1]) == 32
    assert rules.endswith("(as in use)")
    assert hook.split()[:2] == ["hook", "delivered:"]
    assert hook.endswith(", at attempt 1")
    assert away.startswith("  away      waiting: ")
    assert "backing off: cannot connect to 127.0.0.1:9" in away
    assert quiet == "  quiet     filtered: consent"


def test_a_dead_letter_and_what_was_tried_are_told(place: Place) -> None:
    assert "  hook      dead (permanent): " in place.run("trace", "m2").stdout
    assert "tried 1 time, HTTP 422" in place.run("trace", "m2").stdout
    shown = place.run("trace", "m3").stdout
    assert "at attempt 2" in shown
    assert "attempt 1 at " in shown
    assert "failed: HTTP 500" in shown


def test_a_refused_event_tells_why(place: Place) -> None:
    done = place.run("trace", "m4")
    assert (done.returncode, done.stdout.startswith("refused at ")) == (0, True)
    assert "  event_not_defined: a track event needs `event`" in done.stdout


def test_an_event_that_nobody_knows_is_told(place: Place) -> None:
    done = place.run("trace", "nobody")
    assert done.returncode == 1
    assert done.stdout.startswith("Nothing is known of an event nobody.\n  It is neither in the warehouse nor")
    assert place.run("trace", "m1", "--source", "app").returncode == 1
    assert place.run("trace", "m1", "--source", "website").returncode == 0


def test_rules_that_changed_since_leave_open_what_is_not_known(place: Place) -> None:
    rules = (place.path / "routes.yaml").read_text().replace('event == "Order"', 'event == "Other"')
    (place.path / "other.yaml").write_text(rules.replace("consent: marketing", "enabled: false"))
    shown = place.run("trace", "m1", "--config", "other.yaml").stdout
    assert "(in use: " in shown
    assert "hook      delivered: 20" in shown
    assert "away      waiting: " in shown
    assert "quiet     unknown: it was routed by the rules " in shown
    assert ", by which it is filtered: disabled" in shown


def test_a_system_that_is_stopped_still_tells_what_is_stored(place: Place) -> None:
    process = place.running.pop(0)
    place.stop(process)
    done = place.run("trace", "m1")
    assert done.returncode == 0
    assert "hook      unknown: sent by “orders”: delivered, or waiting where it was not looked" in done.stdout
    assert "Not asked, since it is away: Redis: " in done.stdout
    nobody = place.run("trace", "nobody").stdout.splitlines()
    assert nobody[:2] == ["Nothing is known of an event nobody.", "  But not everything could be asked:"]
    missing = place.run("trace", "m1", "--data-dir", "nodir")
    assert (missing.returncode, "there is no data directory nodir" in missing.stderr) == (1, True)
