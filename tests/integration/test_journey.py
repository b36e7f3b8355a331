"""The main job: events by plain HTTP, to the warehouse and, by rules, to webhooks."""

import base64
import time
from typing import Any

import pytest
from http_sink import Sink
from standardwebhooks import Webhook, WebhookVerificationError
from system import System, names, until

from eventrouter.testing import Answer

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
ENVIRONMENT = {"SECRET": SECRET}
RULES = """
version: 1
sources:
  website: { write_key: key-website }
  app: { write_key: key-app }
destinations:
  signed:
    plugin: webhook
    options: { url: "${SINK}/signed", secret: "${SECRET}", allow_private: true, headers: { X-Team: growth } }
  array:
    plugin: webhook
    batch: { size: 10, wait: 300ms }
    options: { url: "${SINK}/array", allow_private: true }
  crm:
    plugin: webhook
    options: { url: "${SINK}/crm", allow_private: true }
  fragile:
    plugin: webhook
    options: { url: "${SINK}/fragile", allow_private: true }
  everything:
    plugin: webhook
    options: { url: "${SINK}/everything", allow_private: true }
  forbidden:
    plugin: webhook
    options: { url: "${SINK}/forbidden" }
  printed: { plugin: stdout }
routes:
  - { name: signed, to: signed, when: event == "Signed" }
  - { name: array, to: array, when: event == "Array" }
  - name: big orders, in cents
    to: crm
    from: website
    when: event == "Ordered" and properties.total >= 10
    set: { properties.total_cents: "{{ (properties.total * 100) | round | int }}", context.person: "{{ person_id }}" }
    drop: [context.ip, properties.notes]
  - name: the others, in short
    to: crm
    when: event == "Ordered"
    map: { text: "Order {{ properties.id }}: {{ properties.total }}", total: "{{ properties.total }}" }
  - name: a template that may fail
    to: fragile
    when: event == "Fragile"
    map: { share: "{{ 100 / properties.parts }}" }
  - { name: everything, to: everything, when: event == "Everything" }
  - { name: forbidden, to: forbidden, when: event == "Forbidden" }
  - { name: printed, to: printed, when: event == "Printed" }
"""


def test_events_of_all_six_types_land_in_their_tables(plain: System) -> None:
    plain.send(
        {"type": "identify", "userId": "six-1", "anonymousId": "six-a", "traits": {"planName": "pro"}},
        {"type": "track", "userId": "six-1", "event": "Six Completed", "properties": {"total": 12.5, "first": True}},
        {"type": "page", "anonymousId": "six-a", "name": "Home", "properties": {"url": "https://example.com/"}},
        {"type": "screen", "anonymousId": "six-a", "name": "Main", "category": "App"},
        {"type": "group", "userId": "six-1", "groupId": "six-g", "traits": {"employees": 12}},
        {"type": "alias", "userId": "six-1", "previousId": "six-old"},
    )
    events = plain.rows(6, "SELECT * FROM events WHERE user_id = 'six-1' OR anonymous_id = 'six-a'")
    assert sorted(names(events, "type")) == ["alias", "group", "identify", "page", "screen", "track"]
    assert {(row["source"], row["received_at"] == row["timestamp"]) for row in events} == {("website", True)}
    [order] = plain.sql("SELECT * FROM six_completed")
    assert (order["total"], order["first"], order["event"], order["event_text"]) == (
        12.5, 1, "six_completed", "Six Completed",
    )  # fmt: skip
    assert plain.sql("SELECT event_text FROM tracks WHERE user_id = 'six-1'") == [{"event_text": "Six Completed"}]
    assert plain.sql("SELECT plan_name, anonymous_id FROM identifies WHERE user_id = 'six-1'") == [
        {"plan_name": "pro", "anonymous_id": "six-a"}
    ]
    assert plain.sql("SELECT plan_name FROM users WHERE id = 'six-1'") == [{"plan_name": "pro"}]
    assert plain.sql("SELECT name, url FROM pages WHERE anonymous_id = 'six-a'") == [
        {"name": "Home", "url": "https://example.com/"}
    ]
    assert plain.sql("SELECT name, category FROM screens WHERE anonymous_id = 'six-a'") == [
        {"name": "Main", "category": "App"}
    ]
    assert plain.sql("SELECT employees FROM groups WHERE group_id = 'six-g'") == [{"employees": 12}]
    assert plain.sql("SELECT employees FROM accounts WHERE id = 'six-g'") == [{"employees": 12}]
    assert plain.sql("SELECT previous_id FROM aliases WHERE user_id = 'six-1'") == [{"previous_id": "six-old"}]


@pytest.mark.parametrize(
    ("path", "body", "type_"),
    [
        ("track", {"event": "E"}, "track"),
        ("identify", {"traits": {"a": 1}}, "identify"),
        ("page", {"name": "P"}, "page"),
        ("screen", {"name": "S"}, "screen"),
        ("group", {"groupId": "g"}, "group"),
        ("alias", {"previousId": "p"}, "alias"),
    ],
)
def test_each_type_has_an_endpoint_and_a_short_form(plain: System, path: str, body: Any, type_: str) -> None:
    user = f"endpoint-{path}"
    for address in (f"/v1/{path}", f"/v1/{path[0]}"):
        reply = plain.post(address, {**body, "userId": user})
        assert (reply.status, reply.json) == (200, {"success": True})
    rows = plain.rows(2, "SELECT type FROM events WHERE user_id = ?", user)
    assert names(rows, "type") == [type_, type_]


def test_columns_appear_as_properties_do(plain: System) -> None:
    plain.track("Columns Grow", "grow", messageId="grow-1", properties={"a": 1})
    plain.rows(1, "SELECT * FROM columns_grow")
    plain.track("Columns Grow", "grow", messageId="grow-2", properties={"a": 2, "b": {"c": "x"}, "d": [1, "é"]})
    rows = plain.rows(2, "SELECT id, a, b_c, d FROM columns_grow ORDER BY id")
    assert rows == [
        {"id": "grow-1", "a": 1, "b_c": None, "d": None},
        {"id": "grow-2", "a": 2, "b_c": "x", "d": '[1,"é"]'},
    ]


def test_an_idle_system_answers_an_event_within_moments(system: System, sink: Sink) -> None:
    time.sleep(2)  # the lingering turns have ended
    started = time.monotonic()
    system.track("Everything", "idle", messageId="idle")
    [hit] = sink.wait("/everything", 1, lambda event: event["messageId"] == "idle")
    assert hit.at - started < 5
    system.rows(1, "SELECT * FROM events WHERE id = 'idle'")
    assert time.monotonic() - started < 10


def test_a_webhook_is_signed_and_carries_the_event(system: System, sink: Sink) -> None:
    system.track("Signed", "signed-a", messageId="signed-1", properties={"größe": "☃", "n": 1})
    [hit] = sink.wait("/signed", 1)
    assert Webhook(SECRET).verify(hit.body.decode(), hit.headers) == hit.json
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(hit.body.decode() + " ", hit.headers)
    assert hit.headers["x-team"] == "growth"
    assert hit.headers["content-type"] == "application/json"
    event = hit.json
    assert (event["messageId"], event["event"], event["properties"]) == ("signed-1", "Signed", {"größe": "☃", "n": 1})
    [row] = system.rows(1, "SELECT person_id FROM events WHERE id = 'signed-1'")
    assert event["person_id"] == row["person_id"]


def test_a_batched_webhook_gets_arrays_even_of_one(system: System, sink: Sink) -> None:
    system.send(
        *({"type": "track", "event": "Array", "anonymousId": "array", "properties": {"n": n}} for n in range(25))
    )
    until(lambda: sum(len(hit.json) for hit in sink.at("/array")) == 25)
    hits = sink.at("/array")
    assert [event["properties"]["n"] for hit in hits for event in hit.json] == list(range(25))
    assert max(len(hit.json) for hit in hits) == 10
    system.track("Array", "array-single", messageId="single")
    hit = sink.wait("/array", len(hits) + 1)[-1]
    assert names(hit.json, "messageId") == ["single"]


def test_the_first_matching_route_decides_and_shapes_the_payload(system: System, sink: Sink) -> None:
    def order(who: str, total: Any, **fields: Any) -> dict[str, Any]:
        properties = {"id": who, "total": total, "notes": "private"}
        context = {"ip": "203.0.113.9", "locale": "de"}
        return {"type": "track", "event": "Ordered", "anonymousId": who, "properties": properties, "context": context}

    system.send(order("big", 19.99))
    [big] = sink.wait("/crm", 1)
    assert big.json["properties"] == {"id": "big", "total": 19.99, "total_cents": 1999}
    assert big.json["context"] == {"locale": "de", "person": big.json["person_id"]}
    system.send(order("small", 5))
    assert sink.wait("/crm", 2)[1].json == {"text": "Order small: 5", "total": 5}
    system.send(order("big from the app", 500), key="key-app")
    assert sink.wait("/crm", 3)[2].json == {"text": "Order big from the app: 500", "total": 500}
    stored = system.events(3, "Ordered")
    assert [event["properties"]["notes"] for event in stored] == ["private"] * 3
    assert "total_cents" not in stored[0]["properties"]
    assert [event["context"]["ip"] for event in stored] == ["203.0.113.9"] * 3


def test_a_failing_template_costs_one_delivery_and_no_event(system: System, sink: Sink) -> None:
    system.send(
        *(
            {
                "type": "track",
                "event": "Fragile",
                "anonymousId": "f",
                "messageId": f"fragile-{n}",
                "properties": {"parts": n},
            }
            for n in (4, 0, 5)
        )
    )
    assert [hit.json for hit in sink.wait("/fragile", 2)] == [{"share": 25}, {"share": 20}]
    [letter] = system.rows(1, "SELECT * FROM dead_letters WHERE destination = 'fragile'")
    assert (letter["class"], letter["message_id"], letter["route"]) == (
        "template", "fragile-0", "a template that may fail",
    )  # fmt: skip
    assert "share" in letter["reason"]
    assert "zero" in letter["reason"]
    system.events(3, "Fragile")
    system.until_count(1, "deliveries_dead_total", **{"class": "template", "destination": "fragile"})


def test_the_events_of_one_key_arrive_in_order(system: System, sink: Sink) -> None:
    for n in range(5):
        system.send(
            *(
                {
                    "type": "track",
                    "event": "Everything",
                    "anonymousId": f"order-{i % 3}",
                    "properties": {"n": n * 30 + i},
                }
                for i in range(30)
            )
        )
    wanted = ("order-0", "order-1", "order-2")
    hits = sink.wait("/everything", 150, lambda event: event["anonymousId"] in wanted)
    for key in wanted:
        numbers = [hit.json["properties"]["n"] for hit in hits if hit.json["anonymousId"] == key]
        assert numbers == sorted(numbers)
        assert len(numbers) == 50


def test_numbers_text_and_depth_arrive_exactly(system: System, sink: Sink) -> None:
    properties = {
        "huge": 2**200 + 1,
        "negative": -(2**64) - 1,
        "money": 0.1,
        "nul": "a\0b",
        "text": "Ünïcødé 😀 \u202e",
        "deep": {"d": [[[["bottom"]]]]},
        "": "empty key",
    }
    system.track("Everything", "exact", messageId="exact", properties=properties)
    [hit] = sink.wait("/everything", 1, lambda event: event["messageId"] == "exact")
    assert hit.json["properties"] == properties
    assert str(2**200 + 1).encode() in hit.body
    [row] = system.rows(1, "SELECT payload FROM events WHERE id = 'exact'")
    assert f'"huge":{2**200 + 1},"negative":{-(2**64) - 1},"money":0.1,' in row["payload"]
    assert "a\ufffdb" in row["payload"]  # PostgreSQL's text can't hold NUL
    assert "😀" in row["payload"]


def test_a_private_address_is_refused_unless_allowed(system: System, sink: Sink) -> None:
    system.track("Forbidden", "forbidden", messageId="forbidden-1")
    [letter] = system.rows(1, "SELECT * FROM dead_letters WHERE message_id = 'forbidden-1'")
    assert letter["class"] == "permanent"
    assert "allow_private: true" in letter["reason"]
    assert sink.at("/forbidden") == []
    system.rows(1, "SELECT * FROM events WHERE id = 'forbidden-1'")


def test_stdout_is_what_the_worker_prints(system: System) -> None:
    system.track("Printed", "printed", properties={"what": "häagen"})
    until(lambda: '"what":"häagen"' in system.output.read_text(encoding="utf-8"))


def test_what_no_route_wants_is_counted_as_filtered(system: System) -> None:
    system.track("Nobody Wants This", "filtered", messageId="filtered")
    system.rows(1, "SELECT * FROM events WHERE id = 'filtered'")
    filtered = until(lambda: system.count("deliveries_filtered_total", destination="signed", reason="no_route"))
    assert system.destination("signed")["filtered"]["no_route"] >= filtered


def test_the_same_message_again_is_dropped_and_counted(system: System, sink: Sink) -> None:
    event = {"type": "track", "event": "Everything", "anonymousId": "dup", "messageId": "dup-1"}
    time.sleep(1.1)  # the numbers are up to a second old
    duplicates = system.count("events_duplicates_total")
    system.send(event, event)
    system.send(event)
    system.send(event, key="key-app")  # another source's id is another event
    system.send({**event, "messageId": "dup-end"})
    sink.wait("/everything", 1, lambda event: event["messageId"] == "dup-end")
    sent = sink.wait("/everything", 2, lambda event: event["messageId"] == "dup-1")
    assert len({hit.id for hit in sent}) == 2
    rows = system.rows(2, "SELECT source FROM events WHERE id = 'dup-1' ORDER BY source")
    assert names(rows, "source") == ["app", "website"]
    system.until_count(duplicates + 2, "events_duplicates_total")


def test_a_slow_destination_delays_no_other_and_no_collector(system: System, sink: Sink) -> None:
    sink.always("/array", Answer(delay=4))
    try:
        system.track("Array", "slow")
        time.sleep(0.5)
        started = time.monotonic()
        for n in range(20):
            system.track("Everything", f"quick-{n}", messageId=f"quick-{n}")
        sink.wait("/everything", 20, lambda event: event["messageId"].startswith("quick-"))
        assert time.monotonic() - started < 3.5
    finally:
        sink.always("/array", None)


def test_everything_that_was_accepted_is_accounted_for(system: System) -> None:
    system.track("Everything", "count-up")
    system.track("Fragile", "count-up", properties={"parts": 0})
    system.post("/v1/track", {"userId": "no name"})

    def balanced() -> bool:
        status = system.status()
        events = status["events"]
        assert events["accepted"] == events["in_log"] + events["duplicates"] + events["routed"]
        rows = status["destinations"]
        for row in rows.values():
            gone = sum(row["filtered"].values()) + sum(row["dead"].values())
            if row["waiting"] or row["routed"] != row["delivered"] + gone:
                return False
        return {row["routed"] for name, row in rows.items() if name != "warehouse"} == {events["routed"]}

    until(balanced, every=0.5)
