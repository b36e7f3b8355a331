from typing import Any

import pytest

from eventrouter.acceptance import BodyError
from eventrouter.address import Address
from eventrouter.proxies import Proxies


def url(address: Address, host: bytes, **headers: bytes) -> str:
    pairs = {name.replace("_", "-").encode(): value for name, value in headers.items()} | {b"host": host}
    scope: dict[str, Any] = {"scheme": "http", "client": ("127.0.0.1", 1), "headers": list(pairs.items())}
    assert address.asked(scope, pairs)[0] == address.url(scope, pairs).startswith("https:") or b"127." in host
    return address.url(scope, pairs)


def test_it_is_the_host_that_was_asked() -> None:
    assert url(Address("", "", Proxies()), b"localhost:8000") == "http://localhost:8000"


def test_it_has_the_path_prefix() -> None:
    assert url(Address("", "/e", Proxies()), b"localhost:8000") == "http://localhost:8000/e"


@pytest.mark.parametrize(
    ("public", "prefix", "expected"),
    [
        ("https://events.shop.example", "", "https://events.shop.example"),
        ("https://events.shop.example", "/e", "https://events.shop.example/e"),
        ("https://shop.example/collect", "/e", "https://shop.example/collect/e"),
        ("https://shop.example/e", "/e", "https://shop.example/e"),
    ],
)
def test_what_the_operator_says_wins(public: str, prefix: str, expected: str) -> None:
    address = Address(public, prefix, Proxies(["127.0.0.1"]))
    assert url(address, b"evil.example", x_forwarded_host=b"evil.example") == expected
    assert address.public == expected


def test_without_it_there_is_no_public_address() -> None:
    assert Address("", "/e", Proxies()).public == ""


def test_a_trusted_proxy_tells_it() -> None:
    address = Address("", "/e", Proxies(["127.0.0.1"]))
    headers = {"x_forwarded_proto": b"https", "x_forwarded_host": b"events.shop.example"}
    assert url(address, b"inner", **headers) == "https://events.shop.example/e"


@pytest.mark.parametrize("header", ["origin", "referer"])
def test_a_page_on_https_is_told_https_because_it_reaches_nothing_else(header: str) -> None:
    address = Address("", "", Proxies())
    assert url(address, b"events.shop.example", **{header: b"https://shop.example"}) == "https://events.shop.example"
    assert url(address, b"127.0.0.1:8000", **{header: b"https://shop.example"}) == "http://127.0.0.1:8000"


@pytest.mark.parametrize("host", [b"localhost:8000", b"app.localhost", b"[::1]:8000", b"127.0.0.2"])
def test_this_machine_is_reached_by_http_from_any_page(host: bytes) -> None:
    headers = {b"host": host, b"origin": b"https://shop.example"}
    scope = {"scheme": "http", "client": None, "headers": list(headers.items())}
    assert Address("", "", Proxies()).url(scope, headers) == "http://" + host.decode()


def test_a_request_without_a_host_is_refused() -> None:
    with pytest.raises(BodyError) as caught:
        Address("", "", Proxies()).url({"client": None, "headers": []}, {})
    assert (caught.value.code, caught.value.status) == ("invalid_host", 400)


@pytest.mark.parametrize(
    ("public", "trusted", "host"),
    [
        ("https://events.shop.example:8443/x", ["127.0.0.1"], "events.shop.example:8443"),
        ("", ["127.0.0.1"], "proxied.example"),
        ("", [], "localhost:8000"),
    ],
)
def test_the_host_that_was_asked_is_known(public: str, trusted: list[str], host: str) -> None:
    pairs = {b"host": b"localhost:8000", b"x-forwarded-host": b"proxied.example"}
    scope: dict[str, Any] = {"scheme": "http", "client": ("127.0.0.1", 1), "headers": list(pairs.items())}
    assert Address(public, "/e", Proxies(trusted)).asked(scope, pairs) == (public.startswith("https"), host)
