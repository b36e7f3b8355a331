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
    ("header", "value"),
    [
        (b"er_anonymous_id=a-1", "a-1"),
        (b"x=1; er_anonymous_id=a=b;y=2", "a=b"),
        (b"er_anonymous_id=a-1; er_anonymous_id=a-2", "a-1"),
        (b"er_anonymous_id=; er_anonymous_id=a-2", "a-2"),
        (b"not_er_anonymous_id=a-1", None),
        (b"er_anonymous_id", None),
        (b'er_anonymous_id="quoted"', None),
        (b"er_anonymous_id=\xff", None),
        (b"", None),
    ],
)
def test_it_is_read_from_a_request(header: bytes, value: str | None) -> None:
    assert COOKIE.read(header) == value


@given(st.text())
def test_no_id_breaks_out_of_its_header(value: str) -> None:
    header = COOKIE.write(value, secure=True)
    if header is not None:
        assert COOKIE.read(header[1]) == value
        assert header[1].count(b";") == 4
        assert not set(header[1]) & set(b"\r\n\0")
