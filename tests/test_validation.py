from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventrouter.events import EVENT_TYPES
from eventrouter.validation import EventFault, message_id_of, normalize

LIMIT = 10_000


def track(**fields: Any) -> dict[str, Any]:
    return {"type": "track", "messageId": "m1", "userId": "u1", "event": "Signed Up"} | fields


def fault_of(event: dict[str, Any], limit: int = LIMIT) -> str:
    with pytest.raises(EventFault) as caught:
        normalize(event, limit)
    return caught.value.code


@pytest.mark.parametrize(
    ("type_", "given", "expected"),
    [
        ("track", {"event": "A"}, {"event": "A", "properties": {}}),
        ("page", {}, {"properties": {}}),
        ("screen", {"name": None, "category": "c"}, {"name": None, "category": "c", "properties": {}}),
        ("identify", {}, {"traits": {}}),
        ("group", {"groupId": "g"}, {"groupId": "g", "traits": {}}),
        ("alias", {"previousId": "p"}, {"previousId": "p"}),
    ],
)
def test_each_type_gets_the_objects_of_its_spec(type_: str, given: Any, expected: Any) -> None:
    event = {"type": type_, "messageId": "m", "userId": "u", **given}
    normalize(event, LIMIT)
    assert event == {"type": type_, "messageId": "m", "userId": "u", "context": {}, **expected}


@pytest.mark.parametrize("type_", ["page", "screen", "identify", "group", "alias"])
@pytest.mark.parametrize("odd", [5, True, ["x"], {"a": 1}, None])
def test_what_its_type_does_not_know_is_taken_as_it_is(type_: str, odd: Any) -> None:
    fields = {"event": odd} if type_ in ("page", "screen") else {"event": odd, "name": odd, "category": odd}
    event = {"type": type_, "messageId": "m", "userId": "u", "groupId": "g", "previousId": "p", **fields}
    normalize(event, LIMIT)
    assert fields == {name: event[name] for name in fields}


@pytest.mark.parametrize("absent", [None, "", " \t"])
@pytest.mark.parametrize("name", ["userId", "anonymousId"])
def test_a_blank_id_is_taken_out(absent: Any, name: str) -> None:
    event = {"type": "page", "messageId": "m", "userId": "u", "anonymousId": "a", name: absent}
    normalize(event, LIMIT)
    assert name not in event


@pytest.mark.parametrize("absent", [{}, {"userId": None}, {"userId": "", "anonymousId": None}, {"anonymousId": "  "}])
def test_an_event_of_nobody_is_refused(absent: Any) -> None:
    assert fault_of({"type": "page", **absent}) == "no_user_anon_id"


@pytest.mark.parametrize(
    ("number", "text"),
    [(42, "42"), (2**70, str(2**70)), (1.5, "1.5"), (0, "0"), (42.0, "42"), (1e20, "1" + "0" * 20), (-0.0, "0")],
)
def test_numeric_ids_become_strings(number: float, text: str) -> None:
    event = {"type": "alias", "messageId": number, "userId": number, "anonymousId": number, "previousId": number}
    normalize(event, LIMIT)
    assert {text} == {event[name] for name in ("messageId", "userId", "anonymousId", "previousId")}


@pytest.mark.parametrize("value", [True, [], {}, ["a"]])
@pytest.mark.parametrize("name", ["userId", "anonymousId"])
def test_other_ids_are_refused(value: Any, name: str) -> None:
    assert fault_of(track(**{name: value})) == "id_not_string"


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
@pytest.mark.parametrize(("name", "code"), [("userId", "id_not_text"), ("messageId", "message_id_not_text")])
def test_ids_that_no_database_can_hold_are_refused(value: str, name: str, code: str) -> None:
    assert fault_of(track(**{name: value})) == code


def test_ids_of_any_script_are_kept_up_to_the_limit() -> None:
    event = track(userId="ä" * 512, anonymousId="日本 語\u2003x", messageId="é" * 100)
    normalize(event, LIMIT)
    assert ("ä" * 512, "日本 語\u2003x", "é" * 100) == (event["userId"], event["anonymousId"], event["messageId"])
    assert fault_of(track(userId="ä" * 513)) == "id_too_long"


@pytest.mark.parametrize("absent", [None, "", "  "])
def test_a_missing_message_id_is_made_up(absent: Any) -> None:
    first, second = track(messageId=absent), track(messageId=absent)
    normalize(first, LIMIT)
    normalize(second, LIMIT)
    assert UUID(first["messageId"]) != UUID(second["messageId"])


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"messageId": "x" * 101}, "message_id_too_long"),
        ({"messageId": {}}, "message_id_not_string"),
        ({"event": None}, "event_not_defined"),
        ({"event": ""}, "event_not_defined"),
        ({"event": " "}, "event_not_defined"),
        ({"event": 7}, "event_not_string"),
        ({"event": {}}, "event_not_string"),
        ({"properties": "x"}, "properties_not_object"),
        ({"properties": ["x"]}, "properties_not_object"),
        ({"traits": 1}, "traits_not_object"),
        ({"context": "x"}, "context_not_object"),
        ({"integrations": True}, "integrations_not_object"),
        ({"type": "page", "name": 1}, "name_not_string"),
        ({"type": "screen", "category": []}, "category_not_string"),
        ({"type": "identify", "traits": "x"}, "traits_not_object"),
        ({"type": "identify", "context": {"traits": "x"}}, "traits_not_object"),
        ({"type": "group"}, "id_required"),
        ({"type": "group", "groupId": ""}, "id_required"),
        ({"type": "group", "groupId": {}}, "id_not_string"),
        ({"type": "alias"}, "id_required"),
        ({"type": "alias", "previousId": "p", "userId": None, "anonymousId": "a"}, "id_required"),
    ],
)
def test_a_faulty_event_is_refused_with_its_code(fields: dict[str, Any], code: str) -> None:
    assert fault_of(track(**fields)) == code


def test_a_track_event_without_a_name_is_refused() -> None:
    assert fault_of({"type": "track", "userId": "u"}) == "event_not_defined"


@pytest.mark.parametrize("name", ["properties", "traits", "context", "integrations"])
@pytest.mark.parametrize("empty", [None, []])
def test_an_empty_array_or_null_is_an_empty_object(name: str, empty: Any) -> None:
    event = track(**{name: empty})
    normalize(event, LIMIT)
    assert event[name] == {}


def test_a_users_traits_may_come_in_the_context_only() -> None:
    event = {"type": "identify", "messageId": "m", "userId": "u", "context": {"traits": {"email": "a@example.com"}}}
    normalize(event, LIMIT)
    assert ({"email": "a@example.com"},) * 2 == (event["traits"], event["context"]["traits"])


def test_own_traits_come_before_those_of_the_context() -> None:
    event = {"type": "identify", "userId": "u", "traits": {"a": 1}, "context": {"traits": {"b": 2}}}
    normalize(event, LIMIT)
    assert event["traits"] == {"a": 1}


@pytest.mark.parametrize("name", ["properties", "traits"])
def test_too_many_keys_are_refused(name: str) -> None:
    assert fault_of(track(**{name: {"a": 1, "b": 2, "c": 3}}), limit=2) == f"too_many_{name}"
    normalize(track(**{name: {"a": 1, "b": 2}}), 2)


def test_a_message_never_repeats_a_value() -> None:
    with pytest.raises(EventFault) as caught:
        normalize(track(properties="s3cret"), LIMIT)
    assert str(caught.value) == "`properties` is a string; it has to be an object"


@pytest.mark.parametrize(
    ("event", "expected"),
    [({"messageId": "m"}, "m"), ({"messageId": 5}, "5")]
    + [(event, None) for event in ({}, {"messageId": None}, {"messageId": {}}, {"messageId": "x" * 101}, 7, None, [])],
)
def test_message_id_of_takes_anything(event: Any, expected: str | None) -> None:
    assert message_id_of(event) == expected


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.just("")
    | st.just("\ud800"),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=3), parts, max_size=3),
    max_leaves=6,
)
names = ("messageId", "userId", "anonymousId", "groupId", "previousId", "event", "name", "category")
objects = ("properties", "traits", "context", "integrations")


@given(st.sampled_from(EVENT_TYPES), st.dictionaries(st.sampled_from(names + objects), anything))
def test_any_event_is_made_uniform_or_refused(type_: str, fields: dict[str, Any]) -> None:
    event = {"type": type_, **fields}
    try:
        normalize(event, LIMIT)
    except EventFault:
        return
    assert event["messageId"]
    assert event.get("userId") or event.get("anonymousId")
    assert all(isinstance(event[name], str) for name in ("messageId", "userId", "anonymousId") if name in event)
    assert all(isinstance(event[name], dict) for name in objects if name in event)
