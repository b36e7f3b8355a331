"""Where clients find this collector: what it tells them to send to."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from .acceptance import BodyError
from .proxies import Proxies


class Address:
    """The collector's own URL, as the client of a request sees it."""

    def __init__(self, public_url: str, path_prefix: str, proxies: Proxies) -> None:
        """`public_url` without a slash at its end, empty when it is to be read from requests."""
        self._prefix = path_prefix
        self._public = public_url if public_url.endswith(path_prefix) else public_url + path_prefix
        self._known = bool(public_url)
        self._host = urlsplit(public_url).netloc
        self._proxies = proxies

    @property
    def public(self) -> str:
        """The URL that the operator set, with the path prefix; empty when none is set."""
        return self._public if self._known else ""

    def url(self, scope: Any, headers: Mapping[bytes, bytes]) -> str:
        """`https://events.shop.example/e`: without a slash at its end, with the path prefix.

        Raises `BodyError` when neither the operator nor the request says it.
        """
        if self._known:
            return self._public
        scheme, host = self._proxies.server(scope)
        if not host:
            raise BodyError("invalid_host", "the request's Host is not the name of a server")
        if scheme == "http" and self._needs_https(headers) and not _is_loopback(host):
            scheme = "https"
        return f"{scheme}://{host}{self._prefix}"

    def asked(self, scope: Any, headers: Mapping[bytes, bytes]) -> tuple[bool, str]:
        """Whether the client speaks https, whatever the last proxy does; and the host that it asked, with its port.

        The host is empty when nobody says it.
        """
        if self._known:
            return self._public.startswith("https:"), self._host
        scheme, host = self._proxies.server(scope)
        return scheme == "https" or self._needs_https(headers), host

    def _needs_https(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a page on https asks: it can reach nothing else, so the proxy that does not say so speaks it."""
        return headers.get(b"origin", headers.get(b"referer", b"")).startswith(b"https://")


def _is_loopback(host: str) -> bool:
    """Whether it is this machine, which pages on https reach by http too."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
