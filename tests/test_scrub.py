import copy
import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventrouter.scrub import Scrub, check_path
from eventrouter.values import MISSING


def digest(text: str) -> str:
    return hmac.new(b"pepper", text.encode(), hashlib.sha256).hexdigest()


def scrub(event: dict[str, Any], **options: Any) -> dict[str, Any]:
    before = copy.deepcopy(event)
    scrubbed = Scrub(**options, salt="pepper")(event)
    assert event == before
    return scrubbed


# -- what may be named -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["context.ip", "traits.*", "properties.*.email", 'context["a.b"]', "name", "extra"])
def test_any_field_may_be_removed_or_hashed(path: str) -> None:
    assert check_path(path, "remove") == check_path(path, "hash")


@pytest.mark.parametrize("path", ["userId", "anonymousId", "previousId", "groupId"])
def test_ids_may_be_hashed_and_not_removed(path: str) -> None:
    assert check_path(path, "hash") == (path,)
    with pytest.raises(ValueError, match="hash it instead"):
        check_path(path, "remove")


@pytest.mark.parametrize("path", ["*", "*.ip", "type", "event", "messageId", "timestamp", "context", "traits"])
@pytest.mark.parametrize("what", ["remove", "hash"])
def test_what_an_event_is_understood_by_stays(path: str, what: str) -> None:
    with pytest.raises(ValueError):
        check_path(path, what)


# -- events ------------------------------------------------------------------------------------------------------------


def test_fields_are_removed() -> None:
    event = {"name": "x", "context": {"ip": "1.2.3.4", "page": {"url": "u", "title": "t"}}, "properties": {"a": 1}}
    assert scrub(event, remove=["name", "context.ip", "context.page.title", "properties.b.c", "nothing"]) == {
        "context": {"page": {"url": "u"}},
        "properties": {"a": 1},
    }


def test_fields_in_each_item_of_a_list_are_removed() -> None:
    event = {"properties": {"people": [{"email": "a", "n": 1}, "b", [{"email": "c"}], None, {"n": 2}]}}
    assert scrub(event, remove=["properties.people.email"]) == {
        "properties": {"people": [{"n": 1}, "b", [{}], None, {"n": 2}]}
    }


def test_a_star_is_any_key_of_one_level() -> None:
    event = {"properties": {"a": {"email": 1, "b": {"email": 2}}, "c": [{"email": 3, "d": 4}], "email": 5}}
    assert scrub(event, remove=["properties.*.email"]) == {
        "properties": {"a": {"b": {"email": 2}}, "c": [{"d": 4}], "email": 5}
    }
    assert scrub(event, remove=["properties.*"]) == {"properties": {}}
    assert scrub({"context": {"traits": "Ada"}}, remove=["traits.*"]) == {"context": {}}
    assert scrub({"properties": {"a": "Ada"}}, remove=["properties.a.b", "properties.*.c"]) == {
        "properties": {"a": "Ada"}
    }


def test_fields_are_hashed_as_routes_hash_them() -> None:
    event = {"traits": {"email": "Ada@x.org ", "age": 36, "phone": None, "tags": ["a", "b"], "name": "Ada"}}
    assert scrub(event, hashed=["traits.email", "traits.age", "traits.phone", "traits.tags"]) == {
        "traits": {
            "email": digest("Ada@x.org "),
            "age": digest("36"),
            "phone": None,
            "tags": digest('["a","b"]'),
            "name": "Ada",
        }
    }


def test_nothing_is_hashed_twice() -> None:
    event = {"traits": {"email": "a", "name": "b"}}
    hashed = {"traits": {"email": digest("a"), "name": digest("b")}}
    assert scrub(event, hashed=["traits.email", "traits.*"]) == hashed
    assert scrub(event, hashed=["traits.*", "traits.email"]) == hashed
    whole = {"properties": {"user": {"id": 1}}}
    both = ["properties.user", "properties.user.id"]
    assert scrub(whole, hashed=both) == scrub(whole, hashed=both[::-1]) == {"properties": {"user": digest('{"id":1}')}}


@pytest.mark.parametrize("path", ["traits.email", "context.traits.email"])
def test_traits_are_those_of_the_context_too(path: str) -> None:
    event = {"traits": {"email": "a"}, "context": {"traits": {"email": "b", "name": "c"}}}
    assert scrub(event, remove=[path]) == {"traits": {}, "context": {"traits": {"name": "c"}}}


def test_a_hashed_user_is_the_same_in_every_type_of_event() -> None:
    options = {"hashed": ["userId"]}
    assert scrub({"type": "identify", "userId": "u"}, **options)["userId"] == digest("u")
    assert scrub({"type": "alias", "userId": "v", "previousId": "u"}, **options) == {
        "type": "alias",
        "userId": digest("v"),
        "previousId": digest("u"),
    }


def test_the_previous_id_is_hashed_like_what_it_is() -> None:
    alias = {"type": "alias", "userId": "u", "previousId": "a", "anonymousId": "a"}
    assert scrub(alias, hashed=["userId"])["previousId"] == "a"
    assert scrub(alias, hashed=["anonymousId"])["previousId"] == digest("a")
    assert scrub(alias, hashed=["userId", "anonymousId"])["previousId"] == digest("a")
    assert scrub(alias, hashed=["userId", "previousId"])["previousId"] == digest("a")
    assert scrub({**alias, "previousId": "b"}, hashed=["anonymousId"])["previousId"] == "b"


@pytest.mark.parametrize("nobody", ["null", "Anonymous", "0", "00000000-0000-0000-0000-000000000000", " ", None])
def test_an_id_that_is_nobodys_stays_one(nobody: Any) -> None:
    event = {"userId": nobody, "anonymousId": "a", "traits": {"name": nobody or "null"}}
    scrubbed = scrub(event, hashed=["userId", "anonymousId", "traits.name"])
    assert (scrubbed["userId"], scrubbed["anonymousId"]) == (nobody, digest("a"))
    assert scrubbed["traits"]["name"] == digest(nobody or "null")


def test_half_a_surrogate_pair_does_no_harm() -> None:
    event = {"traits": {"a": "\ud800", "b": ["\ud800"]}}
    assert [len(value) for value in scrub(event, hashed=["traits.*"])["traits"].values()] == [64, 64]


def test_query_parameters_go_from_each_text() -> None:
    url, kept = "https://x.org/?token=1&b=2", "https://x.org/?b=2"
    event = {
        "context": {"page": {"url": url, "search": "?token=1&b=2", "referrer": url}, "n": 5},
        "properties": {"links": [url, {"href": url}], "ok": "a=b"},
        "userId": "?token=1",
        "event": "?token=1",
    }
    assert scrub(event, query=["token"]) == {
        "context": {"page": {"url": kept, "search": "?b=2", "referrer": kept}, "n": 5},
        "properties": {"links": [kept, {"href": kept}], "ok": "a=b"},
        "userId": "?token=1",
        "event": "?token=1",
    }


def test_query_parameters_go_from_each_key() -> None:
    event = {
        "properties": {"https://x.org/?token=1": 1, "?a=1": {"%3Ftoken%3D1": "?token=2"}},
        "?token=3": [{"?b=1": 2}],
    }
    assert scrub(event, query=["token"]) == {
        "properties": {"https://x.org/": 1, "?a=1": {"": ""}},
        "": [{"?b=1": 2}],
    }


def test_a_hashed_url_is_cleaned_before() -> None:
    event = {"properties": {"url": "https://x.org/?token=1"}}
    assert scrub(event, hashed=["properties.url"], query=["token"]) == {"properties": {"url": digest("https://x.org/")}}


def test_what_holds_nothing_of_it_is_the_very_same() -> None:
    event = {"context": {"page": {"url": "https://x.org/?b=2"}}, "properties": {"people": "none"}}
    assert Scrub(remove=["context.ip", "properties.people.email"], hashed=["userId"], query=["token"])(event) is event


# -- refused events ----------------------------------------------------------------------------------------------------


def test_a_refused_event_is_scrubbed_like_others() -> None:
    raw = {"traits": {"email": "a", "phone": "1"}, "userId": 5, "previousId": "p", "url": "?token=1&b=2"}
    made = Scrub(remove=["traits.phone"], hashed=["traits.email", "userId"], query=["token"], salt="pepper")
    assert made.refused(raw) == {
        "traits": {"email": digest("a")},
        "userId": digest("5"),
        "previousId": digest("p"),
        "url": "?b=2",
    }


@pytest.mark.parametrize("traits", ['{"email": "a"}', "a", 5, True, ["a", 5]])
def test_what_cannot_be_scrubbed_of_a_refused_event_is_taken_out(traits: Any) -> None:
    kept = Scrub(remove=["traits.email"]).refused({"traits": traits, "userId": "u", "context": None})
    assert kept == {"userId": "u", "context": None, **({"traits": []} if type(traits) is list else {})}


def test_a_time_that_is_none_is_taken_out_of_a_refused_event() -> None:
    raw = {"timestamp": "2019-01-01", "originalTimestamp": "ada@x.org", "sentAt": ["a"], "receivedAt": 5}
    assert Scrub(query=["token"]).refused(raw) == {"timestamp": "2019-01-01", "receivedAt": 5}


@pytest.mark.parametrize("raw", ["ada@x.org", ["a"], 5, None])
def test_nothing_of_what_is_no_event_is_kept(raw: Any) -> None:
    assert Scrub(query=["token"]).refused(raw) is MISSING


def test_nothing_of_endless_nesting_is_kept() -> None:
    deep: Any = "?token=1"
    for _ in range(100_000):
        deep = [deep]
    assert Scrub(query=["token"]).refused({"properties": deep}) is MISSING
    with pytest.raises(RecursionError):
        Scrub(query=["token"])({"properties": deep})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just("secret-5") | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "traits", "context"]), values))
def test_nothing_that_was_to_go_is_in_a_refused_event(raw: dict[str, Any]) -> None:
    kept = Scrub(remove=["a.b.c", "traits.*", "c.*.a", "b"]).refused(raw)
    for path in [("a", "b", "c"), ("traits", "*"), ("context", "traits", "*"), ("c", "*", "a"), ("b",)]:
        assert _only_empty(kept, path)


def _only_empty(value: Any, path: tuple[str, ...]) -> bool:
    """Whether the path leads to nothing but nulls."""
    if type(value) is list:
        return all(_only_empty(item, path) for item in value)
    if type(value) is dict and path:
        keys = list(value) if path[0] == "*" else [path[0]]
        return all(_only_empty(value[key], path[1:]) for key in keys if key in value)
    return value is None
