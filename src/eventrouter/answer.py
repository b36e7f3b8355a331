"""What a collector says to a client: always JSON, and for browsers of any origin."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import msgspec

Headers = tuple[tuple[bytes, bytes], ...]

_ORIGIN = re.compile(rb"[!-~]{1,300}")

_JSON = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response with its whole body."""

    status: int
    body: bytes
    headers: Headers = (_JSON,)

    def closing(self) -> Answer:
        """The same answer, after which the connection ends."""
        return replace(self, headers=(*self.headers, (b"connection", b"close")))

    async def send(self, send: Any, more: Headers = ()) -> None:
        """Sends it through an ASGI `send`, with `more` headers."""
        length = ((b"content-length", b"%d" % len(self.body)),) if self.status != 204 else ()
        headers = [*self.headers, *length, *more]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


SUCCESS = Answer(200, b'{"success": true}')
"""Some clients count nothing else as success."""


def success(rejected: Iterable[dict[str, Any]]) -> Answer:
    """Success for a batch of which some events were refused."""
    return Answer(200, msgspec.json.encode({"success": True, "rejected": list(rejected)}))


def failure(status: int, code: str, message: str, *headers: tuple[bytes, bytes]) -> Answer:
    """An error. Clients that find no `code` and `message` send again for ever."""
    body = msgspec.json.encode({"success": False, "code": code, "message": message})
    return Answer(status, body, (_JSON, *headers))


def cors_headers(origin: bytes | None) -> Headers:
    """Lets a page of `origin` read the answer. Beacons carry credentials, for which `*` is not allowed."""
    if origin is None or not _ORIGIN.fullmatch(origin):
        return ()
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        (b"vary", b"origin"),
    )


def preflight(requested: bytes) -> Answer:
    """The answer to a CORS preflight that asks to send the headers `requested` (comma-separated).

    `*` would not cover Authorization, so each is named; any is allowed, because tracing tools add theirs to every
    request of a page, and a refused header would lose the page's events.
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
