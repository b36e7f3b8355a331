import json
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventrouter.accept import accept
from eventrouter.acceptance import Acceptance, AcceptedEvent, BodyError, Client, Limits
from eventrouter.decode import decode
from eventrouter.events import EVENT_TYPES, StoredEvent
from eventrouter.records import rejection_id
from eventrouter.scrub import Scrub

RECEIVED = datetime(2026, 11, 24, 17, 0, 0, 123_999, tzinfo=UTC)
RECEIVED_AT = "2026-11-24T17:00:00.123Z"
stored = msgspec.json.Decoder(StoredEvent)


def track(**fields: Any) -> dict[str, Any]:
    return {"type": "track", "messageId": "m1", "userId": "u1", "event": "Signed Up"} | fields


def take(body: Any, endpoint: str = "batch", **more: Any) -> Acceptance:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return accept(data, **{"endpoint": endpoint, "source": "website", "received_at": RECEIVED, **more})


def event_of(acceptance: Acceptance) -> dict[str, Any]:
    assert acceptance.rejections == []
    [accepted] = acceptance.events
    return stored.decode(accepted.data).event


def one(batch: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return event_of(take({**(batch or {}), "batch": [track(**fields)]}))


def error_of(body: Any, **more: Any) -> tuple[str, int]:
    with pytest.raises(BodyError) as caught:
        take(body, **more)
    return caught.value.code, caught.value.status


# -- what is accepted --------------------------------------------------------------------------------------------------


def test_an_accepted_event_is_stored_with_its_source_and_times() -> None:
    assert take({"batch": [track(anonymousId="a1")]}) == Acceptance(
        [
            AcceptedEvent(
                "a1",
                b'["website",{"type":"track","messageId":"m1","userId":"u1","event":"Signed Up","anonymousId":"a1",'
                b'"context":{},"properties":{},"receivedAt":"2026-11-24T17:00:00.123Z",'
                b'"timestamp":"2026-11-24T17:00:00.123Z"}]',
            )
        ]
    )


def test_the_order_key_of_a_known_user_is_the_user_id() -> None:
    assert [event.order_key for event in take({"batch": [track()]}).events] == ["u1"]


@pytest.mark.parametrize("type_", EVENT_TYPES)
def test_a_single_endpoint_says_the_type(type_: str) -> None:
    body = {"userId": "u", "event": "A", "groupId": "g", "previousId": "p", "type": "nonsense"}
    assert event_of(take(body, endpoint=type_))["type"] == type_


def test_a_body_that_is_already_decoded_is_taken() -> None:
    body = json.dumps(track()).encode()
    assert take(body, endpoint="track") == accept(
        decode(body), endpoint="track", source="website", received_at=RECEIVED
    )


def test_unknown_keys_and_every_value_are_kept_exactly() -> None:
    properties = {
        "big": 2**70,
        "safe": 2**53 + 1,
        "price": 0.1,
        "no": None,
        "text": "ä😀\u2028\0",
        "list": [1, [2, {}]],
    }
    event = one(properties=properties, channel="web", _metadata={"bundled": []})
    assert (properties, "web", {"bundled": []}) == (event["properties"], event["channel"], event["_metadata"])


def test_what_is_ours_cannot_be_sent() -> None:
    event = one(person_id="p", receivedAt="2001-01-01T00:00:00Z", writeKey="k")
    assert (RECEIVED_AT, set()) == (event["receivedAt"], event.keys() & {"person_id", "writeKey"})


def test_a_received_at_of_any_zone_is_utc() -> None:
    there = RECEIVED.astimezone(timezone(timedelta(hours=9)))
    assert event_of(take(track(), endpoint="track", received_at=there))["receivedAt"] == RECEIVED_AT


def test_context_and_integrations_of_the_batch_are_inherited() -> None:
    batch = {"context": {"app": {"name": "shop", "build": 7}, "locale": "de"}, "integrations": {"All": False}}
    event = one(batch, context={"app": {"name": "mine"}, "ip": "192.0.2.1"})
    assert event["context"] == {"app": {"name": "mine", "build": 7}, "locale": "de", "ip": "192.0.2.1"}
    assert event["integrations"] == {"All": False}


def test_an_events_own_integrations_win() -> None:
    event = one({"integrations": {"All": True, "CRM": False}}, integrations={"All": False})
    assert event["integrations"] == {"All": False, "CRM": False}


@pytest.mark.parametrize("shared", [None, [], "x", {}])
def test_a_batch_with_an_odd_context_harms_no_event(shared: Any) -> None:
    assert one({"context": shared, "integrations": shared})["context"] == {}


# -- times -------------------------------------------------------------------------------------------------------------


def times(event: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(event.get(name) for name in ("timestamp", "originalTimestamp", "sentAt"))


def test_a_clients_clock_is_corrected_by_the_time_of_sending() -> None:
    event = one(timestamp="2019-01-01T00:00:00Z", sentAt="2019-01-01T00:00:10.000Z")
    assert ("2026-11-24T16:59:50.123Z", "2019-01-01T00:00:00.000Z", "2019-01-01T00:00:10.000Z") == times(event)


@pytest.mark.parametrize("own", [{}, {"sentAt": None}, {"sentAt": ""}])
def test_sent_at_is_inherited_from_the_batch(own: Any) -> None:
    event = one({"sentAt": "2019-01-01T01:00:10+01:00"}, timestamp="2019-01-01T00:00:00Z", **own)
    assert ("2026-11-24T16:59:50.123Z", "2019-01-01T00:00:00.000Z", "2019-01-01T00:00:10.000Z") == times(event)


def test_an_events_own_sent_at_that_is_no_time_hides_not_the_batchs() -> None:
    odd = [track(timestamp="2019-01-01T00:00:00Z", sentAt=sent_at) for sent_at in ("soon", [1], "soon", True)]
    acceptance = take({"sentAt": "2019-01-01T00:00:10Z", "batch": odd})
    expected = ("2026-11-24T16:59:50.123Z", "2019-01-01T00:00:00.000Z", "2019-01-01T00:00:10.000Z")
    assert [times(stored.decode(event.data).event) for event in acceptance.events] == [expected] * 4


def test_each_events_own_sent_at_comes_before_the_batchs() -> None:
    events = [track(timestamp="2019-01-01T00:00:00Z", sentAt=f"2019-01-01T00:00:{s}Z") for s in ("10", "20", "10")]
    accepted = take({"sentAt": "2019-01-01T00:01:00Z", "batch": [*events, track(timestamp="2019-01-01T00:00:00Z")]})
    seconds = [stored.decode(event.data).event["timestamp"][14:19] for event in accepted.events]
    assert seconds == ["59:50", "59:40", "59:50", "59:00"]


def test_rudderstacks_original_timestamp_is_corrected_too() -> None:
    event = one(originalTimestamp="2019-01-01T00:00:00Z", sentAt="2019-01-01T00:00:10Z")
    assert ("2026-11-24T16:59:50.123Z", "2019-01-01T00:00:00.000Z", "2019-01-01T00:00:10.000Z") == times(event)


def test_a_timestamp_beside_the_original_is_kept() -> None:
    event = one(timestamp="2020-02-02T00:00:00+00:00", originalTimestamp="2019-01-01T00:00:00Z", sentAt="2019-01-01")
    assert ("2020-02-02T00:00:00.000Z", "2019-01-01T00:00:00.000Z", "2019-01-01T00:00:00.000Z") == times(event)


def test_without_sent_at_the_time_stays_as_it_is() -> None:
    assert ("2019-01-01T00:00:00.000Z",) * 2 + (None,) == times(one(timestamp="2019-01-01", sentAt=None))


def test_a_historical_import_is_not_corrected() -> None:
    body = {"sentAt": "2019-01-01T00:00:10Z", "batch": [track(timestamp="2011-01-01T00:00:00Z")]}
    event = event_of(take(body, endpoint="import"))
    assert ("2011-01-01T00:00:00.000Z", "2011-01-01T00:00:00.000Z", "2019-01-01T00:00:10.000Z") == times(event)


@pytest.mark.parametrize(("given", "kept"), [("yesterday", "yesterday"), (True, "true"), ({"$date": 1}, '{"$date":1}')])
def test_an_unreadable_time_is_kept_as_the_original(given: Any, kept: str) -> None:
    assert (RECEIVED_AT, kept, None) == times(one(timestamp=given))
    assert (RECEIVED_AT, kept, None) == times(one(originalTimestamp=given))
    assert ("2019-01-01T00:00:00.000Z", "2019-01-01T00:00:00.000Z", kept) == times(
        one(timestamp="2019-01-01", sentAt=given)
    )


@pytest.mark.parametrize("sent_at", ["x" * 1000, "soon", [1] * 1000, {}, True])
def test_an_unreadable_time_of_the_batch_is_not_inherited(sent_at: Any) -> None:
    assert "sentAt" not in one({"sentAt": sent_at})


@pytest.mark.parametrize("absent", [None, ""])
def test_absent_times_are_taken_out(absent: Any) -> None:
    event = one({"sentAt": absent}, timestamp=absent, originalTimestamp=absent, sentAt=absent)
    assert event.keys() & {"originalTimestamp", "sentAt"} == set()
    assert event["timestamp"] == RECEIVED_AT


def test_a_correction_beyond_the_calendar_is_not_made() -> None:
    assert one(timestamp="9999-01-01T00:00:00Z", sentAt="0001-01-01T00:00:00Z")["timestamp"] == RECEIVED_AT


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just([]), st.datetimes().map(str)))
def test_any_times_make_an_event_with_a_time(time: Any) -> None:
    event = one({"sentAt": time}, timestamp=time, originalTimestamp=time)
    assert datetime.fromisoformat(event["timestamp"]).tzinfo is UTC


# -- bad events --------------------------------------------------------------------------------------------------------


def test_a_bad_event_costs_its_neighbours_nothing() -> None:
    bad = {"type": "track", "messageId": "m2", "userId": "u2", "properties": {"a": 1}, "writeKey": "k"}
    acceptance = take({"batch": [track(messageId="m1"), bad, track(messageId="m3")]})
    assert ["m1", "m3"] == [stored.decode(event.data).message_id for event in acceptance.events]
    [rejection] = acceptance.rejections
    record = rejection.record
    assert record.id == rejection_id("website", record.code, record.message_id, record.payload)
    assert (1, "website", RECEIVED_AT, "event_not_defined", "m2") == (
        rejection.index,
        record.source,
        record.received_at,
        record.code,
        record.message_id,
    )
    assert record.message == "a track event needs `event`, its name"
    assert record.payload == '{"type":"track","messageId":"m2","userId":"u2","properties":{"a":1}}'
    assert acceptance.rejected == [record]


def rejection_of(event: Any, **limits: Any) -> tuple[str, str]:
    acceptance = take({"batch": [event, track()]}, limits=Limits(**limits))
    assert len(acceptance.events) == 1
    [record] = acceptance.rejected
    return record.code, record.payload


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ("x", "event_not_object"),
        (None, "event_not_object"),
        ([], "event_not_object"),
        ({"userId": "u"}, "type_required"),
        (track(type=None), "type_unknown"),
        (track(type=["track"]), "type_unknown"),
        (track(type="Track"), "type_unknown"),
        (track(userId=None), "no_user_anon_id"),
    ],
)
def test_each_fault_has_its_code(event: Any, code: str) -> None:
    assert rejection_of(event) == (code, json.dumps(event, separators=(",", ":")))


def test_an_event_may_be_as_large_as_the_limit_and_no_larger() -> None:
    event = track(properties={"text": ""})
    room = 1000 - len(msgspec.json.encode(event))
    event["properties"]["text"] = "x" * room
    assert len(take({"batch": [event]}, limits=Limits(max_event_bytes=1000)).events) == 1
    event["properties"]["text"] += "x"
    assert rejection_of(event, max_event_bytes=1000)[0] == "event_too_large"


def test_the_payload_of_a_refused_event_is_cut() -> None:
    (record,) = take({"batch": [track(properties={"text": "ä" * 20_000})]}).rejected
    assert ("event_too_large", True) == (record.code, 32_766 <= len(record.payload.encode()) <= 32_768)
    assert record.message == "the event is larger than 32768 bytes; of its payload the first 32768 bytes are kept"


def test_too_many_properties_are_refused() -> None:
    assert rejection_of(track(properties={"a": 1, "b": 2}), max_properties=1)[0] == "too_many_properties"


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_nesting_is_limited() -> None:
    assert one(properties={"deep": nested(98)})["properties"]["deep"] == nested(98)
    assert rejection_of(track(properties={"deep": nested(99)}))[0] == "event_too_deep"


def test_many_brackets_are_not_deep() -> None:
    properties = {"flat": [[]] * 500, "text": "{" * 500}
    assert one(properties=properties)["properties"] == properties


@pytest.mark.parametrize("field", ["properties", "timestamp", "sentAt", "junk"])
def test_endless_nesting_costs_its_neighbours_nothing(field: str) -> None:
    deep = '{"a":' * 20_000 + "1" + "}" * 20_000
    body = f'{{"batch":[{{"type":"track","userId":"u","event":"A","{field}":{deep}}},{json.dumps(track())}]}}'
    acceptance = take(body.encode())
    assert (1, ["event_too_deep"]) == (len(acceptance.events), [record.code for record in acceptance.rejected])


def test_a_nan_is_mended_and_counted() -> None:
    acceptance = take(b'{"batch":[{"type":"track","userId":"u","event":"A","properties":{"a":NaN,"b":1e400,"c":2}}]}')
    assert event_of(acceptance)["properties"] == {"a": None, "b": None, "c": 2}
    assert acceptance.mended == {"not_a_number": 1, "number_too_large": 1}


@pytest.mark.parametrize("text", [rb"\ud800", b"\xff", b"\xed\xa0\x80"])
def test_text_that_is_not_unicode_is_mended_and_counted(text: bytes) -> None:
    body = b'{"context":{"k":"%b"},"batch":[{"type":"track","userId":"u","event":"A%bB"}]}' % (text, text)
    acceptance = take(body)
    event = event_of(acceptance)
    assert {"\ufffd"} == set(event["event"][1:-1]) == set(event["context"]["k"])
    assert acceptance.mended == {"not_unicode": 2 if text == rb"\ud800" else 2 * len(text)}


def test_an_id_that_is_not_unicode_is_refused_and_its_neighbours_go_on() -> None:
    body = rb'{"batch":[{"type":"page","userId":"\ud800"},{"type":"page","userId":"u"}]}'
    acceptance = take(body)
    assert (["u"], ["id_not_text"]) == (
        [event.order_key for event in acceptance.events],
        [record.code for record in acceptance.rejected],
    )
    assert acceptance.rejected[0].payload == '{"type":"page","userId":"\ufffd"}'


# -- who sent it -------------------------------------------------------------------------------------------------------

BROWSER = Client("203.0.113.7", "Mozilla/5.0 (X11)")


def test_a_browsers_event_gets_the_address_and_the_user_agent_of_its_request() -> None:
    event = event_of(take({"batch": [track()], "context": {"locale": "de"}}, client=BROWSER))
    assert event["context"] == {"locale": "de", "ip": "203.0.113.7", "userAgent": "Mozilla/5.0 (X11)"}


def test_an_address_of_the_batchs_context_stays() -> None:
    event = event_of(take({"batch": [track()], "context": {"ip": "192.0.2.1"}}, client=BROWSER))
    assert event["context"]["ip"] == "192.0.2.1"


def test_a_servers_event_gets_neither() -> None:
    body = track(context={"library": {"name": "analytics-python"}})
    event = event_of(take(body, endpoint="track", client=Client("203.0.113.7", "analytics-python/2.3.3")))
    assert event["context"] == {"library": {"name": "analytics-python"}}


def test_the_address_is_no_part_of_what_a_client_may_send() -> None:
    event = track()
    limits = Limits(max_event_bytes=len(msgspec.json.encode(event)))
    assert len(take({"batch": [event]}, client=BROWSER, limits=limits).events) == 1


# -- scrubbing ---------------------------------------------------------------------------------------------------------


def test_an_event_is_scrubbed_before_it_is_stored() -> None:
    scrub = Scrub(remove=["context.ip", "traits.phone"], hashed=["userId"], query=["token"], salt="pepper")
    identify = {
        "type": "identify",
        "userId": 5,
        "traits": {"phone": "1", "name": "Ada"},
        "context": {"page": {"url": "https://x.org/?token=1"}},
    }
    [accepted] = take({"batch": [identify]}, scrub=scrub, client=BROWSER).events
    event = stored.decode(accepted.data).event
    hashed = scrub({"userId": "5"})["userId"]
    assert (hashed, hashed, {"name": "Ada"}) == (accepted.order_key, event["userId"], event["traits"])
    assert event["context"] == {"page": {"url": "https://x.org/"}, "userAgent": "Mozilla/5.0 (X11)"}


def test_traits_that_are_taken_from_the_context_are_scrubbed() -> None:
    body = {"type": "identify", "userId": "u", "context": {"traits": {"email": "a", "name": "b"}}}
    event = event_of(take({"batch": [body]}, scrub=Scrub(remove=["traits.email"])))
    assert (event["traits"], event["context"]) == ({"name": "b"}, {"traits": {"name": "b"}})


def test_the_batchs_context_is_scrubbed() -> None:
    event = event_of(take({"batch": [track()], "context": {"ip": "1.2.3.4"}}, scrub=Scrub(remove=["context.ip"])))
    assert event["context"] == {}


def test_a_refused_event_is_stored_scrubbed_or_not_at_all() -> None:
    bad = {"type": "track", "userId": "u", "traits": {"email": "a", "n": 1}, "properties": "a"}
    events = ["a@x.org", bad, track(properties={"deep": nested(99), "n": "a"}), track()]
    acceptance = take({"batch": events}, scrub=Scrub(remove=["traits.email", "properties.a"], query=["token"]))
    assert len(acceptance.events) == 1
    payloads = [record.payload for record in acceptance.rejected]
    assert payloads[:2] == ["", '{"type":"track","userId":"u","traits":{"n":1}}']


def test_an_event_that_is_too_deep_to_be_scrubbed_is_refused_without_a_trace() -> None:
    deep = '{"a":' * 900 + "1" + "}" * 900
    body = f'{{"batch":[{{"type":"track","userId":"u","event":"A","properties":{deep}}},{json.dumps(track())}]}}'
    acceptance = take(body.encode(), scrub=Scrub(query=["token"]))
    assert (1, ["event_too_deep"]) == (len(acceptance.events), [record.code for record in acceptance.rejected])


def test_a_time_that_is_none_is_not_stored_by_a_source_that_scrubs() -> None:
    scrub = Scrub(remove=["traits.email"])
    for name in ("timestamp", "originalTimestamp", "sentAt"):
        event = event_of(take({"batch": [track(**{name: "ada@x.org"})]}, scrub=scrub))
        assert (RECEIVED_AT, None, None) == times(event)
        (refused,) = take({"batch": [{"type": "track", name: "ada@x.org"}]}, scrub=scrub).rejected
        assert refused.payload == '{"type":"track"}'


def test_a_body_full_of_urls_takes_little_time_and_what_was_taken_out_is_counted() -> None:
    scrub = Scrub(query=["token"])
    events = [track(properties={"a": f"?{number:x}=%253D" * 4000}) for number in range(13)]
    start = time.process_time()
    small = take({"batch": events}, scrub=scrub)
    large = take(track(properties={"a": "?x=%253D" * 61_000}), endpoint="track", scrub=scrub)
    shared = take({"batch": [track()] * 100, "context": {"a": "?x=%253D" * 4000}}, scrub=scrub)
    assert time.process_time() - start < 0.5
    texts = [stored.decode(event.data).event["properties"]["a"] for event in small.events]
    assert (len(texts), dict(small.mended)) == (13, {"too_many_parameters": texts.count("")})
    assert ["event_too_large"] == [record.code for record in large.rejected]
    assert (100, {}) == (len(shared.events), dict(shared.mended))


# -- bad bodies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b'{"batch":[', "invalid_json"),
        ([], "body_not_object"),
        ("x", "body_not_object"),
        (None, "body_not_object"),
        ({}, "batch_not_array"),
        (track(), "batch_not_array"),
        ({"batch": {}}, "batch_not_array"),
        ({"batch": None}, "batch_not_array"),
        ({"batch": []}, "empty_batch"),
    ],
)
def test_a_body_that_is_wrong_as_a_whole_is_a_bad_request(body: Any, code: str) -> None:
    assert error_of(body) == (code, 400)


def test_too_many_events_are_too_large() -> None:
    assert error_of({"batch": [track()] * 3}, limits=Limits(max_batch_events=2)) == ("too_many_events", 413)


def test_a_shared_context_cannot_blow_a_batch_up() -> None:
    body = {"context": {"text": "x" * 1000}, "batch": [track()] * 9}
    assert error_of(body, limits=Limits(max_batch_bytes=1000)) == ("batch_context_too_large", 413)
    assert len(take(body, limits=Limits(max_batch_bytes=1200)).events) == 9


def test_a_shared_context_that_is_too_deep_fails_the_events_or_the_body() -> None:
    assert take({"context": {"a": nested(150)}, "batch": [track()]}).rejected[0].code == "event_too_deep"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.just("\ud800"),
    lambda parts: (
        st.lists(parts, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=4), parts, max_size=4)
    ),
    max_leaves=12,
)
some_fields = st.dictionaries(
    st.sampled_from(["type", "event", "userId", "messageId", "timestamp", "sentAt", "context", "properties", "traits"])
    | st.text(max_size=3),
    anything | st.sampled_from([*EVENT_TYPES, "", "2026-01-01"]),
)


@given(st.lists(some_fields | anything, min_size=1), some_fields, st.sampled_from(["batch", "import"]))
def test_every_event_of_any_batch_is_accepted_or_refused_and_no_good_one_is_lost(
    events: list[Any], batch: dict[str, Any], endpoint: str
) -> None:
    acceptance = take({**batch, "batch": [*events, track(messageId="good")]}, endpoint=endpoint)
    assert len(acceptance.events) + len(acceptance.rejections) == len(events) + 1
    assert stored.decode(acceptance.events[-1].data).message_id == "good"
    for accepted in acceptance.events:
        event = stored.decode(accepted.data).event
        assert event["type"] in EVENT_TYPES
        assert accepted.order_key == event.get("anonymousId") or event["userId"]
    for index, record in ((rejection.index, rejection.record) for rejection in acceptance.rejections):
        assert record.code
        assert index < len(events)
    msgspec.json.encode(acceptance.rejected)


odd_values = st.sampled_from(
    [rb'"\ud800"', b'"\xff"', b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"1" + b"0" * 5000]
)
exact_values = st.integers(2**63, 2**90) | st.integers(-(2**90), -(2**63))
places = st.sampled_from(
    [
        b'"properties":{"a":%b}',
        b'"context":{"a":[%b]}',
        b'"event":%b',
        b'"userId":%b',
        b'"timestamp":%b',
        rb'"\ud800":%b',
    ]
)


@given(st.lists(st.tuples(odd_values, places), min_size=1, max_size=4), exact_values)
def test_what_json_has_no_word_for_costs_at_most_its_own_event(odd: list[tuple[bytes, bytes]], exact: int) -> None:
    events = [b'{"type":"page","userId":"u",' + place.replace(b"%b", value) + b"}" for value, place in odd]
    good = track(properties={"exact": exact})
    acceptance = take(b'{"batch":[' + b",".join([*events, json.dumps(good).encode()]) + b"]}")
    assert len(acceptance.events) + len(acceptance.rejections) == len(odd) + 1
    assert stored.decode(acceptance.events[-1].data).event["properties"] == {"exact": exact}
    faulty = {rejection.index for rejection in acceptance.rejections}
    mended = sum(1 for index, (value, _) in enumerate(odd) if index not in faulty or b'"' not in value)
    assert sum(acceptance.mended.values()) >= mended > 0 or faulty == set(range(len(odd)))


secrets = st.sampled_from(["ada@x.org", "https://x.org/?token=ada@x.org&a=1", {"x": "ada@x.org"}, ["ada@x.org"]])


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["type", "userId", "event", "messageId"]), st.sampled_from(["track", "u", 5]))
        | st.builds(lambda secret: {"type": "identify", "userId": "u", "traits": {"a": secret}}, secrets)
        | st.builds(lambda secret: {"type": "identify", "traits": secret}, secrets)
        | st.builds(lambda secret: {"type": "page", "userId": "u", "context": {"traits": secret}}, secrets)
        | st.builds(lambda secret: {"type": "page", "userId": "u", "properties": {"b": [secret]}}, secrets)
        | st.builds(lambda secret: {"type": "page", "userId": 5, "properties": secret}, secrets)
        | st.sampled_from(["ada@x.org", ["ada@x.org"]])
    )
)
def test_nothing_that_is_to_be_scrubbed_is_in_anything_that_is_stored(events: list[Any]) -> None:
    acceptance = take({"batch": [*events, track()]}, scrub=Scrub(remove=["traits.*", "properties.*"]))
    assert b"ada@" not in b"".join(event.data for event in acceptance.events)
    assert "ada@" not in "".join(record.payload + record.message for record in acceptance.rejected)


@given(st.binary(), st.sampled_from(["batch", "import", *EVENT_TYPES]))
def test_any_bytes_are_accepted_or_refused(body: bytes, endpoint: str) -> None:
    try:
        take(body, endpoint=endpoint)
    except BodyError as error:
        assert error.status in (400, 413)
