"""`eventrouter replay`: history reaches a destination again, at a bounded rate, and goes on after `kill -9`."""

from __future__ import annotations

import json
import signal
from collections import Counter
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from cli_kit import Place, wait_until

RULES = """
version: 1
sources: {{ website: {{ write_key: k }} }}
warehouse: {{ url: "{warehouse}" }}
destinations:
  hook: {{ plugin: webhook, options: {{ url: "{url}", allow_private: true }} }}
  off: {{ plugin: stdout, enabled: false }}
routes:
  - {{ name: orders, to: hook, when: event == "Order", map: {{ id: "{{{{ messageId }}}}" }} }}
"""


class Hook:
    """A webhook that keeps what it takes."""

    def __init__(self) -> None:
        self.server = HTTPServer()
        self.taken: list[tuple[str, str]] = []
        self.server.expect_request("/").respond_with_handler(self.answer)
        self.server.start()

    def answer(self, request: Request) -> Response:
        self.taken.append((request.json["id"], request.headers["webhook-id"]))
        return Response("ok", 200)

    def times(self) -> Counter[int]:
        """How many messages were taken how often."""
        return Counter(Counter(one for one, _ in self.taken).values())


@pytest.fixture(scope="module")
def hook():
    hook = Hook()
    yield hook
    hook.server.stop()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def place(request, tmp_path_factory, hook):
    hook.taken.clear()
    url = ""
    if request.param == "postgresql":
        import psycopg

        server = request.getfixturevalue("postgres_server")
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute("CREATE DATABASE replayed")
        url = server.replace("/postgres?", "/replayed?")
    rules = RULES.format(url=hook.server.url_for("/"), warehouse=url)
    place = Place(tmp_path_factory.mktemp("replay"), rules)
    place.up()
    lines = [
        {"type": "track", "event": "Order" if n % 4 else "Other", "userId": f"u{n % 7}", "messageId": f"m{n}"}
        for n in range(40)
    ]
    (place.path / "f").write_text("\n".join(map(json.dumps, lines)))
    assert place.run("send", "f").returncode == 0
    wait_until(lambda: len(hook.taken) == 30, 60)
    wait_until(lambda: '"waiting": 0' in status(place)["warehouse"], 60)
    yield place
    place.close()


def status(place: Place) -> dict[str, str]:
    found = json.loads(place.run("status", "--json").stdout)["destinations"]
    return {name: json.dumps(row) for name, row in found.items()}


def replayed(place: Place, *options: str) -> dict[str, Any]:
    done = place.run("replay", "hook", "--since", "1h", "--yes", "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def audited(place: Place) -> None:
    done = place.run("audit")
    assert done.returncode == 0, done.stdout


def test_a_dry_run_tells_what_would_be_sent_and_sends_nothing(place, hook):
    found = replayed(place, "--dry-run", "--where", 'messageId != "m1"')
    assert (40, {"orders": 29}, {"no_route": 10}) == (found["events"], found["sent"], found["filtered"])
    assert 2 == len(found["examples"]["orders"])
    shown = place.run("replay", "hook", "--since", "1h", "--dry-run")
    assert "Would send 30 deliveries of 40 events." in shown.stdout
    assert "orders: m" in shown.stdout and '"id": "m' in shown.stdout
    assert 30 == len(hook.taken)


def test_it_asks_first(place, hook):
    done = place.run("replay", "hook", "--since", "1h", stdin="n\n")
    assert (1, True) == (done.returncode, "Send hook what today's rules make of 40 events" in done.stderr)
    assert 30 == len(hook.taken)


def test_all_of_it_is_sent_again_under_the_same_keys_and_everything_adds_up(place, hook):
    found = replayed(place)
    assert ({"orders": 30}, {"no_route": 10}, {}) == (found["sent"], found["filtered"], found["failed"])
    wait_until(lambda: len(hook.taken) == 60, 60)
    assert {2: 30} == hook.times()
    assert 30 == len({key for _, key in hook.taken})
    audited(place)


def test_killed_in_its_midst_it_goes_on_and_sends_nothing_twice(place, hook):
    hook.taken.clear()
    options = ["replay", "hook", "--since", "2h", "--rate", "10", "--yes", "--json", "--config", "routes.yaml"]
    process = place.start(*options)
    wait_until(lambda: len(hook.taken) > 5, 60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(hook.taken) < 30
    done = place.run(*options)
    assert (0, True) == (done.returncode, "Goes on with the replay" in done.stderr), done.stderr
    assert {"orders": 30} == json.loads(done.stdout)["sent"]
    wait_until(lambda: len(hook.taken) == 30, 60)
    assert {1: 30} == hook.times()
    audited(place)


def test_a_paused_destination_is_waited_for_and_gets_all_after_it(place, hook):
    hook.taken.clear()
    assert place.run("pause", "hook").returncode == 0
    process = place.start("replay", "hook", "--since", "3h", "--yes")
    wait_until(lambda: "Waiting for hook: it is paused" in place.err or process.poll() is not None, 60)
    assert [] == hook.taken
    assert place.run("resume", "hook").returncode == 0
    assert process.wait(60) == 0
    wait_until(lambda: {1: 30} == hook.times(), 60)
    audited(place)


def test_what_is_queued_for_a_paused_destination_waits(place, hook):
    hook.taken.clear()
    assert place.run("pause", "hook", "--reason", "they move").returncode == 0
    one = ("replay", "hook", "--since", "1h", "--yes", "--where", 'messageId == "m1"')
    told = place.run(*one).stdout
    assert told.startswith("Queued 1 delivery of 40 events.\n")
    assert told.endswith("What is queued waits, since hook is paused: they move.\n")
    assert {"hook": "is paused: they move"} == json.loads(place.run(*one, "--json").stdout)["held_up"]
    assert place.run("resume", "hook").returncode == 0
    wait_until(lambda: len(hook.taken) == 2)


def test_with_new_keys_it_is_as_if_they_were_new(place, hook):
    hook.taken.clear()
    replayed(place)
    wait_until(lambda: len(hook.taken) == 30, 60)
    old = {key for _, key in hook.taken}
    replayed(place, "--new-keys")
    wait_until(lambda: len(hook.taken) == 60, 60)
    assert 60 == len(old | {key for _, key in hook.taken})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["hok", "--since", "1h"], "there is no destination hok; did you mean `hook`?"),
        (["warehouse", "--since", "1h"], "the warehouse has all events already"),
        (["off", "--since", "1h"], "the destination off is switched off in the rules"),
        (["hook", "--since", "noon"], "'noon' is not a time"),
        (["hook", "--since", "1h", "--where", "event =="], "--where"),
        (["hook"], "Missing option '--since'"),
    ],
)
def test_what_is_wrong_is_told(place, options, told):
    done = place.run("replay", *options)
    shown = " ".join(done.stderr.replace("│", " ").split())
    assert (2, True) == (done.returncode, told in shown), shown
