"""One message as one event of Google's."""

import pytest

from eventrouter.errors import Reject
from eventrouter.testing import make_message
from eventrouter_ga4.hits import Rules, hit

NOW = 1_764_000_000.0
TIME = {"timestamp": "2025-11-24T15:59:00.500Z"}


def event(rules=None, **fields):
    return hit(make_message(**TIME, **fields), rules or Rules(), NOW).event


def test_a_page_is_a_page_view_with_its_place():
    properties = {
        "url": "https://a.example/x?utm_source=n",
        "title": "X",
        "referrer": "https://b.example/",
        "path": "/x",
    }
    assert event(type="page", name="Home", properties=properties | {"author": "Ann"}) == {
        "name": "page_view",
        "params": {
            "engagement_time_msec": 1,
            "session_id": "1763998200",
            "page_location": "https://a.example/x?utm_source=n",
            "page_referrer": "https://b.example/",
            "page_title": "X",
            "page_name": "Home",
            "author": "Ann",
        },
        "timestamp_micros": 1763999940500000,
    }


def test_a_screen_is_a_screen_view():
    params = event(type="screen", name="Start", properties={"variant": "b"})["params"]
    assert (params["screen_name"], params["variant"]) == ("Start", "b")
    assert event(type="screen", name="Start")["name"] == "screen_view"


def test_a_track_event_tells_its_properties_and_where_it_happened():
    made = event(
        event="Article Read",
        properties={"pages": 3, "value": 5, "tags": ["a", "b"], "author": {"name": "Ann"}, "items": [1], "none": None},
        context={"page": {"url": "https://a.example/"}},
    )
    assert made["name"] == "article_read"
    assert made["params"] == {
        "engagement_time_msec": 1,
        "session_id": "1763998200",
        "page_location": "https://a.example/",
        "pages": 3,
        "value": 5,
        "tags": "a,b",
        "author_name": "Ann",
        "param_items": "1",
    }


def test_googles_parameters_come_before_the_25th():
    properties = {f"p{n}": n for n in range(40)} | {"order_id": "o", "currency": "EUR", "total": 1}
    params = event(event="Order Completed", properties=properties)["params"]
    assert len(params) == 25
    assert (params["transaction_id"], params["value"]) == ("o", 1)


def test_a_purchase_without_an_order_id_has_the_events():
    assert event(event="Order Completed", properties={}, message_id="m7")["params"]["transaction_id"] == "m7"


def test_an_identify_is_an_event_by_the_name_that_the_options_give():
    rules = Rules(identify_event="Profile Updated")
    assert event(rules, type="identify", traits={"plan": "pro"})["name"] == "profile_updated"


def test_a_group_is_joined():
    made = event(type="group", groupId="g1", traits={"name": "Acme"})
    assert (made["name"], made["params"]["group_id"]) == ("join_group", "g1")


def test_a_known_engagement_time_is_told():
    assert event(event="Read", properties={"engagement_time_msec": 4200})["params"]["engagement_time_msec"] == 4200


def test_a_time_that_cannot_be_read_is_the_messages():
    message = make_message({"type": "track", "event": "X", "timestamp": "yesterday"}, **TIME)
    assert hit(message, Rules(), NOW).event["timestamp_micros"] == 1763999940500000


def test_what_is_older_than_72_hours_is_refused():
    with pytest.raises(Reject, match="older than 72 hours"):
        hit(make_message(**TIME), Rules(), NOW + 73 * 3600)
