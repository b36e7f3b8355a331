"""The web pages that may send events for a source, by their origins."""

from __future__ import annotations

import re
from collections.abc import Iterable

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Origins:
    """A set of origins: `https://shop.example`, `https://*.shop.example` for all below one, or `null`.

    It keeps honest browsers apart, no more: whatever is no browser can send any `Origin`, or none.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        parts = [_pattern(text) for text in patterns]
        self._match = re.compile("|".join(parts) or r"(?!)", re.IGNORECASE).fullmatch

    def allow(self, origin: bytes) -> bool:
        """Whether pages of `origin`, the value of that header, may send."""
        return self._match(origin.decode("latin-1")) is not None


def _pattern(text: str) -> str:
    """A regular expression for one pattern; a browser leaves the port of its scheme out."""
    scheme, separator, host = text.partition("://")
    host = host.removesuffix(_DEFAULT_PORTS.get(scheme, ""))
    if host.startswith("*."):
        return rf"{re.escape(scheme)}://[a-z0-9_.-]+\.{re.escape(host[2:])}"
    return re.escape(scheme + separator + host)
