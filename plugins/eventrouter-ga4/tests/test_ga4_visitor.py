"""Whose event it is."""

import pytest

from eventrouter_ga4 import visitor


@pytest.mark.parametrize(
    "event",
    [
        {"integrations": {"Google Analytics 4": {"clientId": "12.34"}}},
        {"integrations": {"GA4": {"client_id": "12.34"}}},
        {"integrations": {"Google Analytics 4": {"_ga": "GA1.1.12.34"}}},
        {"context": {"ga": {"clientId": "12.34"}}},
        {"context": {"cookies": {"_ga": "GA1.2.12.34"}}},
        {"context": {"externalIds": [{"type": "other", "id": "9"}, {"type": "ga_client_id", "id": "12.34"}]}},
    ],
)
def test_googles_own_client_id_is_found(event):
    assert visitor.client_id({"anonymousId": "a", **event}, "k") == "12.34"


def test_else_the_client_id_is_made_of_the_events_ids_always_the_same():
    made = visitor.client_id({"anonymousId": "a", "userId": "u"}, "k")
    assert made == visitor.client_id({"anonymousId": "a", "context": None, "integrations": {"All": True}}, "x")
    assert made == "1090035257.1533428271"
    assert len({made, visitor.client_id({"userId": "u"}, "k"), visitor.client_id({}, "k")}) == 3


@pytest.mark.parametrize(
    "event",
    [
        {"integrations": {"Google Analytics 4": {"sessionId": 1746825440}}},
        {"context": {"sessionId": 1746825440}},
        {"context": {"cookies": {"_ga_ABC": "GS2.1.s1746825440$o2$g1"}}},
        {"context": {"cookies": {"_ga_ABC": "GS1.1.1746825440.2.1"}}},
        {"properties": {"session_id": "1746825440"}},
    ],
)
def test_googles_own_session_id_is_found(event):
    assert visitor.session_id(event, 0, 1800) == "1746825440"


def test_else_the_session_is_the_window_of_time_that_the_event_falls_in():
    assert visitor.session_id({}, 1746825440, 1800) == "1746824400"
    assert visitor.session_id({"context": {"sessionId": "a1"}}, 1746826199, 1800) == "1746824400"
    assert visitor.session_id({}, 1746826200, 1800) == "1746826200"
    assert visitor.session_id({}, 1746825440, 0) is None


def test_a_user_id_that_google_forbids_is_left_out():
    assert visitor.user_id({"userId": "u1"}, personal=False) == "u1"
    assert visitor.user_id({"userId": 7}, personal=False) == "7"
    assert visitor.user_id({"userId": "joe@example.com"}, personal=False) is None
    assert visitor.user_id({"userId": "joe@example.com"}, personal=True) == "joe@example.com"
    assert visitor.user_id({"userId": "x" * 257}, personal=False) is None
    assert visitor.user_id({}, personal=False) is None


def test_traits_become_user_properties_without_what_names_a_person():
    traits = {
        "plan": "pro",
        "firstName": "Joe",
        "email": "joe@example.com",
        "address": {"city": "Rome"},
        "company": {"name": "Acme", "contact": "ann@example.com", "size": 12},
        "beta": True,
        "about": "x" * 50,
    }
    assert visitor.user_properties(traits, personal=False) == {
        "plan": {"value": "pro"},
        "company_name": {"value": "Acme"},
        "company_size": {"value": 12},
        "beta": {"value": "true"},
        "about": {"value": "x" * 36},
    }
    assert visitor.user_properties(traits, personal=True)["email"] == {"value": "joe@example.com"}
    assert visitor.user_properties("pro", personal=False) == {}
    assert len(visitor.user_properties({f"t{n}": n for n in range(40)}, personal=False)) == 25


def test_consent_is_told_where_it_is_known():
    def consent(given, category=None):
        return visitor.consent({"context": {"consent": given}}, category)

    both = {"ad_user_data": "GRANTED", "ad_personalization": "GRANTED"}
    assert consent({"categoryPreferences": {"ads": True}}) == {}
    assert consent({"categoryPreferences": {"ads": True}}, "ads") == both
    assert consent({"ad_user_data": "granted", "ad_personalization": True}) == both
    assert consent({"categoryPreferences": {"ads": True, "ad_user_data": False}}, "ads") == {
        "ad_user_data": "DENIED",
        "ad_personalization": "GRANTED",
    }
    assert visitor.consent({}, "ads") == {}
