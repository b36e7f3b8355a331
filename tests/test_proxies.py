import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from eventrouter.proxies import Proxies

PROXIES = Proxies(["127.0.0.1/32", "10.0.0.0/8", "2001:db8:1::/48"])


def request(peer: str | None, *headers: tuple[bytes, bytes], scheme: str = "http") -> dict[str, Any]:
    client = None if peer is None else (peer, 4711)
    return {"type": "http", "scheme": scheme, "client": client, "headers": [*headers, (b"host", b"inner:8000")]}


def ip_of(proxies: Proxies, scope: dict[str, Any]) -> str:
    return proxies.client_ip(scope, dict(scope["headers"]))


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
    assert ip_of(Proxies(), request(peer)) == ip


@pytest.mark.parametrize("proxies", [Proxies(), PROXIES])
def test_what_anybody_else_says_is_not_believed(proxies: Proxies) -> None:
    headers = (xff(b"198.51.100.7"), (b"forwarded", b"for=198.51.100.7;host=evil.example;proto=https"))
    more = ((b"x-forwarded-proto", b"https"), (b"x-forwarded-host", b"evil.example"))
    scope = request("203.0.113.9", *headers, *more)
    assert ip_of(proxies, scope) == "203.0.113.9"
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
    assert ip_of(PROXIES, request("127.0.0.1", xff(value))) == ip


def test_a_list_may_come_in_several_headers() -> None:
    assert ip_of(PROXIES, request("127.0.0.1", xff(b"6.6.6.6"), xff(b"198.51.100.7"))) == "198.51.100.7"


@pytest.mark.parametrize(
    ("value", "ip"),
    [
        (b"for=198.51.100.7", "198.51.100.7"),
        (b'For="[2001:db8:cafe::17]:4711";proto=https', "2001:db8:cafe::17"),
        (b"for=6.6.6.6, for=198.51.100.7;by=10.0.0.1, for=10.0.0.2", "198.51.100.7"),
        (b"for=_hidden", ""),
        (b"proto=https", ""),
        (b'for="198.51.100.7', ""),
        (b"nonsense", ""),
    ],
)
def test_the_standard_header_is_understood_too(value: bytes, ip: str) -> None:
    assert ip_of(PROXIES, request("127.0.0.1", (b"forwarded", value))) == ip


def test_the_standard_header_is_not_read_beside_the_usual_one() -> None:
    headers = (xff(b"198.51.100.7"), (b"forwarded", b"for=6.6.6.6"))
    assert ip_of(PROXIES, request("127.0.0.1", *headers)) == "198.51.100.7"


@pytest.mark.parametrize("headers", [(), ((b"x-forwarded-proto", b"https"),), ((b"forwarded", b"proto=https"),)])
def test_a_trusted_proxy_that_does_not_tell_the_client_is_not_taken_for_it(headers: Any) -> None:
    assert ip_of(PROXIES, request("10.1.2.3", *headers)) == ""


PRIVATE = [
    "127.0.0.1",
    "172.17.0.1",
    "192.168.0.9",
    "10.0.0.1",
    "169.254.1.1",
    "100.64.0.1",
    "::1",
    "fd00::1",
    "fe80::1",
]
FORWARDED = [xff(b"198.51.100.7"), (b"x-real-ip", b"198.51.100.7"), (b"forwarded", b"for=198.51.100.7")]


@pytest.mark.parametrize("peer", [*PRIVATE, "::ffff:172.17.0.1"])
@pytest.mark.parametrize("header", FORWARDED)
def test_a_private_proxy_that_nobody_trusts_is_not_taken_for_the_client(peer: str, header: tuple[bytes, bytes]) -> None:
    assert ip_of(Proxies(), request(peer, header)) == ""
    assert ip_of(Proxies(), request(peer)) == peer.removeprefix("::ffff:")


def test_a_private_proxy_that_nobody_trusts_is_named_once() -> None:
    proxies = Proxies(["10.0.0.0/8"])
    with capture_logs() as logs:
        ip_of(proxies, request("203.0.113.9", xff(b"198.51.100.7")))
        ip_of(proxies, request("10.0.0.1", xff(b"198.51.100.7")))
        ip_of(proxies, request("172.17.0.1"))
        for peer in ("172.17.0.1", "172.17.0.1", "172.17.0.2"):
            ip_of(proxies, request(peer, xff(b"198.51.100.7")))
    [entry] = logs
    assert (entry["log_level"], entry["proxy"], "collect.trusted_proxies" in entry["hint"]) == (
        "warning",
        "172.17.0.1",
        True,
    )
    assert "198.51.100.7" not in str(entry)


# -- what long texts cost ----------------------------------------------------------------------------------------------


def test_texts_that_are_too_long_for_an_address_are_not_kept() -> None:
    proxies = Proxies(["127.0.0.1"])
    ip_of(proxies, request("127.0.0.1", xff(b"198.51.100.7")))
    tracemalloc.start()
    try:
        for number in range(200):
            assert ip_of(proxies, request("127.0.0.1", xff(b"%d:" % number + b"x" * 60_000))) == ""
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()


def test_the_longest_address_is_read() -> None:
    value = b"[2001:0db8:0000:0000:0000:0000:198.051.100.007%" + b"eth0]:65535"
    assert ip_of(PROXIES, request("127.0.0.1", xff(value))) == ""
    value = b"[2001:0db8:0000:0000:0000:0000:198.51.100.107%enp0s31f6]:65535"
    assert len(value) <= 64
    assert ip_of(PROXIES, request("127.0.0.1", xff(value))) == "2001:db8::c633:646b"


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
    ip_of(PROXIES, scope)
    assert PROXIES.server(scope)[0] in ("http", "https")
