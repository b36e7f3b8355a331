"""`eventrouter dead`: finding what was given up, and sending it again."""

import json
from pathlib import Path
from typing import Any

from http_sink import Sink
from system import System, steadily

from eventrouter.testing import Answer

RULES = """
version: 1
sources:
  website: { write_key: key-website }
destinations:
  orders: { plugin: webhook, options: { url: "${SINK}/orders", allow_private: true } }
  shares: { plugin: webhook, options: { url: "${SINK}/shares", allow_private: true } }
  repeated: { plugin: webhook, options: { url: "${SINK}/repeated", allow_private: true } }
  asked: { plugin: webhook, options: { url: "${SINK}/asked", allow_private: true } }
routes:
  - { to: repeated, when: event == "Repeated" }
  - { to: asked, when: event == "Asked" }
  - name: orders
    to: orders
    when: event == "Refused"
    map: { id: "{{ messageId }}", total: "{{ properties.total }}" }
  - name: shares
    to: shares
    when: event == "Share"
    map: { share: "{{ 100 / properties.parts }}" }
"""


def listed(system: System, *options: str) -> list[dict[str, Any]]:
    done = system.run("dead", "list", "--json", *options)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def replay(system: System, *options: object) -> dict[str, Any]:
    done = system.run("dead", "replay", "--yes", "--json", *options)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def refused(system: System, sink: Sink) -> dict[str, str]:
    """Makes two refused orders; their idempotency keys."""
    sink.always("/orders", Answer(400, body="no"))
    for n in (1, 2):
        system.track("Refused", f"refused-{n}", messageId=f"refused-{n}", properties={"total": n})
    system.rows(2, "SELECT * FROM dead_letters WHERE destination = 'orders'")
    keys = {hit.json["id"]: hit.id for hit in sink.at("/orders")}
    sink.always("/orders", None)
    return keys


def test_dead_letters_are_listed_and_sent_again_until_they_arrive(system: System, sink: Sink, tmp_path: Path) -> None:
    keys = refused(system, sink)
    letters = listed(system, "--destination", "orders", "--class", "permanent", "--event", "Refused", "--since", "1h")
    assert {row["message_id"] for row in letters} == set(keys)
    assert listed(system, "--until", "2020-01-01") == []
    shown = system.run("dead", "list")
    assert "refused-1" in shown.stdout
    assert "HTTP 400" in shown.stdout

    # By today's rules: what the file says now.
    rules = tmp_path / "new.yaml"
    rules.write_text(RULES.replace('total: "{{ properties.total }}"', 'cents: "{{ properties.total * 100 }}"'))
    assert replay(system, "--destination", "orders", "--limit", "1", "--config", rules)["sent"] == 1
    [first] = sink.wait("/orders", 1)
    assert first.id == keys[first.json["id"]]
    assert first.json["cents"] == int(first.json["id"].removeprefix("refused-")) * 100
    system.rows(1, "SELECT * FROM dead_letters WHERE destination = 'orders' AND replayed_at IS NOT NULL")

    # As it was.
    assert replay(system, "--destination", "orders", "--as-was", "--config", rules)["sent"] == 1
    second = sink.wait("/orders", 2)[1]
    assert second.id == keys[second.json["id"]] != first.id
    assert second.json["total"] == int(second.json["id"].removeprefix("refused-"))
    system.rows(2, "SELECT * FROM dead_letters WHERE destination = 'orders' AND replayed_at IS NOT NULL")
    assert listed(system, "--destination", "orders") == []
    assert len(listed(system, "--destination", "orders", "--all")) == 2
    system.until_count(2, "deliveries_replayed_total", **{"class": "permanent", "destination": "orders"})
    system.until_count(2, "deliveries_delivered_total", destination="orders")
    system.until_count(2, "deliveries_dead_total", **{"class": "permanent", "destination": "orders"})


def test_what_cannot_be_sent_again_is_told(system: System, sink: Sink, tmp_path: Path) -> None:
    system.track("Share", "share", messageId="share-1", properties={"parts": 0})
    system.rows(1, "SELECT * FROM dead_letters WHERE destination = 'shares'")
    done = replay(system, "--class", "template")
    assert done["sent"] == 0
    assert "still fails" in done["skipped"][0]["reason"]
    done = replay(system, "--class", "template", "--as-was")
    assert "by today's rules" in done["skipped"][0]["reason"]
    rules = tmp_path / "mended.yaml"
    rules.write_text(RULES.replace("100 / properties.parts", "100 / (properties.parts or 1)"))
    assert replay(system, "--class", "template", "--config", rules)["sent"] == 1
    assert [hit.json for hit in sink.wait("/shares", 1)] == [{"share": 100}]


def test_a_replay_that_fails_again_is_a_dead_letter_again(system: System, sink: Sink) -> None:
    sink.answer("/repeated", Answer(400), Answer(422))
    system.track("Repeated", "repeated", messageId="repeated-1")
    system.rows(1, "SELECT * FROM dead_letters WHERE destination = 'repeated' AND status = 400")
    assert replay(system, "--destination", "repeated")["sent"] == 1
    system.rows(1, "SELECT * FROM dead_letters WHERE destination = 'repeated' AND status = 422 AND replayed_at IS NULL")
    assert [row["reason"] for row in listed(system, "--destination", "repeated")] == ["HTTP 422"]
    assert replay(system, "--destination", "repeated")["sent"] == 1
    sink.wait("/repeated", 1)
    assert len({hit.id for hit in sink.at("/repeated")}) == 1
    system.rows(1, "SELECT * FROM dead_letters WHERE destination = 'repeated' AND replayed_at IS NOT NULL")


def test_nothing_is_sent_without_a_yes(system: System, sink: Sink) -> None:
    sink.answer("/asked", Answer(400))
    system.track("Asked", "asked")
    system.rows(1, "SELECT * FROM dead_letters WHERE destination = 'asked'")
    done = system.run("dead", "replay", "--destination", "asked", stdin=b"n\n")
    assert done.returncode == 1
    assert "(1 to asked)?" in done.stderr
    assert steadily(lambda: len(sink.at("/asked")) == 1)
    done = system.run("dead", "replay", "--destination", "asked", stdin=b"y\n")
    assert (done.returncode, done.stdout.strip()) == (0, "Queued 1 dead letter, skipped 0.")
    sink.wait("/asked", 1)
