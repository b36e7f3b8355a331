"""A source's first-party cookie, in which the collector keeps a browser's anonymous id."""

from __future__ import annotations

import re

from .config_model import CookieConfig

Header = tuple[bytes, bytes]

_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]{1,255}")
"""What a cookie may hold without quotes (RFC 6265, cookie-octet)."""


class Cookie:
    """Writes and reads the cookie.

    Browsers keep a cookie that a script sets for seven days at most, one that a server of the site sets as long as it
    says. Scripts may read this one (it is not HttpOnly): the browser's client takes its anonymous id from there.
    """

    def __init__(self, config: CookieConfig) -> None:
        self._name = config.name.encode()
        domain = f"; Domain={config.domain}" if config.domain else ""
        self._attributes = f"; Path=/; Max-Age={int(config.max_age)}; SameSite=Lax{domain}".encode()

    def read(self, header: bytes) -> str | None:
        """The id in the value of a request's `Cookie` header; None when there is none that can be written again."""
        for part in header.split(b";"):
            name, _, value = part.strip().partition(b"=")
            if name == self._name and _VALUE.fullmatch(text := value.decode("latin-1")):
                return text
        return None

    def write(self, anonymous_id: str, *, secure: bool) -> Header | None:
        """The header that sets or renews it; None for an id that no cookie can hold. `secure`: by https alone."""
        if not _VALUE.fullmatch(anonymous_id):
            return None
        end = b"; Secure" if secure else b""
        return b"set-cookie", b"%b=%b%b%b" % (self._name, anonymous_id.encode(), self._attributes, end)
