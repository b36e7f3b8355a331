import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventrouter.origins import Origins

SHOP = Origins(["https://shop.example", "https://*.shop.example", "http://localhost:3000", "https://a.example:443"])


@pytest.mark.parametrize(
    "origin",
    [
        b"https://shop.example",
        b"https://www.shop.example",
        b"https://a.b.shop.example",
        b"http://localhost:3000",
        b"HTTPS://Shop.Example",
        b"https://a.example",
    ],
)
def test_an_origin_that_is_named_may_send(origin: bytes) -> None:
    assert SHOP.allow(origin)


@pytest.mark.parametrize(
    "origin",
    [
        b"",
        b"null",
        b"http://shop.example",
        b"https://shop.example.evil.example",
        b"https://evilshop.example",
        b"https://.shop.example",
        b"https://shop.example:8443",
        b"https://www.shop.example:8443",
        b"https://evil.example/.shop.example",
        b"https://evil.example?.shop.example",
        b"https://evil.example#.shop.example",
        b"https://user@www.shop.example",
        b"https://www.shop.example\n",
        b"https://wwwxshop.example",
        b"http://localhost",
        b"\xff",
    ],
)
def test_no_other_origin_may_send(origin: bytes) -> None:
    assert not SHOP.allow(origin)


def test_a_page_without_an_origin_of_its_own_may_send_when_null_is_named() -> None:
    assert Origins(["null"]).allow(b"null")


def test_a_wildcard_may_have_a_port() -> None:
    assert Origins(["https://*.shop.example:8443"]).allow(b"https://www.shop.example:8443")


def test_without_origins_none_may_send() -> None:
    assert not Origins([]).allow(b"")


@given(st.binary())
def test_no_origin_at_all_is_an_error(origin: bytes) -> None:
    assert not SHOP.allow(b"x" + origin)
