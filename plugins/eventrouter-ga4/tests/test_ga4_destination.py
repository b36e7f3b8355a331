"""The whole plugin against a server that applies Google's rules."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from eventrouter.errors import Reject, Retry
from eventrouter.testing import Answer, DestinationContract, attempt, make_message
from eventrouter_ga4 import Ga4, register_destinations

OPTIONS = {"measurement_id": "G-ABC123", "api_secret": "s3cr3t-api-key", "allow_private": True}


class TestContract(DestinationContract):
    destination = Ga4
    success = Answer(204)

    def options(self, url):
        return {**OPTIONS, "url": url}


def ago(**delta) -> str:
    return (datetime.now(UTC) - timedelta(**delta)).isoformat().replace("+00:00", "Z")


async def send(google, messages, **options):
    destination = Ga4(Ga4.Options.model_validate({**OPTIONS, "url": google.url, **options}))
    try:
        return await attempt(destination, messages)
    finally:
        await destination.close()


async def test_events_of_one_visitor_share_a_request_and_keep_their_order(google):
    messages = [make_message(message_id=f"m{n}", event=f"Step {n}") for n in range(25)]
    assert set((await send(google, messages)).values()) == {None}
    (body,) = google.bodies
    assert [event["name"] for event in body["events"]] == [f"step_{n}" for n in range(25)]
    assert google.queries == [{"measurement_id": "G-ABC123", "api_secret": "s3cr3t-api-key"}]
    assert google.problems == []


async def test_visitors_and_users_are_not_mixed(google):
    messages = [
        make_message(message_id="1", anonymousId="a"),
        make_message(message_id="2", anonymousId="b"),
        make_message(message_id="3", anonymousId="a", userId="u"),
        make_message(message_id="4", anonymousId="a", userId="u"),
    ]
    await send(google, messages)
    assert len({body["client_id"] for body in google.bodies}) == 2
    assert sorted((body.get("user_id", ""), len(body["events"])) for body in google.bodies) == [
        ("", 1),
        ("", 1),
        ("u", 2),
    ]


async def test_the_same_event_is_told_the_same_way_again(google):
    message = make_message(timestamp=ago(hours=1))
    await send(google, [message])
    await send(google, [message])
    assert google.bodies[0] == google.bodies[1]


async def test_user_properties_ride_with_the_identify(google):
    message = make_message(type="identify", userId="u1", traits={"plan": "pro", "email": "a@example.com"})
    await send(google, [message])
    (body,) = google.bodies
    assert body["user_properties"] == {"plan": {"value": "pro"}}
    assert (body["user_id"], body["events"][0]["name"]) == ("u1", "identify")


async def test_consent_is_told(google):
    consent = {"categoryPreferences": {"advertising": False}}
    await send(google, [make_message(context={"consent": consent})], consent_category="advertising")
    assert google.bodies[0]["consent"] == {"ad_user_data": "DENIED", "ad_personalization": "DENIED"}


async def test_what_google_has_no_place_for_is_refused_alone(google):
    messages = [
        make_message(message_id="good"),
        make_message(message_id="old", timestamp=ago(hours=73)),
        make_message(message_id="alias", type="alias"),
        make_message({"text": "hello"}, message_id="map", type="alias"),
        make_message("text", message_id="text"),
        make_message(message_id="nameless", event=" "),
    ]
    outcomes = await send(google, messages)
    reasons = [outcome.reason if outcome else None for outcome in outcomes.values()]
    assert all(outcome is None or type(outcome) is Reject for outcome in outcomes.values())
    assert reasons[0] is None
    assert "older than 72 hours" in reasons[1]
    assert "knows no alias" in reasons[2]
    assert "use set and rename" in reasons[4]
    assert "without a name" in reasons[5]
    assert len(google.events) == 1


async def test_a_late_event_keeps_its_time_and_one_of_the_future_gets_googles(google):
    messages = [make_message(message_id="late", timestamp=ago(hours=71)), make_message(timestamp=ago(hours=-5))]
    await send(google, messages)
    late, future = google.events
    assert late["timestamp_micros"] == pytest.approx((time.time() - 71 * 3600) * 1e6, abs=5e6)
    assert "timestamp_micros" not in future
    assert google.problems == []


async def test_validation_refuses_the_event_that_google_objects_to_and_sends_the_others(google):
    google.refuse = {"bad_one"}
    messages = [make_message(message_id=name, event=name) for name in ("Good", "Bad One", "Fine")]
    outcomes = await send(google, messages, validate=True)
    good, bad, fine = outcomes.values()
    assert (good, fine) == (None, None)
    assert bad.reason == "Google's validation objects: Event at index: [0] has invalid name [bad_one]."
    assert [event["name"] for event in google.events] == ["good", "fine"]
    assert {body["validation_behavior"] for body in google.debug_bodies} == {"ENFORCE_RECOMMENDATIONS"}
    assert "validation_behavior" not in google.bodies[0]


async def test_validation_of_only_bad_events_sends_nothing(google):
    google.refuse = {"bad"}
    messages = [make_message(message_id=f"m{n}", event="Bad") for n in range(3)]
    outcomes = await send(google, messages, validate=True)
    assert {type(outcome) for outcome in outcomes.values()} == {Reject}
    assert google.bodies == []


async def test_without_validation_the_debug_server_is_left_alone(google):
    await send(google, [make_message()])
    assert google.debug_bodies == []


async def test_a_busy_google_is_a_retry_for_all_and_nothing_overtakes(google):
    google.status, google.headers = 503, {"Retry-After": "9"}
    messages = [make_message(message_id=f"m{n}", userId=f"u{n}") for n in range(3)]
    outcomes = await send(google, messages)
    assert [(type(outcome), outcome.after, outcome.everyone) for outcome in outcomes.values()] == [
        (Retry, 9.0, True)
    ] * 3


async def test_of_a_request_that_is_refused_only_the_event_at_fault_is(google):
    google.statuses = {"bad": 400}
    messages = [make_message(message_id=f"m{n}", event="Bad" if n == 3 else f"Step {n}") for n in range(6)]
    messages += [make_message(message_id="other", event="Other", anonymousId="other")]
    outcomes = await send(google, messages)
    assert [messages[3].id] == [key for key, outcome in outcomes.items() if outcome is not None]
    bad = outcomes[messages[3].id]
    assert (Reject, 400, "bad") == (type(bad), bad.status, bad.response)
    sent = [event["name"] for event in google.events]
    assert [f"step_{n}" for n in (0, 1, 2, 4, 5)] == [name for name in sent if name != "other"]
    assert sent.count("other") == 1
    assert google.problems == []


async def test_sent_one_by_one_nothing_overtakes_what_has_to_wait(google):
    google.statuses = {"bad": 400, "busy": 503}
    names = ["one", "bad", "busy", "two", *(f"step_{n}" for n in range(25))]
    messages = [make_message(message_id=f"m{n}", event=name) for n, name in enumerate(names)]
    outcomes = await send(google, messages)
    assert [None, Reject, *[Retry] * 27] == [outcome and type(outcome) for outcome in outcomes.values()]
    assert [event["name"] for event in google.events] == ["one"]


async def test_a_body_stays_below_130_kb(google):
    product = {f"long property of a product number {n}": "ü" * 200 for n in range(40)} | {"product_id": "p"}
    properties = {"products": [product] * 250, "currency": "EUR", "revenue": 5}
    plain = {f"property {n}": "ü" * 200 for n in range(40)}
    messages = [make_message(message_id="order", properties=properties, event="Order Completed")]
    messages += [make_message(message_id=f"m{n}", event="Long", properties=plain) for n in range(24)]
    assert set((await send(google, messages)).values()) == {None}
    assert google.problems == []
    order = google.events[0]["params"]
    assert (order["value"], order["currency"], order["transaction_id"]) == (5, "EUR", "order")
    assert len(order["items"]) > 5
    assert len(google.events) == 25


AWKWARD = """ga_x|_under|firebase_y|google z|gtag.a|error|Session Start|click|items|user_id|Order Completed|9 lives
Product Added|Promotion Viewed|session_id|currency|value|price|products|total|eur|EUR|name|product_id|quantity
12.5|1e9|nan|a@example.com|ﬁ|ǅ|İ|²|½ off|firebase_conversion|first_open_time|engagement_time_msec""".replace("\n", "|")
NAMES = st.sampled_from(AWKWARD.split("|")) | st.text(min_size=1, max_size=60)
TEXTS = st.sampled_from(AWKWARD.split("|")) | st.text(max_size=30) | st.text("aü😀\n", min_size=90, max_size=120)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = SCALARS | st.lists(SCALARS, max_size=5) | st.dictionaries(NAMES, SCALARS, max_size=5)
SMALL = st.dictionaries(NAMES, VALUES, min_size=1, max_size=8)
MANY = st.builds(
    lambda name, value, count, rest: {**{f"{name} {n}": value for n in range(count)}, **rest},
    *(NAMES, SCALARS, st.integers(10, 40), SMALL),
)
OBJECTS = SMALL | MANY
ITEMS = st.builds(lambda product, key: {**product, key: "p1"}, OBJECTS, st.sampled_from(["product_id", "sku", "name"]))
ORDERS = st.builds(
    lambda items, rest: {**rest, "products": items}, st.lists(ITEMS | OBJECTS | SCALARS, max_size=4), OBJECTS
)
STORE = st.sampled_from(["Order Completed", "Product Added", "Promotion Viewed", "Checkout Started", "Product Viewed"])
CONTEXT = st.fixed_dictionaries(
    {},
    optional={
        "page": st.dictionaries(st.sampled_from(["url", "title", "referrer"]), TEXTS | st.text("aü%&", min_size=900)),
        "ga": st.dictionaries(st.sampled_from(["clientId", "session_id", "_ga", "_ga_X"]), SCALARS),
        "consent": SMALL | st.dictionaries(st.sampled_from(["ad_user_data", "ad_personalization"]), SCALARS),
        "externalIds": VALUES,
    },
)
COMMON = {
    "userId": SCALARS | st.text("uü😀", min_size=250, max_size=260),
    "anonymousId": TEXTS,
    "timestamp": TEXTS | st.integers(-100, 100).map(lambda hours: ago(hours=hours)),
    "context": CONTEXT | VALUES,
    "integrations": VALUES | st.dictionaries(st.just("Google Analytics 4"), OBJECTS),
}


def events(kind, **fields):
    return st.fixed_dictionaries({"type": st.just(kind), **fields}, optional=COMMON)


EVENTS = st.one_of(
    events("track", event=NAMES, properties=OBJECTS | VALUES),
    events("track", event=STORE, properties=ORDERS | ITEMS),
    events("identify", traits=OBJECTS | VALUES),
    events("page", properties=OBJECTS | VALUES, name=VALUES),
    events("screen", properties=OBJECTS, name=VALUES),
    events("group", groupId=VALUES),
    events("alias"),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(sent=st.lists(EVENTS, min_size=1, max_size=6), personal=st.booleans())
def test_whatever_comes_nothing_breaks_googles_rules(shared_google, sent, personal):
    google = shared_google
    google.problems.clear()
    messages = [make_message(event, type=event["type"], message_id=f"m{n}") for n, event in enumerate(sent)]
    outcomes = asyncio.run(send(google, messages, personal=personal, currency="EUR" if personal else None))
    assert google.problems == []
    assert {type(outcome) for outcome in outcomes.values()} <= {type(None), Reject}


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"measurement_id": "UA-1234-5"}, "measurement_id"),
        ({"api_secret": ""}, "api_secret"),
        ({"url": "google.com"}, "url"),
        ({"currency": "euro"}, "currency"),
        ({"session_window": -1}, "session_window"),
        ({"check_events": True}, "check_events"),
    ],
)
def test_a_wrong_option_is_named_and_no_value_shown(wrong, where):
    with pytest.raises(ValidationError) as caught:
        Ga4.Options.model_validate({**OPTIONS, **wrong})
    assert where in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_the_window_of_a_session_is_a_duration():
    assert Ga4.Options.model_validate({**OPTIONS, "session_window": "30m"}).session_window == 1800


def test_shown_requests_mask_the_secret():
    destination = Ga4(Ga4.Options.model_validate(OPTIONS))
    (request,) = destination.requests([make_message()])
    assert request.url == ("https://www.google-analytics.com/mp/collect?measurement_id=G-ABC123&api_secret=**********")


def test_what_would_be_refused_shows_no_request_but_why():
    destination = Ga4(Ga4.Options.model_validate(OPTIONS))
    old = make_message(timestamp="2020-01-01T00:00:00.000Z")
    with pytest.raises(Reject, match="72 hours"):
        destination.requests([old])
    assert len(destination.requests([old, make_message()])) == 1


def test_the_plugin_registers_itself():
    assert register_destinations() == [Ga4]
