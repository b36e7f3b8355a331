"""The browser's client, as the collector serves it."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from importlib import resources

from .answer import Answer

_HEADERS = (
    (b"content-type", b"text/javascript; charset=utf-8"),
    (b"cache-control", b"public, max-age=3600"),
    (b"access-control-allow-origin", b"*"),
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"vary", b"accept-encoding"),
)


class Script:
    """A script for pages of any origin; it is compressed once. It has no cookie: any cache may keep it for all."""

    def __init__(self, text: bytes) -> None:
        tag = hashlib.sha256(text).hexdigest()[:32].encode()
        self._tags = (b'"%b"' % tag, b'"%b-gzip"' % tag)
        self._bodies = (text, gzip.compress(text, mtime=0))

    @classmethod
    def packaged(cls) -> Script | None:
        """The one in the package; None where it was not built."""
        file = resources.files("eventrouter") / "browser" / "eventrouter.js"
        return cls(file.read_bytes()) if file.is_file() else None

    def answer(self, headers: Mapping[bytes, bytes]) -> Answer:
        """The answer to a GET with these headers: 304 when the client has the script already."""
        zipped = _takes_gzip(headers.get(b"accept-encoding", b""))
        more = [(b"etag", self._tags[zipped])]
        if zipped:
            more.append((b"content-encoding", b"gzip"))
        known = headers.get(b"if-none-match", b"")
        if known.strip() == b"*" or any(tag in known for tag in self._tags):
            return Answer(304, b"", (*_HEADERS, more[0]), shared=False)
        return Answer(200, self._bodies[zipped], (*_HEADERS, *more), shared=False)


def _takes_gzip(accepted: bytes) -> bool:
    for part in accepted.lower().split(b","):
        name, _, quality = part.partition(b";")
        if name.strip() in (b"gzip", b"*"):
            return quality.replace(b" ", b"").rstrip(b"0.") != b"q="
    return False
