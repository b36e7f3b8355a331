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
    ("events", "cookies", "kept"),
    [
        ([{"anonymousId": "a-1"}], b"", b"a-1"),
        ([{"anonymousId": "a-1"}], b"er_anonymous_id=a-1", b"a-1"),
        ([{"anonymousId": "waited"}], b"er_anonymous_id=a-1", b"a-1"),
        ([{"anonymousId": "a-2"}], b"er_anonymous_id=a-1; er_anonymous_id=a-2", b"a-2"),
        ([{"anonymousId": "a-1"}, {"anonymousId": "a-2"}, {"userId": "u"}, 1], b"x=y", b"a-2"),
        ([{"anonymousId": 5}, {"anonymousId": " "}], b"er_anonymous_id=a-1", b"a-1"),
        ([], b"er_anonymous_id=a-1", b"a-1"),
    ],
)
def test_the_browsers_cookie_lasts_anew_and_else_an_event_says_it(
    events: list[Any], cookies: bytes, kept: bytes
) -> None:
    [header] = COOKIE.renew(events, {b"cookie": cookies}, secure=False)
    assert header[1].startswith(b"er_anonymous_id=" + kept + b";")


@pytest.mark.parametrize("event", [{}, {"anonymousId": ""}, {"anonymousId": "a;b"}])
def test_without_an_id_there_is_none(event: Any) -> None:
    assert COOKIE.renew([event], {}, secure=False) == ()


SITE = Cookie(CookieConfig(domain=".shop.example"))


def asked(cookie: Cookie, host: str, headers: dict[str, str]) -> bool:
    return cookie.is_asked_for({name.encode(): value.encode() for name, value in headers.items()}, host)


@pytest.mark.parametrize(
    ("site", "mode", "welcome"),
    [
        ("same-origin", "cors", True),
        ("same-site", "cors", True),
        ("same-site", "no-cors", True),
        ("same-site", "", True),
        ("cross-site", "cors", False),
        ("cross-site", "no-cors", False),
        ("cross-site", "navigate", False),
        ("same-site", "navigate", False),
        ("same-origin", "navigate", False),
        ("none", "navigate", False),
        ("nonsense", "cors", False),
    ],
)
def test_a_browser_says_whether_a_page_of_the_site_asks(site: str, mode: str, welcome: bool) -> None:
    headers = {"sec-fetch-site": site} | ({"sec-fetch-mode": mode} if mode else {})
    for origin in ({}, {"origin": "https://www.shop.example"}, {"origin": "https://evil.example"}):
        assert asked(SITE, "events.shop.example", headers | origin) == welcome


@pytest.mark.parametrize(
    ("origin", "with_domain", "without"),
    [
        ("https://shop.example", True, False),
        ("http://www.shop.example:8080", True, False),
        ("https://WWW.Shop.Example", True, False),
        ("https://events.shop.example", True, True),
        ("https://events.shop.example:8443", True, True),
        ("https://badshop.example", False, False),
        ("https://shop.example.evil.example", False, False),
        ("https://evil.example", False, False),
        ("https://evil.example:shop.example", False, False),
        ("https://evil.example/.shop.example", False, False),
        ("null", False, False),
        ("https://", False, False),
        ("", False, False),
        (None, False, False),
    ],
)
def test_where_the_browser_does_not_say_it_the_origin_does(
    origin: str | None, with_domain: bool, without: bool
) -> None:
    headers = {} if origin is None else {"origin": origin}
    assert asked(SITE, "events.shop.example:8443", headers) == with_domain
    assert asked(COOKIE, "events.shop.example", headers) == without
    assert not asked(COOKIE, "", headers)


def test_hosts_that_are_addresses_are_compared_without_their_ports() -> None:
    assert asked(COOKIE, "[::1]:8000", {"origin": "http://[::1]:3000"})
    assert asked(COOKIE, "127.0.0.1:8000", {"origin": "http://127.0.0.1:3000"})
    assert not asked(COOKIE, "[::1]:8000", {"origin": "http://[::2]:8000"})


def test_who_objects_to_be_followed_gets_none() -> None:
    page = {"sec-fetch-site": "same-origin", "origin": "https://shop.example"}
    assert not asked(SITE, "shop.example", page | {"sec-gpc": "1"})
    assert asked(SITE, "shop.example", page | {"sec-gpc": "0"})
