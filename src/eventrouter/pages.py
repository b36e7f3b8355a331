"""What is read from a collector: settings and the script by clients, its state by operators."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from .acceptance import BodyError
from .address import Address
from .answer import VARY, Answer, not_allowed
from .client_settings import rudderstack_settings, segment_settings
from .errors import UnavailableError
from .script import Script
from .source import Source, find_source
from .write_key import write_keys

Page = Callable[[str, Any, Mapping[bytes, bytes]], Awaitable[Answer]]

_TYPE = b"content-type"
_JSON = (_TYPE, b"application/json")
_SETTINGS = (_JSON, (b"cache-control", b"private, max-age=300"))
"""Settings differ by the host that was asked: no cache that clients share may keep them."""

_PROJECT = re.compile("/v1/projects/(.*)/settings", re.DOTALL)


class Pages:
    """The collector's pages, by their paths."""

    def __init__(
        self,
        *,
        sources: Callable[[], Mapping[str, Source]],
        address: Address,
        script: Script | None,
        ready: Callable[[], Awaitable[Mapping[str, Any]]],
        metrics: Callable[[], Awaitable[bytes]],
    ) -> None:
        self._sources = sources
        self._address = address
        self._script = script
        self._ready = ready
        self._metrics = metrics
        self._for_clients: dict[str, Page] = {"/sourceConfig": self._show_rudderstack_settings}
        if script is not None:
            self._for_clients["/eventrouter.js"] = self._show_script
        self._for_operators: dict[str, Page] = {
            "/health": self._show_health,
            "/ready": self._show_ready,
            "/metrics": self._show_metrics,
        }

    def find(self, path: str, *, prefixed: bool) -> Page | None:
        """The page at `path`, None when there is none. Operators' pages are not below the path prefix."""
        if _PROJECT.fullmatch(path):
            return self._show_segment_settings
        page = self._for_clients.get(path)
        return page if page is not None or prefixed else self._for_operators.get(path)

    async def answer(self, page: Page, path: str, scope: Any, headers: Mapping[bytes, bytes]) -> Answer:
        """The answer of a page that `find` found. Raises `BodyError` when the request is wrong."""
        if scope["method"] not in ("GET", "HEAD"):
            return not_allowed("this is read by GET", b"GET, HEAD, OPTIONS")
        answer = await page(path, scope, headers)
        # With an origin `cors_headers` say it, and what they allow is kept for that one alone. Without one it has to be
        # said too: a page of the collector's own host would leave a copy that pages of other hosts may not read.
        return answer.plus(VARY) if answer.shared and b"origin" not in headers else answer

    async def _show_segment_settings(self, path: str, scope: Any, headers: Mapping[bytes, bytes]) -> Answer:
        key = _PROJECT.sub(r"\1", path)
        source = self._sources().get(key)
        if source is None:
            raise BodyError("unknown_write_key", "no source has this write key", status=404)
        source.admit(None)
        return Answer(200, msgspec.json.encode(segment_settings(key, self._address.url(scope, headers))), _SETTINGS)

    async def _show_rudderstack_settings(self, path: str, scope: Any, headers: Mapping[bytes, bytes]) -> Answer:
        sources = self._sources()
        keys = list(write_keys(headers.get(b"authorization", b""), None, scope["query_string"]))
        source = find_source(sources, keys)
        key = next(key for key in keys if key in sources)
        settings = rudderstack_settings(key, source, self._address.public)
        return Answer(200, msgspec.json.encode(settings), _SETTINGS)

    async def _show_script(self, path: str, scope: Any, headers: Mapping[bytes, bytes]) -> Answer:
        assert self._script is not None
        return self._script.answer(headers)

    async def _show_health(self, path: str, scope: Any, headers: Mapping[bytes, bytes]) -> Answer:
        return Answer(200, b'{"status": "ok"}', shared=False)

    async def _show_ready(self, path: str, scope: Any, headers: Mapping[bytes, bytes]) -> Answer:
        try:
            state = await self._ready()
        except UnavailableError as error:
            state = {"ready": False, "reason": str(error)}
        return Answer(200 if state.get("ready") else 503, msgspec.json.encode(dict(state)), shared=False)

    async def _show_metrics(self, path: str, scope: Any, headers: Mapping[bytes, bytes]) -> Answer:
        kind = b"text/plain; version=0.0.4; charset=utf-8"
        return Answer(200, await self._metrics(), ((_TYPE, kind),), shared=False)
