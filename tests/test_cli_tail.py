"""`eventrouter tail`: events as they come and what becomes of them, from a real `eventrouter up`."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess

import pytest
from click import unstyle

from cli_kit import COMMAND, RULES, Place, wait_until
from eventrouter.cli.tail import Notes, Plain
from eventrouter.onlookers import Row
from eventrouter.tail import Tail, Wanted

ROUTES = """
destinations:
  out: { plugin: stdout }
  big: { plugin: stdout }
routes:
  - { name: all of them, to: out }
  - { name: large ones, to: big, when: properties.total > 10 }
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("tail"), RULES + ROUTES)
    place.up()
    yield place
    place.close()


class Watching:
    """A running `eventrouter tail`."""

    def __init__(self, place: Place, *arguments: str) -> None:
        self.out, self.err = place.path / "tail.out", place.path / "tail.err"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [*COMMAND, "tail", *arguments], cwd=place.path, env=place.environment, stdout=out, stderr=err
            )
        wait_until(lambda: "Looking on at 1 collector and 1 worker" in self.err.read_text())

    def lines(self) -> list[str]:
        return self.out.read_text().splitlines()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


def send(place: Place, *events: dict) -> None:
    (place.path / "f").write_text("".join(f"{json.dumps(one)}\n" for one in events))
    place.run("send", "f")


def track(message_id: str, user: str = "u", **properties) -> dict:
    return {"type": "track", "event": "Bought", "userId": user, "messageId": message_id, "properties": properties}


def test_a_person_sees_what_becomes_of_each_event(place):
    tail = Watching(place)
    send(place, track("t1", total=5), {"type": "track"})
    wait_until(lambda: len(tail.lines()) >= 4)
    assert tail.stop() == 0
    found = {tuple(line.split()[1:3]): line for line in tail.lines()}
    assert found["accepted", "website"].split()[3:] == ["track", '"Bought"', "t1", "user", "u"]
    assert "to out; not to big (no_route); person " in found["routed", "website"]
    assert found["delivered", "out"].split()[3:] == ["track", '"Bought"', "t1"]
    assert "no_user_anon_id" in found["rejected", "website"]
    assert "Traceback" not in tail.err.read_text()


def test_a_script_gets_what_it_asks_for_as_lines_of_json(place):
    tail = Watching(place, "--json", "--where", "properties.total > 3", "--user", "ada", "--outcome", "filtered")
    send(place, track("t2", "ada", total=2), track("t3", "ada", total=4), track("t4", "eva", total=4))
    wait_until(lambda: tail.lines())
    assert tail.stop() == 0
    [row] = map(json.loads, tail.lines())
    at = row.pop("at")
    assert (at[10], at[-1]) == ("T", "Z")
    assert row == {
        "what": "filtered",
        "source": "website",
        "type": "track",
        "name": "Bought",
        "message_id": "t3",
        "destination": "big",
        "reason": "no_route",
    }


def test_it_can_begin_a_while_ago(place):
    send(place, track("t5", total=50))
    wait_until(lambda: is_loaded(place, "t5"))
    tail = Watching(place, "--since", "5m", "--destination", "big", "--event", "Bought")
    wait_until(lambda: any("t5" in line for line in tail.lines()))
    assert tail.stop() == 0
    [line] = [line for line in tail.lines() if "t5" in line]
    assert line.split()[1:] == ["delivered", "big", "track", '"Bought"', "t5"]


def is_loaded(place: Place, message_id: str) -> bool:
    with sqlite3.connect(place.path / ".eventrouter" / "warehouse.sqlite3") as database:
        return bool(database.execute("SELECT 1 FROM events WHERE id = ?", [message_id]).fetchall())


def test_an_outcome_that_there_is_not_is_told(place):
    result = place.run("tail", "--outcome", "lost")
    assert (result.returncode, "there is no outcome lost; there are accepted, " in result.stderr) == (2, True)


def test_a_condition_that_is_wrong_is_told(place):
    result = place.run("tail", "--where", "event = 3")
    assert (result.returncode, "compare with ==" in result.stderr) == (2, True)


def test_nothing_in_a_line_is_a_command_for_the_terminal():
    row = Row(0, "dead", "web", "track", "\x1b[2J\n", "m\x07", "crm", "HTTP 400\r\x1b]0;x", "permanent")
    [line] = map(unstyle, Plain(filtered=False).lines([row]))
    assert line.isprintable()
    assert "permanent: HTTP 400" in line


def test_what_is_filtered_has_a_line_where_it_is_asked_for():
    row = Row(0, "filtered", "web", "track", "E", "m1", "crm", "consent")
    assert Plain(filtered=False).lines([row]) == []
    assert [unstyle(line).split()[1:] for line in Plain(filtered=True).lines([row])] == [
        ["filtered", "crm", "track", '"E"', "m1", "consent"]
    ]


def test_what_was_not_seen_is_said_once(redis):
    tail, wanted = Tail(redis, 1, lambda: None), Wanted()
    notes = Notes(tail, wanted, {"worker:here:7"})
    assert notes.new() == []
    tail.processes.add("worker:here:7")
    tail.skipped = 1234
    assert notes.new() == ["Looking on at 1 worker", "(1,234 came too fast to be shown)"]
    tail.problem = "away"
    assert notes.new() == ["Redis is away: away"]
    tail.problem = ""
    assert notes.new() == ["Redis is back"]
