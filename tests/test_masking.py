"""masking.py: what of options is secret, and no text shows any of it, whole or in part."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, SecretBytes, SecretStr

from eventrouter.masking import MASK, Mask, _Found, forms, secrets_of
from eventrouter.options import Options


class Anything(Options):
    value: Any = None


def found(value: Any = None, *, variables: tuple[str, ...] = ()) -> set[str]:
    """The secrets as they are written, without their other forms."""
    options = Anything(value=value)
    options.note_variables(variables)
    every = secrets_of(options)
    looked = _Found()
    looked.look(options)
    assert set(every) == {form for secret in looked.all() for form in forms(secret)}
    return looked.all()


class Inner(BaseModel):
    key: SecretStr


@pytest.mark.parametrize(
    "value",
    [
        SecretStr("s3cr3t-1"),
        SecretBytes(b"s3cr3t-1"),
        {"a": SecretStr("s3cr3t-1")},
        [(SecretStr("s3cr3t-1"),)],
        {SecretStr("s3cr3t-1")},
        frozenset({SecretStr("s3cr3t-1")}),
        Inner(key="s3cr3t-1"),
        [{"a": {"b": Inner(key="s3cr3t-1")}}],
    ],
)
def test_a_declared_secret_is_found_at_any_depth(value):
    assert {"s3cr3t-1"} == found(value)


def test_what_is_too_short_or_no_secret_is_not_one():
    assert set() == found(
        [SecretStr("short"), SecretStr(""), "not-a-secret", 12345678, None, True, Path("/etc/passwd")]
    )


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Token", "Api-Key"])
def test_of_credentials_with_a_scheme_the_credentials_alone_are_secret_too(scheme):
    assert {f"{scheme} abc.def-1", "abc.def-1"} == found(SecretStr(f"{scheme} abc.def-1"))


def test_of_basic_credentials_the_password_is_secret_too():
    encoded = base64.b64encode(b"anna:pa55word").decode()
    assert {f"Basic {encoded}", encoded, "pa55word"} == found(SecretStr(f"Basic {encoded}"))


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("https://api.acme.example", set()),
        ("https://api.acme.example/v1/events/track_event?source=web", set()),
        ("https://hooks.example/services/T0/B0/aB3dE5gH7jK9", {"aB3dE5gH7jK9"}),
        ("https://a.example/x?key=k3y-of-mine&on=1", {"k3y-of-mine"}),
        ("https://a.example/x?key=k%2Fy-of-mine", {"k/y-of-mine"}),
        ("https://a.example/x?key=abc123&api_key=letters&page=letters&code=short", {"abc123", "letters"}),
        ("https://anna:pa%2F55word@a.example/", {"anna:pa%2F55word", "pa%2F55word", "pa/55word"}),
        ("https://sk_live@a.example/", {"sk_live"}),
        ("postgresql://anna:pa55word@db.example/warehouse2026", {"anna:pa55word", "pa55word"}),
        ("https://[broken", set()),
        ("no address", set()),
    ],
)
def test_an_address_holds_secrets_where_it_looks_so(url, secrets):
    every = set(secrets_of(Anything(value=url)))
    assert secrets == found(url)
    assert secrets <= every


def test_an_address_as_pydantic_keeps_it_is_one_too():
    assert {"aB3dE5gH7jK9"} == found(AnyUrl("https://hooks.example/aB3dE5gH7jK9"))


def test_of_a_secret_address_all_that_follows_the_host_is_secret():
    url = "https://hooks.example/services/T0/B0/SECRET"
    assert {url, "/services/T0/B0/SECRET"} == found(SecretStr(url))
    assert {"/services/T0/B0/SECRET"} == found(url, variables=(url,))
    assert "cannot POST **********" == Mask(secrets_of(Anything(value=SecretStr(url))))("cannot POST " + url[21:])


def test_what_came_from_a_variable_is_secret_when_it_is_long_enough():
    assert {"anything-long"} == found("x anything-long", variables=("anything-long", "short", "7-chars"))


def test_a_host_and_a_file_from_a_variable_are_no_secrets():
    options = ["https://api.acme.example:8443/hook", Path("/data/geo/GeoLite2-City.mmdb")]
    variables = ("api.acme.example", "api.acme.example:8443", "/data/geo", "GeoLite2-City.mmdb")
    assert set() == found(options, variables=variables)


@pytest.mark.parametrize(
    "written",
    [
        json.dumps,
        repr,
        lambda secret: json.dumps(secret, ensure_ascii=False),
        lambda secret: "a=" + secret.replace("&", "&amp;").replace('"', "&quot;"),
        lambda secret: "?key=a%26b%22c%2Fd+%C3%A9f",
        lambda secret: "?key=a%26b%22c%2fd%20%c3%a9f",
        lambda secret: "/a%26b%22c/d%20%C3%A9f",
    ],
)
def test_a_secret_is_found_in_the_forms_in_which_it_is_sent_back(written):
    secret = 'a&b"c/d éf'
    text = Mask(secrets_of(SecretStr(secret)))(f"refused: {written(secret)}.")
    assert (True, False) == (MASK in text, "c/d" in text or "c%2" in text)


@pytest.mark.parametrize(
    "made",
    [
        lambda secret: f"{secret.upper()} {secret.lower()} {secret.title()} {secret.capitalize()}",
        lambda secret: json.dumps(json.dumps([secret])),
        lambda secret: json.dumps(json.dumps([secret], ensure_ascii=False).upper(), ensure_ascii=False),
        lambda secret: quote(quote(secret, ""), ""),
        lambda secret: quote(secret.upper(), ""),
    ],
)
def test_what_templates_make_of_a_secret_is_found_too(made):
    secret = 'Tok"en-&a/b-é9xYz'
    text = Mask(secrets_of(SecretStr(secret)))(made(secret))
    assert (True, False) == (MASK in text, "9xyz" in text.lower())


def test_a_short_secret_is_taken_as_it_is_written():
    assert {"Monday"} == forms("Monday")


def test_without_secrets_nothing_is_masked_and_a_text_is_cut_all_the_same():
    assert ("abc", "ab", "", "abc") == (Mask()("abc"), Mask()("abc", 2), Mask()("abc", 0), Mask()("abc", 9))


def test_a_secret_that_lies_across_the_cut_leaves_no_part_of_it():
    assert "key **" == Mask(["s3cr3t-key"])("key s3cr3t-key", 6)
    assert "key " == Mask(["s3cr3t-key"])("key s3cr3t-key", 4)


def test_of_two_secrets_that_begin_alike_the_longer_goes():
    assert "********** **********" == Mask(["abcdef", "abcdefgh"])("abcdefgh abcdef")


def test_values_of_json_lose_the_secrets_in_their_texts_and_numbers_that_are_one():
    mask = Mask(["s3cr3t-1"]) | Mask(["12345678"])
    value = {"s3cr3t-1": ["a s3cr3t-1", 12345678, 1.5, True, None, {"b": "x"}]}
    assert {"s3cr3t-1": ["a **********", MASK, 1.5, True, None, {"b": "x"}]} == mask.inside(value)
    assert value is Mask().inside(value)


def test_keys_lose_secrets_where_that_is_asked_for():
    assert {MASK: [{"x": 1}]} == Mask(["s3cr3t-1"]).inside({"s3cr3t-1": [{"x": 1}]}, keys=True)


@given(st.text("ab ", max_size=40), st.lists(st.text("ab", min_size=1, max_size=6), max_size=3), st.integers(0, 40))
def test_masked_and_then_cut_is_the_same_as_cut_while_masking(text, secrets, most):
    mask = Mask(secrets)
    assert mask(text)[:most] == mask(text, most)
