from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventrouter.proxies import Proxies

PROXIES = Proxies(["127.0.0.1/32", "10.0.0.0/8", "2001:db8:1::/48"])


def request(peer: str | None, *headers: tuple[bytes, bytes], scheme: str = "http") -> dict[str, Any]:
    client = None if peer is None else (peer, 4711)
    return {"type": "http", "scheme": scheme, "client": client, "headers": [*headers, (b"host", b"inner:8000")]}


def xff(value: bytes) -> tuple[bytes, bytes]:
    return b"x-forwarded-for", value


# -- the client's address ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "ip"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:DB8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("testclient", ""),
        (None, ""),
    ],
)
def test_without_a_proxy_it_is_the_peer(peer: str | None, ip: str) -> None:
    assert Proxies().client_ip(request(peer)) == ip


@pytest.mark.parametrize("proxies", [Proxies(), PROXIES])
def test_what_anybody_else_says_is_not_believed(proxies: Proxies) -> None:
    headers = (xff(b"198.51.100.7"), (b"forwarded", b"for=198.51.100.7;host=evil.example;proto=https"))
    more = ((b"x-forwarded-proto", b"https"), (b"x-forwarded-host", b"evil.example"))
    scope = request("203.0.113.9", *headers, *more)
    assert proxies.client_ip(scope) == "203.0.113.9"
    assert proxies.server(scope) == ("http", "inner:8000")


@pytest.mark.parametrize(
    ("value", "ip"),
    [
        (b"198.51.100.7", "198.51.100.7"),
        (b"6.6.6.6, 198.51.100.7", "198.51.100.7"),
        (b"6.6.6.6, 198.51.100.7, 10.1.2.3,10.9.9.9", "198.51.100.7"),
        (b"198.51.100.7:51234, 10.1.2.3", "198.51.100.7"),
        (b"2001:db8::9", "2001:db8::9"),
        (b"[2001:db8::9]:443", "2001:db8::9"),
        (b"2001:db8::9, 2001:db8:1::5", "2001:db8::9"),
        (b"10.0.0.1, 10.0.0.2", "10.0.0.1"),
        (b"6.6.6.6, unknown", ""),
        (b"6.6.6.6, ", ""),
        (b"6.6.6.6, 999.1.1.1", ""),
        (b"6.6.6.6, \xff", ""),
    ],
)
def test_behind_trusted_proxies_it_is_the_last_one_that_is_not_trusted(value: bytes, ip: str) -> None:
    assert PROXIES.client_ip(request("127.0.0.1", xff(value))) == ip


def test_a_list_may_come_in_several_headers() -> None:
    assert PROXIES.client_ip(request("127.0.0.1", xff(b"6.6.6.6"), xff(b"198.51.100.7"))) == "198.51.100.7"


@pytest.mark.parametrize(
    ("value", "ip"),
    [
        (b"for=198.51.100.7", "198.51.100.7"),
        (b'For="[2001:db8:cafe::17]:4711";proto=https', "2001:db8:cafe::17"),
        (b"for=6.6.6.6, for=198.51.100.7;by=10.0.0.1, for=10.0.0.2", "198.51.100.7"),
        (b"for=_hidden", ""),
        (b"proto=https", ""),
        (b'for="198.51.100.7', "127.0.0.1"),
        (b"nonsense", "127.0.0.1"),
    ],
)
def test_the_standard_header_is_understood_too(value: bytes, ip: str) -> None:
    assert PROXIES.client_ip(request("127.0.0.1", (b"forwarded", value))) == ip


def test_the_standard_header_is_not_read_beside_the_usual_one() -> None:
    headers = (xff(b"198.51.100.7"), (b"forwarded", b"for=6.6.6.6"))
    assert PROXIES.client_ip(request("127.0.0.1", *headers)) == "198.51.100.7"


def test_a_proxy_that_asks_for_itself_is_the_client() -> None:
    assert PROXIES.client_ip(request("10.1.2.3")) == "10.1.2.3"


# -- what the client asked ---------------------------------------------------------------------------------------------


def test_a_trusted_proxy_tells_what_the_client_asked() -> None:
    headers = ((b"x-forwarded-proto", b"https"), (b"x-forwarded-host", b"events.shop.example"))
    assert PROXIES.server(request("127.0.0.1", *headers)) == ("https", "events.shop.example")


def test_the_standard_header_tells_it_too() -> None:
    value = b'for=1.2.3.4;proto=http;host=far.example, for=1.2.3.5;proto=https;host="events.shop.example:8443"'
    assert PROXIES.server(request("127.0.0.1", (b"forwarded", value))) == ("https", "events.shop.example:8443")


def test_of_several_values_the_nearest_counts() -> None:
    headers = ((b"x-forwarded-proto", b"http, https"), (b"x-forwarded-host", b"evil.example, shop.example"))
    assert PROXIES.server(request("127.0.0.1", *headers)) == ("https", "shop.example")


def test_what_a_proxy_does_not_tell_is_the_requests() -> None:
    assert PROXIES.server(request("127.0.0.1", scheme="https")) == ("https", "inner:8000")
    assert PROXIES.server(request("127.0.0.1", (b"x-forwarded-proto", b"gopher"))) == ("http", "inner:8000")


@pytest.mark.parametrize("host", [b"", b"a b", b"a/b", b'a"b', b"a@b", b"\xff", b"a:b", b"[::1", b"x" * 300])
def test_a_host_that_is_none_is_not_repeated(host: bytes) -> None:
    assert Proxies().server({"headers": [(b"host", host)], "client": None}) == ("http", "")


@pytest.mark.parametrize("host", ["localhost", "a_b.example:80", "127.0.0.1:8000", "[::1]:8000"])
def test_a_host_is_kept_with_its_port(host: str) -> None:
    assert Proxies().server({"headers": [(b"host", host.encode())], "client": None}) == ("http", host)


@given(
    st.sampled_from(["127.0.0.1", "203.0.113.9", "x", ""]),
    st.lists(
        st.tuples(
            st.sampled_from([b"x-forwarded-for", b"forwarded", b"x-forwarded-proto", b"x-forwarded-host", b"host"]),
            st.binary() | st.text(' ",;=:[]forhostproto1\\').map(str.encode),
        )
    ),
)
def test_no_header_at_all_is_an_error(peer: str, headers: Any) -> None:
    scope = {"client": (peer, 1), "headers": headers}
    PROXIES.client_ip(scope)
    assert PROXIES.server(scope)[0] in ("http", "https")
