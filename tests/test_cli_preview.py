"""`eventrouter preview`: what new rules would do to the events of the warehouse."""

from __future__ import annotations

import json

import pytest

from cli_kit import Place, wait_until

RULES = """
version: 1
sources: { website: { write_key: test-key } }
destinations:
  lines: { plugin: stdout }
  more: { plugin: stdout }
routes:
  - { name: orders, to: lines, when: event == "Ordered", map: { total: "{{ properties.total }}" } }
  - { name: pages, to: more, when: type == "page", map: { page: "{{ name }}" } }
"""
NEW = RULES.replace("{{ properties.total }}", "{{ properties.total * 100 }}").replace("to: more", "to: lines")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("preview"), RULES)
    events = [
        {
            "type": "track",
            "event": "Ordered",
            "messageId": f"o{number:02}",
            "userId": "u",
            "properties": {"total": number},
        }
        for number in range(20)
    ]
    events.append({"type": "page", "name": "Home", "messageId": "p", "userId": "u"})
    events.append({"type": "track", "event": "Ordered", "messageId": "x", "userId": "u", "properties": {"total": "?"}})
    (place.path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (place.path / "new.yaml").write_text(NEW)
    place.up()
    place.run("send", "events.jsonl")
    wait_until(lambda: json.loads(place.run("preview", "new.yaml", "--json").stdout)["events"] == 22)
    yield place
    place.close()


def test_the_differences_are_shown_with_examples(place):
    done = place.run("preview", "new.yaml", "--examples", "1")
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[0].startswith("22 events, received from 20")
    assert lines[1].startswith("now routes.yaml (")
    assert [line.split() for line in lines[3:7] if "─" not in line] == [
        ["destination", "now", "then", "appear", "vanish", "change", "fail"],
        ["lines", "21", "21", "1", "0", "19", "1"],
        ["more", "1", "0", "0", "1", "0", "0"],
    ]
    assert (
        "\n".join(lines[8:])
        == """\
lines: 1 appears, by “pages”
  page Home p
    no_route → delivered by “pages”
    + {"page":"Home"}
lines: 19 change, by “orders”
  track Ordered o19
    - total: 19
    + total: 1900
lines: 1 fails, by “orders”
  1 time: `map.total` `*` has no meaning for text and a number
  track Ordered x
    delivered by “orders” → `map.total` `*` has no meaning for text and a number
    - {"total":"?"}
more: 1 vanishes, sent by “pages” now
  page Home p
    delivered by “pages” → no_route
    - {"page":"Home"}"""
    )


def test_the_newest_events_that_meet_the_condition_are_compared(place):
    def compared(*options):
        return json.loads(place.run("preview", "new.yaml", "--json", *options).stdout)

    assert compared("--last", "3")["events"] == 3
    some = compared("--where", "properties.total >= 15")
    assert (some["events"], some["looked_at"], some["where_failed"]) == (5, 22, 0)
    newest = compared("--where", "properties.total >= 15", "--last", "4")
    assert (newest["events"], newest["looked_at"], newest["differences"][0]["count"]) == (2, 4, 2)
    assert compared("--since", "1h")["events"] == 22
    assert compared("--until", "1h")["events"] == 0


def test_what_variables_brought_into_either_is_not_shown(place):
    (place.path / "secret.yaml").write_text(RULES.replace("{{ properties.total }}", "${KEY}"))
    for options in ((), ("--json",)):
        done = place.run("preview", "secret.yaml", *options, KEY="k3y-of-routes")
        assert (done.returncode, "k3y-of-routes" in done.stdout, "**********" in done.stdout) == (0, False, True)


def test_json_for_scripts(place):
    report = json.loads(place.run("preview", "new.yaml", "--json", "--where", "type == 'page'").stdout)
    assert (report["events"], report["changed"], report["failures"]) == (1, True, [])
    assert report["deliveries"] == {"lines": {"now": 0, "then": 1}, "more": {"now": 1, "then": 0}}
    by_kind = {one["what"]: one for one in report["differences"]}
    assert by_kind["appear"]["examples"] == [
        {
            "source": "website",
            "messageId": "p",
            "now": {"reason": "no_route", "failed": False},
            "then": {"route": "pages", "payload": {"page": "Home"}},
        }
    ]


def test_a_change_may_be_a_failure_for_ci(place):
    assert place.run("preview", "new.yaml", "--fail-on-change").returncode == 1
    assert place.run("preview", "new.yaml", "--fail-on-change", "--where", "type == 'screen'").returncode == 0


def test_what_is_only_written_otherwise_needs_no_event(place):
    (place.path / "tidy.yaml").write_text(RULES.replace("name: orders", "name: all orders").replace("==", " == "))
    done = place.run("preview", "tidy.yaml", "--fail-on-change")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "No delivery differs: the rules are the same for each destination.\n"
    report = json.loads(place.run("preview", "tidy.yaml", "--json").stdout)
    assert (report["changed"], report["same"], report["deliveries"]) == (False, ["lines", "more"], {})


def test_how_many_events_were_looked_at_is_told(place):
    (place.path / "one.yaml").write_text(RULES.replace('type == "page"', 'type == "page" or type == "screen"'))
    some = place.run("preview", "one.yaml", "--where", "type == 'page'").stdout.splitlines()
    assert some[0].startswith("1 event of 22 that were looked at, received from 20")
    assert some[-2:] == ["The rules are the same for lines.", "No delivery differs."]
    none = place.run("preview", "one.yaml", "--where", "type == 'alias'")
    assert none.stdout == "No event of 22 that were looked at meets --where.\n"


def test_events_at_which_where_fails_are_left_out_and_told(place):
    growing = "name" + f""" | replace("o", "{"o" * 50}")""" * 4
    done = place.run("preview", "new.yaml", "--where", f"{growing} or type == 'track'")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1] == (
        "--where failed for 1 event: the filter `replace` makes a text of more than 262,144 characters"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["new.yaml", "--until", "2020-01-01"], 0, "The warehouse has no events of that time to compare."),
        (["new.yaml", "--since", "1h", "--until", "2h"], 2, "nothing lies between 1h and 2h"),
        (["nowhere.yaml"], 78, "nowhere.yaml"),
        (["new.yaml", "--where", "tpe == 'page'"], 2, "did you mean"),
        (["new.yaml", "--since", "yesterday"], 2, "is not a time"),
    ],
)
def test_what_cannot_be_compared_is_told(place, arguments, code, told):
    done = place.run("preview", *arguments)
    assert (done.returncode, told in done.stdout + done.stderr) == (code, True), done.stderr
