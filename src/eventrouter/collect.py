"""The first step of an event's journey: an ASGI application that speaks Segment's HTTP with its clients."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
import structlog

from .acceptance import Acceptance, AcceptedEvent, BodyError, Limits
from .answer import SUCCESS, Answer, cors_headers, failure, preflight, success
from .decode import Decoded, decode
from .errors import UnavailableError
from .events import EVENT_TYPES
from .inflate import inflate
from .receive import Body, Budget, Disconnected, Hold
from .records import RejectedEvent
from .source import Source
from .write_key import write_keys

log = structlog.get_logger("eventrouter.collect")

Append = Callable[[Sequence[AcceptedEvent], Sequence[RejectedEvent]], Awaitable[None]]
"""Keeps what was accepted and refused; returns when both are durable, raises `UnavailableError` when they are not."""

BATCHES = ("batch", "import")

_SHORT = {"t": "track", "i": "identify", "p": "page", "s": "screen", "g": "group", "a": "alias", "b": "batch"}


class Accept(Protocol):
    """What `accept.accept` promises."""

    def __call__(
        self, body: Decoded, *, endpoint: str, source: str, received_at: datetime, limits: Limits
    ) -> Acceptance: ...


class Collector:
    """The collector's HTTP, as an ASGI application.

    Answers 200 only when `append` has returned. Malformed traffic never makes it answer 5xx, and nothing makes it log a
    body or a write key. `sources` (by write key) and `limits` (but for `max_held_bytes`) may be replaced at any time.
    """

    def __init__(
        self,
        *,
        sources: Mapping[str, Source],
        accept: Accept,
        append: Append,
        ready: Callable[[], Awaitable[Mapping[str, Any]]],
        metrics: Callable[[], Awaitable[bytes]],
        limits: Limits | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`ready` returns what `/ready` shows, and under `ready` whether it is; `metrics` returns Prometheus' text."""
        self.sources = sources
        self.limits = limits or Limits()
        self.refused: Counter[str] = Counter()
        """Requests that were refused, by code, since the start. What became of events is counted in the shards."""
        self.mended: Counter[tuple[str, str]] = Counter()
        """Values that JSON can't hold, and that were replaced, by source and reason, since the start."""
        self._accept = accept
        self._append = append
        self._ready = ready
        self._metrics = metrics
        self._now = now
        self._budget = Budget(self.limits.max_held_bytes)
        names = (*EVENT_TYPES, *BATCHES)
        self._endpoints = {f"/v1/{name}": name for name in names}
        self._endpoints |= {f"/v1/{short}": name for short, name in _SHORT.items()}
        self._endpoints["/beacon/v1/batch"] = "batch"
        self._pages: dict[str, Callable[[], Awaitable[Answer]]] = {
            "/health": self._show_health,
            "/ready": self._show_ready,
            "/metrics": self._show_metrics,
        }

    @property
    def held_bytes(self) -> int:
        """How many bytes of requests are in memory now."""
        return self._budget.held

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handles one connection of the ASGI server: HTTP requests, and the server's own start and stop."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"the collector speaks HTTP, not {scope['type']}")
        headers = dict(reversed(scope["headers"]))
        try:
            answer = await self._answer(scope, headers, receive)
        except Disconnected:
            self.refused["disconnected"] += 1
            return
        except Exception:
            self.refused["internal_error"] += 1
            log.exception("a request failed", endpoint=self._endpoints.get(scope["path"], ""))
            answer = failure(500, "internal_error", "the collector failed; send the events again later")
        await answer.send(send, cors_headers(headers.get(b"origin")))

    async def _answer(self, scope: Any, headers: dict[bytes, bytes], receive: Any) -> Answer:
        path = scope["path"]
        method = scope["method"]
        endpoint = self._endpoints.get(path)
        if endpoint is None and path not in self._pages:
            path = "/" + path.strip("/")  # a host that was configured with a slash at its end
            endpoint = self._endpoints.get(path)
        if endpoint is not None and method == "POST":
            return await self._collect(endpoint, scope["query_string"], headers, receive)
        if method == "OPTIONS":
            return preflight(headers.get(b"access-control-request-headers", b""))
        if endpoint is not None:
            self.refused["method_not_allowed"] += 1
            return failure(405, "method_not_allowed", "send events by POST", (b"allow", b"POST, OPTIONS"))
        if path == "/v1/m" and method == "POST":  # what clients tell about themselves: taken, and not kept
            return SUCCESS
        page = self._pages.get(path)
        if page is None:
            self.refused["not_found"] += 1
            return failure(404, "not_found", "there is nothing here; events go to POST /v1/batch")
        if method not in ("GET", "HEAD"):
            return failure(405, "method_not_allowed", "this is read by GET", (b"allow", b"GET, HEAD, OPTIONS"))
        return await page()

    async def _collect(self, endpoint: str, query: bytes, headers: dict[bytes, bytes], receive: Any) -> Answer:
        body = Body(receive, _read_length(headers.get(b"content-length")))
        try:
            with self._budget.hold() as hold:
                source, acceptance = self._take(await body.read(self.limits, hold), endpoint, query, headers, hold)
                await self._append(acceptance.events, acceptance.rejected)
        except BodyError as error:
            self.refused[error.code] += 1
            answer = failure(error.status, error.code, str(error))
        except UnavailableError as error:
            self.refused["unavailable"] += 1
            after = b"%d" % max(1, math.ceil(error.retry_after or 1))
            answer = failure(503, "unavailable", f"{error}; send the events again later", (b"retry-after", after))
        else:
            return self._report(endpoint, source, acceptance)
        # A client that still sends when the connection ends does not see why: it would only try again.
        if answer.status == 408 or b"expect" in headers or not await body.drain():
            return answer.closing()
        return answer

    def _take(
        self, data: bytes, endpoint: str, query: bytes, headers: dict[bytes, bytes], hold: Hold
    ) -> tuple[str, Acceptance]:
        """The source, and what becomes of each event of the body `data`; `hold` then holds what is to be appended."""
        received_at = self._now()
        limits = self.limits
        encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
        data = inflate(data, encoding, limits.max_batch_bytes)
        hold.resize(len(data))
        body = decode(data)
        source = self._find_source(write_keys(headers.get(b"authorization", b""), body.value, query))
        acceptance = self._accept(body, endpoint=endpoint, source=source, received_at=received_at, limits=limits)
        size = sum([len(event.data) for event in acceptance.events])
        hold.resize(size + sum([len(record.payload) for record in acceptance.rejected]))
        return source, acceptance

    def _find_source(self, keys: Iterator[str]) -> str:
        """The name of the source of the first of `keys` that is known."""
        code, message = "missing_write_key", "the request has no write key; send it as the user name of Basic auth"
        for key in keys:
            source = self.sources.get(key)
            if source is None:
                code, message = "unknown_write_key", "no source has this write key"
            elif source.enabled:
                return source.name
            else:
                raise BodyError("source_disabled", "the source of this write key is switched off", status=403)
        raise BodyError(code, message, status=401)

    def _report(self, endpoint: str, source: str, acceptance: Acceptance) -> Answer:
        """Counts what was mended and is durable now, and tells the client what became of its events."""
        for reason, count in acceptance.mended.items():
            self.mended[source, reason] += count
        if not acceptance.rejections:
            return SUCCESS
        if endpoint not in BATCHES:
            record = acceptance.rejections[0].record
            return failure(400, record.code, record.message)
        return success(
            {
                "index": rejection.index,
                "code": rejection.record.code,
                "message": rejection.record.message,
                "messageId": rejection.record.message_id,
            }
            for rejection in acceptance.rejections
        )

    async def _show_health(self) -> Answer:
        return Answer(200, b'{"status": "ok"}')

    async def _show_ready(self) -> Answer:
        try:
            state = await self._ready()
        except UnavailableError as error:
            state = {"ready": False, "reason": str(error)}
        return Answer(200 if state.get("ready") else 503, msgspec.json.encode(dict(state)))

    async def _show_metrics(self) -> Answer:
        kind = b"text/plain; version=0.0.4; charset=utf-8"
        return Answer(200, await self._metrics(), ((b"content-type", kind),))


def _read_length(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() and len(value) < 20 else None


async def _live(receive: Any, send: Any) -> None:
    """ASGI's lifespan: there is nothing to start or stop here."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
