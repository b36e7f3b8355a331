"""Where in a request a client puts its write key."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs


def write_keys(authorization: bytes, value: Any, query: bytes) -> Iterator[str]:
    """The write keys that a request names, in the order in which they are to be tried; there may be several.

    Basic `KEY:` (the colon may be missing), `writeKey` in the body (`value` is its JSON), `?writeKey=`, and last a
    Bearer token, because clients that log in by OAuth put their key into the body.
    """
    scheme, _, credentials = authorization.strip().partition(b" ")
    scheme = scheme.lower()
    credentials = credentials.strip()
    if scheme == b"basic" and (key := _read_basic(credentials)):
        yield key
    if isinstance(value, dict) and isinstance(named := value.get("writeKey"), str) and named:
        yield named
    if query:
        yield from _read_query(query)
    if scheme == b"bearer" and credentials:
        yield credentials.decode("latin-1")


def _read_basic(credentials: bytes) -> str:
    try:
        decoded = b64decode(credentials + b"=" * (-len(credentials) % 4))
    except ValueError:
        return ""
    return decoded.decode("utf-8", "replace").partition(":")[0]


def _read_query(query: bytes) -> list[str]:
    try:
        return parse_qs(query.decode("latin-1"), max_num_fields=100).get("writeKey", [])
    except ValueError:
        return []
