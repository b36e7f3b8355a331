"""Destinations, plugins and templates that fail: what waits, what is tried again, what becomes a dead letter."""

from collections.abc import Iterator
from typing import Any

import pytest
from http_sink import Sink
from plugin_package import TROUBLE, install
from system import System, free_port, steadily, until

from eventrouter.testing import Answer

QUICK = "retry: { initial: 50ms, max_interval: 200ms }"
RULES = f"""
version: 1
sources:
  website: {{ write_key: key-website }}
destinations:
  again: {{ plugin: webhook, {QUICK}, options: {{ url: "${{SINK}}/again", allow_private: true }} }}
  named: {{ plugin: webhook, {QUICK}, options: {{ url: "${{SINK}}/named", allow_private: true }} }}
  limited: {{ plugin: webhook, {QUICK}, options: {{ url: "${{SINK}}/limited", allow_private: true }} }}
  parked: {{ plugin: webhook, {QUICK}, options: {{ url: "${{SINK}}/parked", allow_private: true }} }}
  poisoned:
    plugin: webhook
    {QUICK}
    batch: {{ size: 20, wait: 500ms }}
    options: {{ url: "${{SINK}}/poisoned", allow_private: true }}
  refusing: {{ plugin: webhook, {QUICK}, options: {{ url: "${{SINK}}/refusing", allow_private: true }} }}
  stubborn:
    plugin: webhook
    retry: {{ initial: 50ms, max_interval: 100ms, max_attempts: 3 }}
    options: {{ url: "${{SINK}}/stubborn", allow_private: true }}
  old:
    plugin: webhook
    retry: {{ initial: 50ms, max_interval: 200ms, max_age: 1s }}
    options: {{ url: "${{SINK}}/old", allow_private: true }}
  down: {{ plugin: webhook, {QUICK}, options: {{ url: "${{DOWN}}/down", secret: hush-hush, allow_private: true }} }}
  late: {{ plugin: webhook, {QUICK}, options: {{ url: "${{SINK}}/late", timeout: 0.3, allow_private: true }} }}
  small: {{ plugin: webhook, backlog: 8, {QUICK}, options: {{ url: "${{DOWN}}/small", allow_private: true }} }}
  moody: {{ plugin: moody, {QUICK}, options: {{ url: "${{SINK}}/moody", allow_private: true }} }}
  hooked: {{ plugin: webhook, {QUICK}, options: {{ url: "${{SINK}}/hooked", allow_private: true }} }}
  well: {{ plugin: webhook, options: {{ url: "${{SINK}}/well", allow_private: true }} }}
routes:
  - {{ to: again, when: event == "Again" }}
  - {{ to: named, when: event == "Named" }}
  - {{ to: limited, when: event == "Limited" }}
  - {{ to: parked, when: event == "Parked" }}
  - {{ to: poisoned, when: event == "Poisoned" }}
  - {{ to: refusing, when: event == "Refusing" }}
  - {{ to: stubborn, when: event == "Stubborn" }}
  - {{ to: old, when: event == "Old" }}
  - {{ to: [down, well], when: event == "Down" }}
  - {{ to: late, when: event == "Late" }}
  - {{ to: small, when: event == "Small" }}
  - {{ to: moody, when: event == "Moody" }}
  - {{ to: hooked, when: event == "Hooked", map: {{ text: "{{{{ properties.text | shout }}}}" }} }}
  - {{ to: well, when: event == "Well" or event == "Enrichment Fails" }}
"""


@pytest.fixture(scope="module")
def system(sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The rules above, with the plugin that fails in every way, and an address where nobody listens."""
    path = install(tmp_path_factory.mktemp("plugin"), "trouble", TROUBLE)
    environment = {"SINK": sink.url, "DOWN": f"http://127.0.0.1:{free_port()}", "PYTHONPATH": path}
    with System(tmp_path_factory.mktemp("failures"), RULES, environment) as running:
        yield running


def letters(system: System, destination: str, count: int = 1) -> list[dict[str, Any]]:
    query = "SELECT * FROM dead_letters WHERE destination = ? ORDER BY message_id"
    return system.rows(count, query, destination)


def test_a_failing_answer_is_tried_again_with_the_same_id(system: System, sink: Sink) -> None:
    sink.answer("/again", Answer(500), Answer(502))
    system.track("Again", "again", messageId="again-1")
    sink.wait("/again", 1)
    hits = sink.at("/again")
    assert [hit.status for hit in hits] == [500, 502, 200]
    assert len({hit.id for hit in hits}) == 1
    assert len({hit.body for hit in hits}) == 1
    system.until_count(1, "deliveries_delivered_total", destination="again")


def test_a_named_time_is_kept(system: System, sink: Sink) -> None:
    sink.answer("/named", Answer(500, headers={"Retry-After": "2"}))
    system.track("Named", "named")
    sink.wait("/named", 1)
    first, second = sink.at("/named")
    assert 1.9 < second.at - first.at < 10


def test_a_rate_limit_holds_the_whole_destination_for_the_named_time(system: System, sink: Sink) -> None:
    sink.answer("/limited", Answer(429, headers={"Retry-After": "2"}))
    system.track("Limited", "limited-1")
    until(lambda: sink.at("/limited"))
    system.track("Limited", "limited-2")
    first, *others = until(lambda: hits if len(hits := sink.at("/limited")) >= 3 else [])
    assert min(hit.at for hit in others) - first.at > 1.9
    assert len(sink.wait("/limited", 2)) == 2


def test_a_failing_key_waits_in_order_while_others_go_on(system: System, sink: Sink) -> None:
    broken = {"is": True}

    def answer(event: Any) -> Answer:
        return Answer(500 if broken["is"] and event["anonymousId"] == "parked-bad" else 200)

    sink.always("/parked", answer)
    for n in range(5):
        for who in ("parked-bad", "parked-good"):
            system.track("Parked", who, properties={"n": n})
    sink.wait("/parked", 5)
    assert {hit.json["properties"]["n"] for hit in sink.at("/parked") if hit.status == 500} == {0}
    broken["is"] = False
    hits = sink.wait("/parked", 10)
    for who in ("parked-bad", "parked-good"):
        assert [hit.json["properties"]["n"] for hit in hits if hit.json["anonymousId"] == who] == [0, 1, 2, 3, 4]


def test_the_poison_of_a_batch_is_found_and_its_neighbours_are_delivered(system: System, sink: Sink) -> None:
    sink.always("/poisoned", lambda events: Answer(400 if any(e["messageId"] == "poison-7" for e in events) else 200))
    system.send(
        *({"type": "track", "event": "Poisoned", "anonymousId": "p", "messageId": f"poison-{n}"} for n in range(16))
    )
    [letter] = letters(system, "poisoned")
    assert (letter["message_id"], letter["class"], letter["status"]) == ("poison-7", "permanent", 400)
    until(lambda: sum(len(hit.json) for hit in sink.taken("/poisoned")) == 15)
    taken = [event["messageId"] for hit in sink.taken("/poisoned") for event in hit.json]
    assert taken == [f"poison-{n}" for n in range(16) if n != 7]


def test_a_refusal_is_a_dead_letter_with_all_that_is_known(system: System, sink: Sink) -> None:
    sink.answer("/refusing", Answer(422, body='{"error": "total is missing"}'))
    system.track("Refusing", "refusing", messageId="refusing-1")
    [letter] = letters(system, "refusing")
    assert letter["class"] == "permanent"
    assert (letter["status"], letter["response"], letter["attempts"]) == (422, '{"error": "total is missing"}', 1)
    assert '"refusing-1"' in letter["payload"]
    system.until_count(1, "deliveries_dead_total", **{"class": "permanent", "destination": "refusing"})


def test_what_fails_while_others_succeed_is_given_up_after_some_attempts(system: System, sink: Sink) -> None:
    sink.always("/stubborn", lambda event: Answer(500 if event["anonymousId"] == "stubborn-bad" else 200))
    system.track("Stubborn", "stubborn-bad", messageId="stubborn-bad")
    others = iter(range(1000))

    def is_dead() -> bool:
        system.track("Stubborn", f"good-{next(others)}")
        return bool(system.sql("SELECT * FROM dead_letters WHERE destination = 'stubborn'"))

    until(is_dead, every=0.1)
    [letter] = letters(system, "stubborn")
    assert (letter["message_id"], letter["class"], letter["status"]) == ("stubborn-bad", "attempts", 500)
    assert letter["attempts"] >= 3


def test_what_is_older_than_max_age_is_given_up(system: System, sink: Sink) -> None:
    sink.always("/old", Answer(503))
    for n in range(3):
        system.track("Old", f"old-{n}", messageId=f"old-{n}")
    assert [letter["class"] for letter in letters(system, "old", 3)] == ["max_age"] * 3
    sink.always("/old", None)
    system.track("Old", "young", messageId="young")
    assert [hit.json["messageId"] for hit in sink.wait("/old", 1)] == ["young"]


def test_a_destination_that_is_away_delays_no_other_and_says_why(system: System, sink: Sink) -> None:
    for n in range(10):
        system.track("Down", f"down-{n}")
    sink.wait("/well", 10, lambda event: event["event"] == "Down")
    row = system.destination("down")
    assert (row["state"], row["waiting"], row["delivered"]) == ("backing off", 10, 0)
    assert "refused" in row["reason"].lower() or "connect" in row["reason"].lower()
    assert "hush" not in system.log


def test_a_late_answer_is_tried_again(system: System, sink: Sink) -> None:
    sink.answer("/late", Answer(delay=1.0))
    system.track("Late", "late")
    first, second = until(lambda: hits if len(hits := sink.at("/late")) >= 2 else [])
    assert first.id == second.id
    system.until_count(1, "deliveries_delivered_total", destination="late")


def test_a_full_backlog_makes_dead_letters_and_stops_nobody(system: System, sink: Sink) -> None:
    for n in range(40):
        system.track("Small", f"small-{n}")
    system.events(40, "Small")
    full = until(lambda: system.count("deliveries_dead_total", **{"class": "backlog_full", "destination": "small"}))
    assert 40 - 8 <= full < 40
    rows = letters(system, "small", int(full))
    assert {(row["class"], row["payload"]) for row in rows} == {("backlog_full", None)}
    system.until_count(40 - full, "waiting", lane="small")


def test_a_plugin_settles_each_message_by_itself(system: System, sink: Sink) -> None:
    fields = {"type": "track", "event": "Moody"}
    for n, do in enumerate(["", "refuse", "later", "", "later", "refuse"]):
        system.send({**fields, "anonymousId": f"m{n}", "messageId": f"moody-{n}-{do}", "properties": {"do": do}})
    wanted = {"moody-0-", "moody-2-later", "moody-3-", "moody-4-later"}
    until(lambda: {one for hit in sink.taken("/moody") for one in hit.json} == wanted)
    assert sorted(one for hit in sink.taken("/moody") for one in hit.json) == sorted(wanted)
    rows = letters(system, "moody", 2)
    assert [(row["message_id"], row["class"], row["reason"]) for row in rows] == [
        ("moody-1-refuse", "permanent", "it did not like this one"),
        ("moody-5-refuse", "permanent", "it did not like this one"),
    ]


def test_a_bug_of_a_plugin_is_a_dead_letter_with_its_traceback(system: System, sink: Sink) -> None:
    system.track("Moody", "buggy", messageId="buggy", properties={"do": "bug"})
    [letter] = system.rows(1, "SELECT * FROM dead_letters WHERE message_id = 'buggy'")
    assert (letter["class"], letter["attempts"]) == ("plugin_bug", 10)
    assert letter["reason"] == "ZeroDivisionError: a bug of the plugin"
    assert "in deliver" in letter["traceback"]


def test_a_hook_that_raises_breaks_no_turn(system: System, sink: Sink) -> None:
    system.track("Hooked", "hooked-1", properties={"text": "hey"})
    system.track("Hooked", "hooked-2", properties={"text": "you"})
    assert sorted(hit.json["text"] for hit in sink.wait("/hooked", 2)) == ["HEY!", "YOU!"]
    assert steadily(lambda: len(sink.at("/hooked")) == 2)
    system.until_count(2, "deliveries_delivered_total", destination="hooked")
    assert "a bug of the hook attempt_finished" in system.log


def test_an_enrichment_that_raises_stops_no_event(system: System, sink: Sink) -> None:
    system.track("Enrichment Fails", "enrichment", messageId="not-enriched")
    sink.wait("/well", 1, lambda event: event["messageId"] == "not-enriched")
    system.track("Well", "enrichment", messageId="enriched")
    first, second = sink.wait("/well", 2, lambda event: event["anonymousId"] == "enrichment")
    assert ("enriched" in first.json["context"], second.json["context"]["enriched"]) == (False, True)
    assert first.json["person_id"] == second.json["person_id"]
    system.events(1, "Enrichment Fails")
    assert "a bug of the enrichment" in system.log
    assert "its database is away" in system.log  # of the one that could not even start
    assert "it was never started" not in system.log


def test_plugins_are_listed_and_may_add_commands(system: System) -> None:
    listed = system.run("plugins")
    assert listed.returncode == 0
    assert "moody" in listed.stdout
    assert "Does what each event asks for" in listed.stdout
    assert system.run("greet").stdout == "hello from a plugin\n"


def test_a_misconfigured_destination_goes_on_hold_loses_nothing_and_goes_on(start: Any, sink: Sink) -> None:
    sink.always("/held", Answer(401, body="who are you?"))
    system = start(
        """
version: 1
sources: { website: { write_key: key-website } }
destinations:
  held:
    plugin: webhook
    retry: { initial: 50ms, max_interval: 200ms }
    options: { url: "${SINK}/held", allow_private: true }
routes: [{ to: held }]
"""
    )
    for n in range(6):
        system.track("Held", f"held-{n % 3}", messageId=f"held-{n}", properties={"n": n})
    until(lambda: system.count("destination_state", destination="held") == 2, every=0.2)
    tried = len(sink.at("/held"))
    row = system.destination("held")
    assert (row["state"], row["reason"], row["waiting"], row["dead"]) == ("on hold", "HTTP 401", 6, {})
    assert 0 < row["next_try_seconds"] <= 10
    assert steadily(lambda: len(sink.at("/held")) == tried)
    assert system.stop() == 0
    # What was wrong is corrected, and the start looks for itself instead of waiting for the next probe.
    sink.always("/held", None)
    system.start()
    hits = sink.wait("/held", 6)
    for who in range(3):
        assert [hit.json["properties"]["n"] for hit in hits if hit.json["anonymousId"] == f"held-{who}"] == [
            who,
            who + 3,
        ]
    until(lambda: system.count("destination_state", destination="held") == 0, every=0.2)
