"""The proxies that stand before the collector, and what they tell about a request; nobody else is believed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, NamedTuple

import structlog

_FORWARDED = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^\s";,]*)\s*(;|,|\Z)')
_HOST = re.compile(r"(?:[a-z0-9]([a-z0-9_.-]{0,253})?|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?", re.IGNORECASE)


_PRIVATE = [
    ip_network(text)
    for text in (
        *("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
]
_MAX_ADDRESS = 64
"""How long the text of an address may be, with its zone, brackets and port."""

log = structlog.get_logger("eventrouter.proxies")


class Hop(NamedTuple):
    """Who handed a request on."""

    ip: str = ""
    """Its address; empty when it is none."""
    trusted: bool = False
    private: bool = False
    """Whether the address says nothing outside of a network."""


class Proxies:
    """Reads X-Forwarded-For, -Proto and -Host, or else Forwarded (RFC 7239), of requests that a trusted proxy hands on.

    `trusted` are networks (`10.0.0.0/8`). Takes ASGI scopes of HTTP requests.
    """

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        networks = [ip_network(text, strict=False) for text in trusted]

        def read(text: str) -> Hop:
            """What is known of the address `text`, without its port."""
            text = text.strip()
            if text.startswith("["):
                text = text[1:].partition("]")[0]
            elif text.count(":") == 1:
                text = text.partition(":")[0]
            try:
                address = ip_address(text.partition("%")[0])
            except ValueError:
                return Hop()
            if isinstance(address, IPv6Address) and address.ipv4_mapped:
                address = address.ipv4_mapped
            trusted = any(address in network for network in networks)
            return Hop(str(address), trusted, any(address in network for network in _PRIVATE))

        self._read: Callable[[str], Hop] = lru_cache(4096)(read)
        self._any = bool(networks)
        self._warned = False

    def client_ip(self, scope: Any, headers: Mapping[bytes, bytes]) -> str:
        """The address of the client: the peer's, or the last one in the chain that is no trusted proxy's.

        Empty when a trusted proxy does not tell it, and when the peer is a proxy of a private network that nobody
        trusts: its own address would be every visitor's.
        """
        peer = scope.get("client")
        if peer is None:
            return ""
        ip, trusted, private = self._read(peer[0])
        if not trusted:
            if not private or not (b"x-forwarded-for" in headers or b"forwarded" in headers or b"x-real-ip" in headers):
                return ip
            self._warn(ip)
            return ""
        ip = ""
        for text in reversed(
            self._list(scope, b"x-forwarded-for") or [part.get("for", "") for part in self._forwarded(scope)]
        ):
            hop = self._look(text)
            ip = hop.ip
            if not hop.trusted:
                break
        return ip

    def server(self, scope: Any) -> tuple[str, str]:
        """The scheme (`http` or `https`) and the host, with its port, that the client asked; the host may be empty.

        Of several values the last one counts: it is from the proxy next to the collector.
        """
        scheme = str(scope.get("scheme", "http"))
        host = b"".join([value for name, value in scope["headers"] if name == b"host"][:1]).decode("latin-1")
        peer = scope.get("client")
        if self._any and peer is not None and self._look(peer[0]).trusted:
            forwarded = (self._forwarded(scope) or [{}])[-1]
            proto = (self._list(scope, b"x-forwarded-proto") or [forwarded.get("proto", "")])[-1].lower()
            scheme = proto if proto in ("http", "https") else scheme
            host = (self._list(scope, b"x-forwarded-host") or [forwarded.get("host", "")])[-1] or host
        return scheme, host if _HOST.fullmatch(host) else ""

    def _look(self, text: str) -> Hop:
        """Only what may be an address is kept in memory: the texts are what clients say."""
        return self._read(text) if len(text) <= _MAX_ADDRESS else Hop()

    def _warn(self, ip: str) -> None:
        """Tells the log, the first time, what is to be done."""
        if not self._warned:
            self._warned = True
            log.warning(
                "requests come through a proxy that is not trusted, so the addresses of visitors are not known",
                proxy=ip,
                hint="name it in collect.trusted_proxies of routes.yaml",
            )

    def _list(self, scope: Any, name: bytes) -> list[str]:
        """The values of a header that is a list, which may be sent in several pieces."""
        values = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
        return [part.strip() for value in values for part in value.split(",")]

    def _forwarded(self, scope: Any) -> list[dict[str, str]]:
        """The elements of the `Forwarded` header, by their parameters; empty when it is not well-formed."""
        text = ", ".join([value.decode("latin-1") for key, value in scope["headers"] if key == b"forwarded"])
        return list(_elements(text))


def _elements(text: str) -> Iterator[dict[str, str]]:
    element: dict[str, str] = {}
    position = 0
    found = []
    while position < len(text):
        match = _FORWARDED.match(text, position)
        if match is None:
            return
        name, value, end = match.groups()
        element[name.lower()] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        if end != ";":
            found.append(element)
            element = {}
        position = match.end()
    if element:
        found.append(element)
    yield from found
