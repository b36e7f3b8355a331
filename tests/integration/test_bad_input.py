"""What a client may get wrong, by plain HTTP: each has its answer, and costs nobody else."""

import gzip
import json
import socket
import time
import zlib
from typing import Any

import pytest
from system import System, names

GOOD = {"type": "track", "event": "Good", "anonymousId": "a"}
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"not json", "invalid_json"),
        (b'{"batch": [', "invalid_json"),
        (b'{"batch": [{"a": 1,}]}', "invalid_json"),
        (b"\xff\xfe\x00", "invalid_json"),
        (b"null", "body_not_object"),
        (b"[]", "body_not_object"),
        (b'"text"', "body_not_object"),
        (b"{}", "batch_not_array"),
        (b'{"batch": {}}', "batch_not_array"),
        (b'{"batch": []}', "empty_batch"),
    ],
)
def test_a_wrong_body_is_a_400_that_says_why(plain: System, body: bytes, code: str) -> None:
    assert plain.post("/v1/batch", body).error == (400, code)


@pytest.mark.parametrize(
    ("path", "event", "code"),
    [
        ("track", {"event": "E"}, "no_user_anon_id"),
        ("track", {"event": "E", "userId": None, "anonymousId": ""}, "no_user_anon_id"),
        ("track", {"userId": "u"}, "event_not_defined"),
        ("track", {"userId": "u", "event": 5}, "event_not_string"),
        ("track", {"userId": "u", "event": "E", "properties": "p"}, "properties_not_object"),
        ("track", {"userId": {"a": 1}, "event": "E"}, "id_not_string"),
        ("identify", {"userId": "u", "traits": [1]}, "traits_not_object"),
        ("page", {"userId": "u", "name": 1}, "name_not_string"),
        ("group", {"userId": "u"}, "id_required"),
        ("alias", {"userId": "u"}, "id_required"),
    ],
)
def test_a_wrong_event_is_a_400_with_segments_code(plain: System, path: str, event: Any, code: str) -> None:
    assert plain.post(f"/v1/{path}", event).error == (400, code)


def test_bad_neighbours_cost_no_good_event(plain: System) -> None:
    good = [{**GOOD, "event": "Neighbour", "messageId": f"neighbour-{n}"} for n in range(4)]
    bad = [5, None, {"type": "unknown", "userId": "u"}, {"type": "track", "userId": "u", "messageId": "neighbour-bad"}]
    reply = plain.post("/v1/batch", {"batch": [event for pair in zip(good, bad, strict=True) for event in pair]})
    assert reply.status == 200
    assert reply.json["success"] is True
    assert [(one["index"], one["code"], one["messageId"]) for one in reply.json["rejected"]] == [
        (1, "event_not_object", None),
        (3, "event_not_object", None),
        (5, "type_unknown", None),
        (7, "event_not_defined", "neighbour-bad"),
    ]
    assert all(one["message"] for one in reply.json["rejected"])
    assert [event["messageId"] for event in plain.events(4, "Neighbour")] == [f"neighbour-{n}" for n in range(4)]
    [row] = plain.rows(1, "SELECT * FROM rejected_events WHERE message_id = 'neighbour-bad'")
    assert (row["code"], row["source"], json.loads(row["payload"])) == ("event_not_defined", "website", bad[3])


@pytest.mark.parametrize(
    ("key", "answer"),
    [("", (401, "missing_write_key")), ("wrong", (401, "unknown_write_key")), ("key-closed", (403, "source_disabled"))],
)
def test_a_wrong_key_is_told_and_nothing_is_kept(plain: System, key: str, answer: tuple[int, str]) -> None:
    assert plain.post("/v1/track", {**GOOD, "event": f"Wrong Key {key}"}, key=key).error == answer
    assert plain.sql("SELECT * FROM events WHERE payload LIKE ?", f'%Wrong Key {key}"%') == []


def test_a_key_may_be_in_the_body_or_without_a_colon(plain: System) -> None:
    assert plain.post("/v1/track", {**GOOD, "writeKey": "key-app", "event": "Body Key"}, key="").status == 200
    headers = {"Authorization": "Basic a2V5LWFwcC0y"}  # key-app-2
    assert plain.post("/v1/track", {**GOOD, "event": "Body Key"}, key="", headers=headers).status == 200
    plain.events(2, "Body Key")
    assert names(plain.sql("SELECT source FROM events WHERE payload LIKE '%\"Body Key\"%'"), "source") == ["app", "app"]


def test_gzip_is_undone_and_garbage_refused(plain: System) -> None:
    body = json.dumps({"batch": [{**GOOD, "event": "Zipped"}]}).encode()
    zipped = gzip.compress(body)
    header = {"Content-Encoding": "gzip"}
    assert plain.post("/v1/batch", zipped, headers=header).json == {"success": True}
    assert plain.post("/v1/batch", zlib.compress(body), headers={"Content-Encoding": "deflate"}).status == 200
    for garbage in (b"\x1f\x8b garbage", zipped[:-12], zipped[:20] + b"x" * 20, b"plain text"):
        assert plain.post("/v1/batch", garbage, headers=header).error == (400, "invalid_encoding")
    assert plain.post("/v1/batch", b"abc", headers={"Content-Encoding": "br"}).error == (415, "unsupported_encoding")
    bomb = gzip.compress(b'{"batch": ["' + b" " * 50_000_000 + b'"]}')
    assert plain.post("/v1/batch", bomb, headers=header).error == (413, "too_large")
    plain.events(2, "Zipped")


def test_too_much_is_a_413(plain: System) -> None:
    assert plain.post("/v1/batch", b" " * 600_000).error == (413, "too_large")
    assert plain.post("/v1/batch", {"batch": [GOOD] * 2501}).error == (413, "too_many_events")


def test_an_event_of_100_kb_is_refused_alone(plain: System) -> None:
    large = {**GOOD, "messageId": "large", "properties": {"text": "x" * 100_000}}
    reply = plain.post("/v1/batch", {"batch": [large, {**GOOD, "event": "Small"}]})
    assert (reply.status, [one["code"] for one in reply.json["rejected"]]) == (200, ["event_too_large"])
    assert plain.post("/v1/track", large).error == (400, "event_too_large")
    plain.events(1, "Small")
    [row] = plain.rows(1, "SELECT * FROM rejected_events WHERE message_id = 'large'")  # the same event, twice
    assert len(row["payload"]) == 32 * 1024


def test_a_body_may_hold_2500_events(plain: System) -> None:
    events = [
        {"type": "track", "event": "Many", "anonymousId": f"m{n % 50}", "properties": {"n": n}} for n in range(2500)
    ]
    assert plain.post("/v1/batch", {"batch": events}).json == {"success": True}
    plain.rows(2500, "SELECT n FROM many")
    assert plain.sql("SELECT count(DISTINCT n) AS n FROM many") == [{"n": 2500}]


def test_ten_thousand_levels_are_refused_alone(plain: System) -> None:
    deep = b'{"type":"track","event":"Deep","anonymousId":"a","properties":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001
    lists = (
        b'{"type":"track","event":"Deep","anonymousId":"a","properties":{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}}"
    )
    good = json.dumps({**GOOD, "event": "Shallow"}).encode()
    reply = plain.post("/v1/batch", b'{"batch":[' + b",".join([deep, good, lists]) + b"]}")
    assert (reply.status, [one["code"] for one in reply.json["rejected"]]) == (200, ["event_too_deep"] * 2)
    assert plain.post("/v1/track", deep).error == (400, "event_too_deep")
    plain.events(1, "Shallow")


def test_odd_json_is_taken_as_far_as_it_makes_sense(plain: System) -> None:
    body = b"""{"batch": [
        {"type": "track", "event": "Odd", "anonymousId": "a", "messageId": "odd-1",
         "properties": {"n": NaN, "i": 1e400, "ok": 1}},
        {"type": "track", "event": "Odd", "anonymousId": "a", "messageId": "odd-2",
         "properties": {"text": "\\ud800 lone"}},
        {"type": "track", "event": "Odd", "anonymousId": "a", "messageId": "odd-3",
         "event": "Odd", "properties": {"twice": 1, "twice": 2}}
    ]}"""
    assert plain.post("/v1/batch", body).json == {"success": True}
    assert [event["properties"] for event in plain.events(3, "Odd")] == [
        {"n": None, "i": None, "ok": 1},
        {"text": "\ufffd lone"},
        {"twice": 2},
    ]


def test_odd_names_and_values_reach_the_warehouse(plain: System) -> None:
    for name in (
        "Größe ändern",
        "drop table events; --",
        "Robert'); DROP TABLE events;--",
        "日本",
        "events",
        "123",
        "😀",
    ):
        plain.track(
            name, "odd-names", properties={"select": 1, "größe": "x", "id": "mine", "a.b": 2, "": 3, "x" * 300: 4}
        )
    plain.rows(7, "SELECT * FROM events WHERE anonymous_id = 'odd-names'")
    plain.rows(7, "SELECT * FROM tracks WHERE anonymous_id = 'odd-names'")


def test_a_property_that_changes_its_type_loses_nothing(plain: System) -> None:
    for n, value in enumerate((1, "two", 3.5, True, {"a": 1}, [1], None, 2**70, "")):
        plain.track("Changing", "changing", messageId=f"changing-{n}", properties={"v": value})
    payloads = [event["properties"]["v"] for event in plain.events(9, "Changing")]
    assert payloads == [1, "two", 3.5, True, {"a": 1}, [1], None, 2**70, ""]
    plain.rows(9, "SELECT * FROM changing")
    kept = plain.sql("SELECT id FROM discarded_values WHERE table_name = 'changing'")
    assert "changing-1" in names(kept, "id")


def test_more_properties_than_a_table_has_room_for_cost_nothing(plain: System) -> None:
    plain.track("Wide", "wide", messageId="wide", properties={f"p{n}": 1 for n in range(2500)})
    plain.track("Wide", "wide", messageId="wide-after", properties={"p1": 2})
    plain.rows(2, "SELECT p1 FROM wide")
    [event, _] = plain.events(2, "Wide")
    assert len(event["properties"]) == 2500
    assert plain.sql("SELECT DISTINCT reason FROM discarded_values WHERE table_name = 'wide'")


def test_other_addresses_and_methods_are_told(plain: System) -> None:
    assert plain.post("/v1/nothing", {}).error == (404, "not_found")
    assert plain.request("GET", "/v1/batch").error == (405, "method_not_allowed")
    assert plain.request("PUT", "/v1/track", b"{}").error == (405, "method_not_allowed")
    assert plain.request("OPTIONS", "/v1/track", headers={"Origin": "https://example.com"}).status in (200, 204)


def test_what_is_not_http_harms_nobody(plain: System) -> None:
    for garbage in (
        b"\0\0\0\0",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"POST /v1/batch HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", plain.port), timeout=10) as connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(4096)
    with socket.create_connection(("127.0.0.1", plain.port), timeout=10) as connection:
        connection.sendall(b"POST /v1/batch HTTP/1.1\r\nContent-Length: 500\r\n\r\n{")  # and goes away
    plain.track("Still There", "still")
    plain.events(1, "Still There")


def test_health_ready_and_metrics_are_there(plain: System) -> None:
    assert plain.get("/health").json == {"status": "ok"}
    ready = plain.get("/ready")
    assert (ready.status, ready.json["ready"]) == (200, True)
    assert plain.count("up") == 1
    time.sleep(1.1)  # they are up to a second old
    accepted = plain.count("events_accepted_total")
    refused = plain.count("events_rejected_total", reason="no_user_anon_id", source="app")
    plain.track("Measured", "measured", key="key-app")
    plain.post("/v1/track", {"event": "Measured"}, key="key-app")
    plain.until_count(accepted + 1, "events_accepted_total")
    plain.until_count(refused + 1, "events_rejected_total", reason="no_user_anon_id", source="app")


def test_no_request_left_a_traceback_or_a_key_in_the_log(plain: System) -> None:
    plain.post("/v1/batch", b"not json", key="key-of-nobody")
    plain.track("Logged", "logged")
    plain.events(1, "Logged")
    assert "Traceback" not in plain.log
    assert "key-of-nobody" not in plain.log
    assert "key-website" not in plain.log
