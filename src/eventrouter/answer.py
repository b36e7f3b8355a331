"""What a collector says to a client: JSON, save where a browser wants a picture or a script."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

Header = tuple[bytes, bytes]
Headers = tuple[Header, ...]

_ORIGIN = re.compile(rb"[!-~]{1,300}")

_JSON = (b"content-type", b"application/json")
VARY = (b"vary", b"origin")
"""The answer is another one for pages of another origin: no cache may hand it on to these."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response with its whole body."""

    status: int
    body: bytes
    headers: Headers = (_JSON,)
    shared: bool = True
    """Whether pages of the origin that asks may read it; False for what operators read."""
    _all: Headers = field(init=False, repr=False, compare=False)
    """The headers with the body's length: the same for each success."""

    def __post_init__(self) -> None:
        length = () if self.status in (204, 304) else ((b"content-length", b"%d" % len(self.body)),)
        object.__setattr__(self, "_all", (*self.headers, *length))

    def plus(self, *headers: Header) -> Answer:
        """The same answer with more headers."""
        return Answer(self.status, self.body, (*self.headers, *headers), self.shared)

    def closing(self) -> Answer:
        """The same answer, after which the connection ends."""
        return self.plus((b"connection", b"close"))

    async def send(self, send: Any, more: Headers = ()) -> None:
        """Sends it through an ASGI `send`, with `more` headers."""
        await send({"type": "http.response.start", "status": self.status, "headers": [*self._all, *more]})
        await send({"type": "http.response.body", "body": self.body})


SUCCESS = Answer(200, b'{"success": true}')
"""Some clients count nothing else as success."""


def success(rejected: Iterable[dict[str, Any]]) -> Answer:
    """Success for a batch of which some events were refused."""
    return Answer(200, msgspec.json.encode({"success": True, "rejected": list(rejected)}))


def failure(status: int, code: str, message: str, *headers: Header) -> Answer:
    """An error. Clients that find no `code` and `message` send again for ever."""
    body = msgspec.json.encode({"success": False, "code": code, "message": message})
    return Answer(status, body, (_JSON, *headers))


def busy(status: int, code: str, message: str, seconds: float | None) -> Answer:
    """An error that will be over in about `seconds`: Retry-After says so, to the scripts of other origins too."""
    after = b"%d" % max(1, math.ceil(seconds or 1))
    return failure(status, code, message, (b"retry-after", after), (b"access-control-expose-headers", b"retry-after"))


def not_allowed(message: str, methods: bytes) -> Answer:
    """The error for a method that a path does not have; `methods` are those that it has."""
    return failure(405, "method_not_allowed", message, (b"allow", methods))


def cors_headers(origin: bytes) -> Headers:
    """Lets a page of `origin` read the answer. Beacons carry credentials, for which `*` is not allowed."""
    if not _ORIGIN.fullmatch(origin):
        return (VARY,)
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        VARY,
    )


def preflight(requested: bytes) -> Answer:
    """The answer to a CORS preflight that asks to send the headers `requested` (comma-separated).

    `*` would not cover Authorization, so each is named; any is allowed, because tracing tools add theirs to every
    request of a page, and a refused header would lose the page's events. A preflight carries no write key, so pages
    of any origin get it: those that may not send read so in the answer to their request, and do not try again.
    """
    names = {b"authorization", b"content-type", b"content-encoding", b"anonymousid", b"sentat"}
    names |= {name for part in requested.lower().split(b",") if _is_token(name := part.strip())}
    headers = (
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-allow-headers", b", ".join(sorted(names))),
        (b"access-control-max-age", b"86400"),
    )
    return Answer(204, b"", headers)


def _is_token(name: bytes) -> bool:
    return 0 < len(name) <= 100 and name.replace(b"-", b"").replace(b"_", b"").isalnum()
