"""`eventrouter explain`: what becomes of the event of a file, or of one in the warehouse."""

from __future__ import annotations

import json
import os
import threading

import pytest

from cli_kit import Place, wait_until

RULES = """
version: 1
sources:
  website: { write_key: test-key }
  app: { write_key: app-key }
destinations:
  crm:
    plugin: webhook
    options: { url: "https://crm.example.com/in", headers: { authorization: "Bearer s3cr3t-key" } }
    consent: marketing
  lines: { plugin: stdout }
routes:
  - name: big orders
    to: crm
    when: event == "Order Completed" and properties.total > 1000
    set: { properties.cents: "{{ properties.total * 100 }}" }
    drop: [properties.total]
  - name: pages of the app
    to: lines
    from: app
    when: type == "page"
    map: { page: "{{ name }}" }
"""
ORDER = {
    "type": "track",
    "event": "Order Completed",
    "messageId": "order-1",
    "userId": "u",
    "timestamp": "2026-11-24T12:00:00.000Z",
    "properties": {"total": 1500},
    "context": {"consent": {"categoryPreferences": {"marketing": True}}},
}
PAGE = {"type": "page", "name": "Home", "messageId": "page-1", "anonymousId": "a"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("explain"), RULES)
    (place.path / "order.json").write_text(json.dumps(ORDER))
    (place.path / "page.json").write_text(json.dumps(PAGE))
    yield place
    place.close()


def explained(place, *arguments, stdin=None):
    done = place.run("explain", *arguments, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_file_s_event_is_explained_for_each_destination(place):
    told = explained(place, "order.json")
    first, *lines = told.splitlines()
    assert first.startswith("track “Order Completed” order-1 from website, by the rules ")
    shown = "\n".join(line for line in lines if "webhook-timestamp" not in line)
    assert shown.startswith("""
crm (webhook)
  ✓ big orders  routes.yaml:13
      and                           true
        event == "Order Completed"  true   event = "Order Completed"
        properties.total > 1000     true   properties.total = 1500
  ✓ consent marketing  context.consent.categoryPreferences.marketing = true
  → delivered by “big orders”
      the event, but for
      - properties.total: 1500
      + properties.cents: 150000
      POST https://crm.example.com/in
      content-type: application/json
      user-agent: eventrouter/""")
    assert "      authorization: **********\n" in shown
    assert shown.endswith("""
lines (stdout)
  ✗ pages of the app  routes.yaml:18  it is for app
  → filtered: no_route""")
    assert "s3cr3t" not in told


def test_a_payload_that_is_no_event_is_shown_whole(place):
    told = explained(place, "page.json", "--source", "app", "--destination", "lines")
    assert (
        told.split("\n", 1)[1]
        == """
lines (stdout)
  ✓ pages of the app  routes.yaml:18
      type == "page"  true   type = "page"
  → delivered by “pages of the app”
      {"page": "Home"}
      the plugin stdout doesn't tell what it would send
"""
    )


def test_stdin_is_read_too_and_json_is_for_scripts(place):
    report = json.loads(explained(place, "-", "--json", stdin=json.dumps(ORDER | {"context": {}})))
    assert (report["source"], report["event"]["messageId"]) == ("website", "order-1")
    crm, lines = report["destinations"]
    assert crm["checks"] == [{"what": "consent marketing", "passed": False, "reads": {}}]
    assert crm["outcome"] == {"reason": "consent", "route": "", "failed": False}
    assert [part["value"] for part in crm["looks"][0]["parts"]] == [True, True, True]
    assert lines["outcome"]["reason"] == "no_route"


def test_what_the_collector_mends_is_shown_as_it_is_stored(place):
    text = '{"type": "page", "userId": "u", "properties": {"n": 1e400, "half": "a\\ud800"}}'
    assert {"n": None, "half": "a�"} == json.loads(explained(place, "-", "--json", stdin=text))["event"]["properties"]


def test_a_pipe_is_read_as_a_file_is(place):
    os.mkfifo(place.path / "pipe")
    writer = threading.Thread(target=(place.path / "pipe").write_text, args=(json.dumps(ORDER),))
    writer.start()
    assert explained(place, "pipe").startswith("track “Order Completed” order-1 from website")
    writer.join()


def test_what_an_event_carries_is_no_command_for_the_terminal(place):
    told = explained(place, "-", stdin=json.dumps(ORDER | {"event": "\x1b[2J\nevil", "context": {"\x9b": "\u202e"}}))
    assert told.splitlines()[0].startswith("track “\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}evil” order-1")
    assert [] == [line for line in told.splitlines() if not line.isprintable()]


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "told"),
    [
        (["-"], "{", 1, "stdin is no event: the body is not JSON"),
        (["-"], "1", 1, "the collector would refuse this event: the event has to be a JSON object"),
        (["-"], "[{}]", 1, "stdin is a list of events: one is wanted"),
        (["-"], '{"batch": [{"type": "page"}]}', 1, "stdin is a batch of events: one is wanted"),
        (["evnt", "--data-dir", "nowhere"], None, 1, "there is no file evnt, and there is no data directory nowhere"),
        (["-"], '{"type": "track", "userId": "u"}', 1, "(event_not_defined)"),
        (["-"], '{"type": "page", "userId": "\\ud800"}', 1, "the collector would refuse this event"),
        (["-"], " " * 1_000_001, 1, "stdin has more than 1,000,000 bytes: too many for an event"),
        (
            [json.dumps(ORDER)],
            None,
            2,
            "an event itself is no argument = hint: pipe it: echo '{…}' | eventrouter explain -",
        ),
        (["x" * 300, "--data-dir", "nowhere"], None, 1, "there is no file xxx"),
        (
            ["a/b+c==", "--data-dir", "nowhere"],
            None,
            1,
            "there is no file a/b+c==, and there is no data directory nowhere",
        ),
        (["order.json", "--source", "web"], None, 2, "there is no source 'web'; there are: website, app"),
        (["order.json", "--destination", "crn"], None, 2, "there is no destination 'crn'; there are: crm, lines"),
        (["ordr.json"], None, 2, "there is no file ordr.json"),
        (
            [],
            None,
            2,
            "explain needs an event = hint: give a file with an event as JSON, - for stdin, or the messageId",
        ),
    ],
)
def test_what_cannot_be_explained_is_told(place, arguments, stdin, code, told):
    done = place.run("explain", *arguments, stdin=stdin)
    assert (done.returncode, told in " ".join(done.stderr.replace("│", " ").split())) == (code, True), done.stderr


def test_looking_for_a_stored_event_makes_no_warehouse(place):
    data = place.path / "empty"
    data.mkdir()
    done = place.run("explain", "m1", "--data-dir", "empty")
    assert (done.returncode, "there is no file m1, and there is no warehouse " in done.stderr) == (1, True)
    assert list(data.iterdir()) == []


def test_a_stored_event_is_explained_by_its_message_id(place):
    place.up()
    (place.path / "events.jsonl").write_text(json.dumps(ORDER) + "\n")
    assert place.run("send", "events.jsonl").returncode == 0
    wait_until(lambda: place.run("explain", "order-1").returncode == 0)
    assert "→ delivered by “big orders”" in explained(place, "order-1")
    done = place.run("explain", "nobody")
    assert (done.returncode, done.stderr) == (
        1,
        "eventrouter: there is no file and no event 'nobody'\n"
        "  = hint: `eventrouter tail --since 1h` shows the messageIds of events, and the table `events` of the "
        "warehouse has them all; an event may be given as a JSON file, too\n",
    )


def test_of_events_of_several_sources_one_is_to_be_chosen(place):
    assert place.run("send", "events.jsonl", "--write-key", "app-key").returncode == 0
    wait_until(lambda: "order-1' of app, website" in place.run("explain", "order-1").stderr)
    for source in ("app", "website"):
        assert f"order-1 from {source}, by" in explained(place, "order-1", "--source", source)
    done = place.run("explain", "order-1", "--source", "old")
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        ["eventrouter: there is no file and no event 'order-1' of old", "  = hint: there is one of app, website"],
    )


def test_why_a_plugin_would_refuse_an_event_is_told(place):
    pytest.importorskip("eventrouter_ga4")  # a package of its own
    rules = place.path / "google.yaml"
    google = "{ plugin: ga4, options: { measurement_id: G-ABC123, api_secret: s3cr3t-of-google } }"
    rules.write_text(RULES.replace("{ plugin: stdout }", google).replace("from: app", ""))
    (place.path / "old.json").write_text(json.dumps({**PAGE, "timestamp": "2020-01-01T00:00:00Z"}))
    told = explained(place, "old.json", "--config", str(rules), "--destination", "lines")
    assert told.splitlines()[-1].startswith("      the plugin ga4 would refuse it: ")


def test_an_event_of_a_file_gets_what_enrichments_add(place):
    agent = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    (place.path / "bot.json").write_text(json.dumps({**PAGE, "context": {"userAgent": agent}}))
    rules = place.path / "bots.yaml"
    rules.write_text(RULES + "  - { to: lines, when: context.isBot, skip: bot }\n")
    report = json.loads(explained(place, "bot.json", "--config", str(rules), "--destination", "lines", "--json"))
    (lines,) = report["destinations"]
    assert (report["event"]["context"]["bot"]["name"], lines["outcome"]["reason"]) == ("Googlebot", "bot")


def test_an_event_of_a_file_lacks_what_its_source_scrubs(place):
    rules = place.path / "scrubbed.yaml"
    rules.write_text(RULES.replace("app-key }", "app-key, scrub: { remove: [name] } }"))
    told = explained(place, "page.json", "--config", str(rules), "--source", "app", "--destination", "lines")
    assert "{}" in told
    assert "Home" not in told
