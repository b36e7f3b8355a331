from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventrouter.config_model import CookieConfig
from eventrouter.cookie import Cookie

COOKIE = Cookie(CookieConfig(name="er_anonymous_id"))


def test_it_lasts_a_year_for_the_whole_site_and_scripts_may_read_it() -> None:
    assert COOKIE.write("a-1", secure=True) == (
        b"set-cookie",
        b"er_anonymous_id=a-1; Path=/; Max-Age=31536000; SameSite=Lax; Secure",
    )


def test_on_plain_http_it_is_not_secure_because_it_would_not_be_kept() -> None:
    header = COOKIE.write("a-1", secure=False)
    assert header is not None
    assert b"Secure" not in header[1]


def test_its_name_domain_and_age_can_be_chosen() -> None:
    cookie = Cookie(CookieConfig(name="aid", domain=".shop.example", max_age=60.0))
    assert cookie.write("a-1", secure=False) == (
        b"set-cookie",
        b"aid=a-1; Path=/; Max-Age=60; SameSite=Lax; Domain=.shop.example",
    )


@pytest.mark.parametrize(
    ("header", "values"),
    [
        (b"er_anonymous_id=a-1", ["a-1"]),
        (b"x=1; er_anonymous_id=a=b;y=2", ["a=b"]),
        (b"er_anonymous_id=a-1; er_anonymous_id=a-2", ["a-1", "a-2"]),
        (b"er_anonymous_id=; er_anonymous_id=a-2", ["a-2"]),
        (b"not_er_anonymous_id=a-1", []),
        (b"er_anonymous_id", []),
        (b'er_anonymous_id="quoted"', []),
        (b"er_anonymous_id=\xff", []),
        (b"", []),
    ],
)
def test_it_is_read_from_a_request(header: bytes, values: list[str]) -> None:
    assert COOKIE.read(header) == values


@given(st.text())
def test_no_id_breaks_out_of_its_header(value: str) -> None:
    header = COOKIE.write(value, secure=True)
    if header is not None:
        assert COOKIE.read(header[1]) == [value]
        assert header[1].count(b";") == 4
        assert not set(header[1]) & set(b"\r\n\0")


@pytest.mark.parametrize(
    ("body", "cookies", "kept"),
    [
        ({"anonymousId": "a-1"}, b"", b"a-1"),
        ({"anonymousId": "a-1"}, b"er_anonymous_id=a-1", b"a-1"),
        ({"anonymousId": "waited"}, b"er_anonymous_id=a-1", b"a-1"),
        ({"anonymousId": "a-2"}, b"er_anonymous_id=a-1; er_anonymous_id=a-2", b"a-2"),
        ({"batch": [{"anonymousId": "a-1"}, {"anonymousId": "a-2"}, {"userId": "u"}, 1]}, b"x=y", b"a-2"),
        ({"batch": [{"anonymousId": 5}, {"anonymousId": " "}]}, b"er_anonymous_id=a-1", b"a-1"),
        ({"batch": 1}, b"er_anonymous_id=a-1", b"a-1"),
        ([], b"er_anonymous_id=a-1", b"a-1"),
    ],
)
def test_the_browsers_cookie_lasts_anew_and_else_an_event_says_it(body: Any, cookies: bytes, kept: bytes) -> None:
    [header] = COOKIE.renew(body, {b"cookie": cookies}, secure=False)
    assert header[1].startswith(b"er_anonymous_id=" + kept + b";")


@pytest.mark.parametrize("body", [{}, {"anonymousId": ""}, {"anonymousId": "a;b"}])
def test_without_an_id_there_is_none(body: Any) -> None:
    assert COOKIE.renew(body, {}, secure=False) == ()
