"""A source's first-party cookie, in which the collector keeps a browser's anonymous id."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .answer import Header
from .config_model import CookieConfig

_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]{1,255}")
"""What a cookie may hold without quotes (RFC 6265, cookie-octet)."""
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?", re.IGNORECASE)
_PORT = re.compile(r":[0-9]*\Z")


class Cookie:
    """Writes and reads the cookie.

    Browsers keep a cookie that a script sets for seven days at most, one that a server of the site sets as long as it
    says. Scripts may read this one (it is not HttpOnly): the browser's client takes its anonymous id from there.
    """

    def __init__(self, config: CookieConfig) -> None:
        self._name = config.name.encode()
        self._site = config.domain.lower().lstrip(".")
        domain = f"; Domain={config.domain}" if config.domain else ""
        self._attributes = f"; Path=/; Max-Age={int(config.max_age)}; SameSite=Lax{domain}".encode()

    def is_asked_for(self, headers: Mapping[bytes, bytes], host: str) -> bool:
        """Whether a page of the collector's own site makes the request, and its visitor does not object (Sec-GPC).

        Any page may send an event with an id of its choice, by a form or a picture; no other site's must become the
        visitor's. `host` is the one that was asked, with its port. Browsers say in Sec-Fetch-Site who asks; those from
        before 2023 do not, and none does on plain http: there the `Origin` has to be of this host or below the domain.
        """
        if headers.get(b"sec-gpc") == b"1":
            return False
        site = headers.get(b"sec-fetch-site")
        if site is not None:
            return site in (b"same-site", b"same-origin") and headers.get(b"sec-fetch-mode") != b"navigate"
        origin = _ORIGIN.fullmatch(headers.get(b"origin", b"").decode("latin-1"))
        if origin is None:
            return False
        name = origin[1].lower()
        if name == _PORT.sub("", host).lower():
            return True
        return bool(self._site) and (name == self._site or name.endswith("." + self._site))

    def renew(self, events: Sequence[Any], headers: Mapping[bytes, bytes], *, secure: bool) -> tuple[Header, ...]:
        """What an answer to the `events` of a browser says, if anything.

        The request's own cookie lasts anew, so that events which waited in the browser do not bring an old id back.
        Without one it is the anonymousId of the last event that has one, which also says which of several cookies of
        this name it is (those of a host and of its site). `secure` is whether the browser speaks https.
        """
        known = self.read(headers.get(b"cookie", b""))
        told = _anonymous_id_of(events)
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


def _anonymous_id_of(events: Sequence[Any]) -> str:
    """The anonymousId of the last event that has one that is a text."""
    for event in reversed(events):
        if isinstance(event, dict) and isinstance(known := event.get("anonymousId"), str) and known.strip():
            return known
    return ""
