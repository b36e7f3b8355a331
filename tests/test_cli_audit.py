"""`eventrouter audit` on a real system: that all adds up, and what it says when something does not."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from redis import Redis

from cli_kit import Place, wait_until
from eventrouter.cli.audit import show
from eventrouter.settings import socket_path

RULES = """
version: 1
sources: { website: { write_key: k } }
destinations:
  out: { plugin: stdout, consent: marketing }
  quiet: { plugin: stdout, enabled: false }
routes:
  - { name: all, to: out }
"""


def event(number: int) -> dict:
    consent = {"categoryPreferences": {"marketing": number < 3}}
    return {
        "type": "track",
        "event": "E",
        "userId": f"u{number}",
        "messageId": f"m{number}",
        "context": {"consent": consent},
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("audit"), RULES)
    place.up()
    lines = [json.dumps(event(n)) for n in (*range(5), 0)]
    lines.append(json.dumps({"type": "track", "userId": "x", "messageId": "bad"}))
    (place.path / "f").write_text("\n".join(lines))
    place.run("send", "f")
    wait_until(lambda: audit(place)["destinations"]["warehouse"]["delivered"] == 11)
    wait_until(lambda: audit(place)["destinations"]["out"]["delivered"] == 3)
    yield place
    place.close()


@pytest.fixture
def redis(place: Place) -> Iterator[Redis]:
    with Redis(unix_socket_path=str(socket_path(place.path / ".eventrouter"))) as client:
        yield client


def audit(place: Place, *options: str, code: int = 0) -> dict:
    done = place.run("audit", "--json", *options)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_what_came_is_what_went(place: Place) -> None:
    done = place.run("audit")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert "Events: accepted 6 = in log 0 + duplicates 1 + routed 5" in done.stdout
    assert ["website", "6", "1", "5", "1"] in lines
    assert ["out", "5", "3", "2", "ok"] in lines
    assert ["quiet", "5", "5", "ok"] in lines
    assert ["warehouse", "(records)", "11", "11", "ok"] in lines
    assert "out, filtered: consent 2\nquiet, filtered: disabled 5\n" in done.stdout
    assert done.stdout.endswith("Every sum adds up, in each of 4 shards.\n")


def test_a_script_gets_the_numbers(place: Place) -> None:
    found = audit(place)
    assert (found["adds_up"], found["faults"], found["shards"]) == (True, [], 4)
    assert found["events"] == {"accepted": 6, "in_log": 0, "duplicates": 1, "routed": 5, "unreadable": 0}
    parts = {"accepted": 6, "in_log": 0, "in_log_counted": True, "duplicates": 1, "routed": 5, "unreadable": 0}
    assert parts.items() <= found["sources"]["website"].items()
    assert found["unknown_source"] == {"in_log": 0, "unreadable": 0}
    assert found["destinations"]["out"]["filtered"] == {"consent": 2}
    assert "ids" not in found


def test_what_is_not_counted_or_of_no_known_source_is_told(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    found = audit(place)
    show(found)
    assert "is not counted" not in (before := capsys.readouterr().out)
    assert "nobody can tell" not in before
    found["unknown_source"] = {"in_log": 1200, "unreadable": 3}
    found["not_counted"] = ["log"]
    found["sources"]["website"] |= {"unreadable": 7, "in_log": 4000, "in_log_counted": False}
    show(found)
    told = capsys.readouterr().out
    assert ["website", "6", "4,000", "1", "5", "7", "1"] in [line.split() for line in told.splitlines()]
    assert "Of these nobody can tell the source: in log 1,200, unreadable 3." in told
    assert "What a source has in the log is not counted, but what is left of its sum (--recount counts it)." in told


def test_it_needs_no_rules(place: Place) -> None:
    (place.path / "broken.yaml").write_text("version: 1\nsources: {")
    assert audit(place, "--config", "broken.yaml") == audit(place)


def test_ids_are_compared_with_the_warehouse(place: Place) -> None:
    found = audit(place, "--deep")["ids"]
    assert {"compared": 5, "stored": 5, "missing": 0, "strangers": 0}.items() <= found.items()
    shown = place.run("audit", "--deep", "--since", "1h").stdout
    assert ": 5 in the warehouse.\nNone of them is missing." in shown
    assert audit(place, "--deep", "--until", "2020-01-01")["ids"]["compared"] == 0
    shown = place.run("audit", "--deep", "--until", "2020-01-01").stdout
    assert "Nothing was compared: Redis remembers no ids that were routed in that time.\n" in shown
    assert "None of them is missing" not in shown


def test_a_counter_that_was_changed_by_hand_is_told(place: Place, redis: Redis) -> None:
    redis.hincrby("er:{1}:counts", "delivered:out", 1)
    done = place.run("audit")
    redis.hincrby("er:{1}:counts", "delivered:out", -1)
    assert done.returncode == 1
    assert "It does not add up:\n  destination out, shard 1: 1 too many: deliveries" in done.stdout
    assert "= hint: nothing is missing" in done.stdout
    assert ["out", "5", "4", "2", "OFF"] in [line.split() for line in done.stdout.splitlines()]
    assert place.run("audit").returncode == 0


def test_an_event_that_is_gone_from_the_warehouse_is_told(place: Place) -> None:
    with closing(sqlite3.connect(place.path / ".eventrouter" / "warehouse.sqlite3")) as connection:
        connection.execute("CREATE TABLE saved AS SELECT * FROM events WHERE id = 'm1'")
        connection.execute("DELETE FROM events WHERE id = 'm1'")
        connection.commit()
        done = place.run("audit", "--deep")
        connection.execute("INSERT INTO events SELECT * FROM saved")
        connection.commit()
    assert done.returncode == 1
    assert "Every sum adds up" in done.stdout
    assert "MISSING in the warehouse: 1 id\n    = hint:" in done.stdout
    assert place.run("audit", "--deep").returncode == 0


def test_dead_letters_that_are_not_in_the_warehouse_are_noted(place: Place, redis: Redis) -> None:
    redis.hincrby("er:{1}:counts", "dead:out:permanent", 1)
    done = place.run("audit", "--deep")
    redis.hincrby("er:{1}:counts", "dead:out:permanent", -1)
    redis.hdel("er:{1}:counts", "dead:out:permanent")
    assert "Note: out has 1 dead letters of the class permanent by the counters, 0 in the" in done.stdout


def test_a_range_without_deep_is_a_mistake(place: Place) -> None:
    done = place.run("audit", "--since", "1h")
    assert (done.returncode, "--deep compares" in done.stderr) == (2, True)


def test_a_range_in_which_nothing_can_lie_is_a_mistake(place: Place) -> None:
    done = place.run("audit", "--deep", "--since", "1h", "--until", "2h")
    assert (done.returncode, "nothing lies between 1h and 2h" in done.stderr) == (2, True)


def test_a_system_that_never_ran_is_told(place: Place) -> None:
    done = place.run("audit", "--data-dir", "nodir")
    assert (done.returncode, "there is no data directory nodir" in done.stderr) == (1, True)
