"""`eventrouter status`: what is going on, for a person and for a script."""

from __future__ import annotations

import json

import pytest

from cli_kit import Place, wait_until
from eventrouter.cli.status import show


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("status"))
    place.up()
    (place.path / "f").write_text('{"type":"track","event":"E","userId":"u"}\n{"type":"track"}\n')
    place.run("send", "f")
    wait_until(lambda: json.loads(place.run("status", "--json").stdout)["events"]["routed"] == 1)
    yield place
    place.close()


def test_a_script_gets_json(place):
    status = json.loads(place.run("status", "--json").stdout)
    assert (status["events"]["accepted"], status["shards"]) == (1, 4)
    assert status["sources"]["website"]["rejected"] == {"no_user_anon_id": 1}
    warehouse = status["destinations"]["warehouse"]
    assert (warehouse["state"], warehouse["unit"]) == ("ok", "records")


def test_a_person_gets_tables(place):
    result = place.run("status")
    assert "Events: accepted 1" in result.stdout
    assert "no_user_anon_id" in result.stdout
    assert "warehouse (records)" in result.stdout
    assert result.returncode == 0


def test_with_a_broken_file_the_rules_in_use_and_their_destinations_are_told(place):
    file, there = place.path / "routes.yaml", ["--config", "routes.yaml"]
    rules, version = file.read_text(), json.loads(place.run("status", "--json").stdout)["rules"]
    try:
        file.write_text("version: 7\nnonsense: 1\n")
        result, found = place.run("status", *there), json.loads(place.run("status", "--json", *there).stdout)
    finally:
        file.write_text(rules)
    assert (result.returncode, found["rules"], list(found["sources"])) == (0, version, ["website", "app"])
    assert result.stderr.startswith("The rules file can't be used (and 2 more: `eventrouter check`):\nroutes.yaml:1:")
    assert f"Rules {version} (the last good ones: the file can't be used), 4 shards" in result.stdout
    assert found["problem"].startswith("the rules file can't be used: routes.yaml:1:")


@pytest.mark.parametrize(
    ("rules", "processes", "told"),
    [
        ("kept", [], "Rules kept (the last good ones: "),
        ("kept", ["one", "two", "one"], "Rules one and two (the last good ones: "),
        ("", ["one"], "Rules one (the last good ones: "),
        ("", [], "Rules unknown (the last good ones: "),
    ],
)
def test_what_is_in_use_is_what_the_processes_tell(capsys, rules, processes, told):
    there = [{"kind": "worker", "host": "here", "pid": 7, "rules": one, "problem": ""} for one in processes]
    show({"rules": rules, "problem": "the rules file can't be used", "processes": there})
    assert told in capsys.readouterr().out


def test_a_destination_in_trouble_shows_why_and_when_it_is_tried_again(capsys):
    row = {"state": "backing off", "waiting": 7, "filtered": {"consent": 2, "sample": 1}, "dead": {"permanent": 4}}
    row |= {"reason": "HTTP 503", "next_try_seconds": 12.0, "oldest_seconds": 7200.0}
    show({"destinations": {"crm": row}})
    line = next(line for line in capsys.readouterr().out.splitlines() if "crm" in line)
    assert " ".join(line.split()) == "crm backing off 7 3 4 2 h HTTP 503 (next try in 12 s)"


def test_deliveries_that_wait_one_by_one_show_why(capsys):
    row = {"state": "ok", "waiting": 3, "oldest_seconds": 60.0, "parked_keys": 2, "parked_reason": "HTTP 500"}
    show({"destinations": {"crm": row}})
    line = next(line for line in capsys.readouterr().out.splitlines() if "crm" in line)
    assert " ".join(line.split()).endswith("2 order keys wait: HTTP 500")


def test_a_pause_and_a_limit_that_is_near_are_told(capsys):
    row = {"state": "paused", "waiting": 3, "paused_at": "2026-11-24T17:00:00.000Z", "reason": "they move house"}
    show({"destinations": {"crm": row | {"limits_used": {"backlog": 0.1, "max_age": 0.85}}}})
    line = next(line for line in capsys.readouterr().out.splitlines() if "crm" in line)
    told = "crm paused 3 since 2026-11-24T17:00: they move house; 85% of max_age used"
    assert " ".join(line.split()).replace(" 0 0 ", " ") == told


def test_nothing_that_runs_is_told(tmp_path):
    result = Place(tmp_path).run("status")
    assert (result.returncode, "there is no data directory" in result.stderr) == (1, True), result.stderr


def test_a_router_that_fails_says_why(capsys):
    show({"router": {"state": "failing", "reason": "it is bad", "turns_failed": 3}})
    assert "Routing is failing: it is bad" in capsys.readouterr().out
    show({"router": {"state": "ok", "reason": "", "turns_failed": 3}})
    assert "Routing" not in capsys.readouterr().out


def test_who_works_with_other_rules_is_told(capsys):
    here = {"kind": "worker", "host": "here", "pid": 7, "rules": "new", "problem": ""}
    show({"rules": "new", "processes": [here, here | {"rules": "old"}, here | {"problem": "routes.yaml:3: wrong"}]})
    told = capsys.readouterr().out
    assert told.count("The worker 7 on here") == 2
    assert "The worker 7 on here has the rules old\n" in told
    assert "The worker 7 on here goes on with the rules new: routes.yaml:3: wrong\n" in told


def test_processes_whose_variables_have_other_values_are_told_but_not_those_of_this_shell(capsys):
    here = {"kind": "worker", "host": "here", "pid": 7, "rules": "0123456789ab", "problem": ""}
    show({"rules": "01234567ffff", "processes": [here, here | {"pid": 8}]})
    assert "The worker" not in capsys.readouterr().out
    show({"rules": "01234567ffff", "processes": [here, here | {"pid": 8, "rules": "01234567cdef"}]})
    assert capsys.readouterr().out.count("the values of variables are not the same for all\n") == 2


def test_of_a_problem_of_many_lines_the_first_is_told(capsys):
    here = {"kind": "worker", "host": "here", "pid": 7, "rules": "new", "problem": "routes.yaml:3: wrong\n3| it is"}
    show({"rules": "new", "processes": [here]})
    assert "goes on with the rules new: routes.yaml:3: wrong\n" in capsys.readouterr().out


def test_rates_are_told_with_the_time_that_they_are_of(capsys):
    row = {"state": "ok", "waiting": 0, "per_second": {"delivered": 1234.4, "failed": 0.25}}
    rates = {"accepted": 12.0, "routed": 0.333, "rejected": 0.0}
    show({"per_second": rates, "rates_over_seconds": 60.1, "destinations": {"crm": row}})
    told = capsys.readouterr().out
    assert "A second, over the last 60.1 s: accepted 12, routed 0.33, rejected 0\n" in told
    line = next(line for line in told.splitlines() if "crm" in line)
    assert line.split() == ["crm", "ok", "1,234", "0.25", "0", "0", "0"]
