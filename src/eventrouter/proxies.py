"""The proxies that stand before the collector, and what they tell about a request; nobody else is believed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

_FORWARDED = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^\s";,]*)\s*(;|,|\Z)')
_HOST = re.compile(r"(?:[a-z0-9]([a-z0-9_.-]{0,253})?|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?", re.IGNORECASE)


class Proxies:
    """Reads X-Forwarded-For, -Proto and -Host, or else Forwarded (RFC 7239), of requests that a trusted proxy hands on.

    `trusted` are networks (`10.0.0.0/8`). Takes ASGI scopes of HTTP requests.
    """

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        networks = [ip_network(text, strict=False) for text in trusted]

        def look(text: str) -> tuple[str, bool]:
            """The address that `text` is, without its port, or an empty text; and whether it is trusted."""
            text = text.strip()
            if text.startswith("["):
                text = text[1:].partition("]")[0]
            elif text.count(":") == 1:
                text = text.partition(":")[0]
            try:
                address = ip_address(text.partition("%")[0])
            except ValueError:
                return "", False
            if isinstance(address, IPv6Address) and address.ipv4_mapped:
                address = address.ipv4_mapped
            return str(address), any(address in network for network in networks)

        self._look: Callable[[str], tuple[str, bool]] = lru_cache(4096)(look)
        self._any = bool(networks)

    def client_ip(self, scope: Any) -> str:
        """The address of the client: the peer's, or the last one in the chain that is no trusted proxy's.

        Empty when a trusted proxy does not tell it.
        """
        peer = scope.get("client")
        if peer is None:
            return ""
        ip, trusted = self._look(peer[0])
        if not trusted:
            return ip
        chain = self._list(scope, b"x-forwarded-for") or [part.get("for", "") for part in self._forwarded(scope)]
        for hop in reversed(chain):
            ip, trusted = self._look(hop)
            if not trusted:
                return ip
        return ip

    def server(self, scope: Any) -> tuple[str, str]:
        """The scheme (`http` or `https`) and the host, with its port, that the client asked; the host may be empty.

        Of several values the last one counts: it is from the proxy next to the collector.
        """
        scheme = str(scope.get("scheme", "http"))
        host = b"".join([value for name, value in scope["headers"] if name == b"host"][:1]).decode("latin-1")
        peer = scope.get("client")
        if self._any and peer is not None and self._look(peer[0])[1]:
            forwarded = (self._forwarded(scope) or [{}])[-1]
            proto = (self._list(scope, b"x-forwarded-proto") or [forwarded.get("proto", "")])[-1].lower()
            scheme = proto if proto in ("http", "https") else scheme
            host = (self._list(scope, b"x-forwarded-host") or [forwarded.get("host", "")])[-1] or host
        return scheme, host if _HOST.fullmatch(host) else ""

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
