"""A source's first-party cookie, in which the collector keeps a browser's anonymous id."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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

    def renew(self, body: Any, headers: Mapping[bytes, bytes], *, secure: bool) -> tuple[Header, ...]:
        """What an answer to the event or batch `body` of a browser says, if anything.

        The request's own cookie lasts anew, so that events which waited in the browser do not bring an old id back.
        Without one it is the anonymousId of the last event that has one, which also says which of several cookies of
        this name it is (those of a host and of its site). `secure` is whether the browser speaks https.
        """
        known = self.read(headers.get(b"cookie", b""))
        told = _anonymous_id_of(body)
        kept = told if told in known or not known else known[0]
        header = self.write(kept, secure=secure) if kept else None
        return () if header is None else (header,)

    def read(self, header: bytes) -> list[str]:
        """The ids in the value of a request's `Cookie` header that can be written again."""
        found = []
        for part in header.split(b";"):
            name, _, value = part.strip().partition(b"=")
            if name == self._name and _VALUE.fullmatch(text := value.decode("latin-1")):
                found.append(text)
        return found

    def write(self, anonymous_id: str, *, secure: bool) -> Header | None:
        """The header that sets or renews it; None for an id that no cookie can hold. `secure`: by https alone."""
        if not _VALUE.fullmatch(anonymous_id):
            return None
        end = b"; Secure" if secure else b""
        return b"set-cookie", b"%b=%b%b%b" % (self._name, anonymous_id.encode(), self._attributes, end)


def _anonymous_id_of(body: Any) -> str:
    """The anonymousId of the last event of a body that has one that is a text."""
    events = body.get("batch") if isinstance(body, dict) else None
    for event in reversed(events) if isinstance(events, list) else (body,):
        if isinstance(event, dict) and isinstance(known := event.get("anonymousId"), str) and known.strip():
            return known
    return ""
