"""Names, values and counts, made to fit."""

import time

import pytest

from eventrouter_ga4 import limits


@pytest.mark.parametrize(
    ("ours", "googles"),
    [
        ("Article Bookmarked", "article_bookmarked"),
        ("camelCase123Key", "camel_case123_key"),
        ("HTTPError", "http_error"),
        ("Заказ оформлен", "заказ_оформлен"),
        ("  -- spaced -- ", "spaced"),
        ("2fa enabled", "event_2fa_enabled"),
        ("Error", "event_error"),
        ("Session Start", "event_session_start"),
        ("ga_custom", "event_ga_custom"),
        ("Google Login", "event_google_login"),
        ("_private", "private"),
        ("", "event"),
        ("!!!", "event"),
        ("x" * 50, "x" * 40),
        ("a" * 39 + " b", "a" * 39),
    ],
)
def test_an_event_name_keeps_the_rules(ours, googles):
    assert limits.event_name(ours) == googles


def test_names_of_parameters_and_user_properties_have_rules_of_their_own():
    assert limits.param_name("firebase_conversion") == "param_firebase_conversion"
    assert limits.param_name("error") == "error"
    assert limits.user_property_name("userId") == "trait_user_id"
    assert limits.user_property_name("a very long name of a trait") == "a_very_long_name_of_a_tr"


def test_length_is_counted_as_java_does():
    assert limits.length("a😀") == 3
    assert limits.cut("😀😀", 3) == "😀"
    assert limits.cut("a\ud800b", 5) == "ab"


@pytest.mark.parametrize(
    ("ours", "googles"),
    [
        (None, None),
        (True, "true"),
        (False, "false"),
        (3, 3),
        (2**53, "9007199254740992"),
        (1.5, 1.5),
        ("", None),
        ("  ", None),
        ("x" * 101, "x" * 100),
        ([], None),
        ({}, None),
        (["a", 1, None, True], "a,1,true"),
        ([{"a": 1}], '[{"a":1}]'),
        ("write to joe.doe@example.co.uk!", "write to (redacted)!"),
    ],
)
def test_a_value_becomes_a_number_or_a_short_text(ours, googles):
    assert limits.scalar(ours) == googles


def test_e_mail_addresses_are_kept_only_where_asked_for():
    assert limits.scalar("joe@example.com", personal=True) == "joe@example.com"
    assert limits.url_value("https://a.example/?e=joe%40example.com&x=1", 1000) == "https://a.example/?e=(redacted)&x=1"


def test_an_address_is_counted_escaped_and_not_cut_within_an_escape():
    assert limits.url_value("https://a.example/ü", 1000) == "https://a.example/%C3%BC"
    assert limits.url_value("https://a.example/ü", 20) == "https://a.example/"


@pytest.mark.parametrize(("ours", "googles"), [("12.50", 12.5), ("12", 12), (7, 7), (7.0, 7)])
def test_a_number_may_come_as_text(ours, googles):
    assert limits.number(ours) == googles


@pytest.mark.parametrize("value", ["x", "nan", "inf", "1e400", True, None, 10**400, [1], {}])
def test_what_is_no_finite_number_is_none(value):
    assert limits.number(value) is None


def test_nested_objects_are_drawn_up():
    assert dict(limits.flat({"a": {"b": 1, "c": {"d": 2}}, "e": [3]})) == {"a_b": 1, "a_c_d": 2, "e": [3]}


def test_long_texts_cost_little_time():
    started = time.perf_counter()
    for text in ("a" * 32_000, "a@" * 16_000, "a." * 16_000, "%40" * 10_000, "a@b" + ".c" * 16_000):
        limits.scalar(text)
        limits.url_value(text, 1000)
        limits.event_name(text)
    assert time.perf_counter() - started < 1
