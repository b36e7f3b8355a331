"""The first step of an event's journey: an ASGI application that speaks Segment's HTTP with its clients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from .acceptance import Acceptance, AcceptedEvent, BodyError, Limits
from .address import Address
from .answer import SUCCESS, Answer, busy, cors_headers, failure, not_allowed, preflight, success
from .config_model import CollectConfig
from .errors import UnavailableError
from .events import EVENT_TYPES
from .pages import Pages
from .pixel import PIXEL
from .proxies import Proxies
from .receive import Body, Budget, Disconnected
from .reception import Accept, Endpoint, Reception
from .records import RejectedEvent
from .script import Script
from .source import RateLimitedError, Source

log = structlog.get_logger("eventrouter.collect")

Append = Callable[[Sequence[AcceptedEvent], Sequence[RejectedEvent]], Awaitable[None]]
"""Keeps what was accepted and refused; returns when both are durable, raises `UnavailableError` when they are not."""

_TYPES = {name: type_ for type_ in EVENT_TYPES for name in (type_, type_[0])}
_BATCHES = {"batch": "batch", "b": "batch", "import": "import"}
_PIXEL = "/v1/pixel/"
_WEBHOOK = "/v1/webhook/"


class Collector:
    """The collector's HTTP, as an ASGI application.

    Answers 200 only when `append` has returned. Malformed traffic never makes it answer 5xx, and nothing makes it log a
    body or a write key.
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
        options: CollectConfig | None = None,
        script: Script | None = None,
        webhooks: Mapping[str, Source] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`ready` returns what `/ready` shows, and under `ready` whether it is; `metrics` returns Prometheus' text."""
        options = options or CollectConfig()
        self.refused: Counter[str] = Counter()
        """Requests that were refused, by code, since the start. What became of events is counted in the shards."""
        self.mended: Counter[tuple[str, str]] = Counter()
        """Values that JSON can't hold, and that were replaced, by source and reason, since the start."""
        self.ignored: Counter[str] = Counter()
        """Webhooks whose `when` is false, by source."""
        self.measurements = 0
        """Requests with what clients measure about themselves, which nobody keeps."""
        limits = limits or Limits()
        proxies = Proxies(options.trusted_proxies)
        address = Address(options.public_url, options.path_prefix, proxies)
        self.reception = Reception(
            sources=sources,
            webhooks=webhooks or {},
            accept=accept,
            limits=limits,
            proxies=proxies,
            address=address,
            now=now,
        )
        """What the rules and limits are kept in: they may be replaced there (but for `max_held_bytes`)."""
        self._append = append
        self._budget = Budget(limits.max_held_bytes)
        self._pages = Pages(
            sources=lambda: self.reception.sources, address=address, script=script, ready=ready, metrics=metrics
        )
        self._prefix = options.path_prefix
        self._pixels = {f"{_PIXEL}{name}": Endpoint(type_, form="pixel") for name, type_ in _TYPES.items()}
        endpoints = {f"/v1/{name}": Endpoint(type_) for name, type_ in (_TYPES | _BATCHES).items()}
        endpoints["/beacon/v1/batch"] = Endpoint("batch")
        self._endpoints = endpoints | {self._prefix + path: endpoint for path, endpoint in endpoints.items()}

    def counted(self) -> dict[str, dict[tuple[str, ...], int]]:
        """What it counted since it started, by the names of its metrics and their labels."""
        return {
            "collector_requests_refused": {(code,): count for code, count in self.refused.items()},
            "collector_values_mended": dict(self.mended.items()),
            "collector_webhooks_ignored": {(source,): count for source, count in self.ignored.items()},
            "collector_measurements_dropped": {(): self.measurements},
        }

    def count_refused(self, code: str) -> None:
        """Counts a request that its server refused, by the code of the answer."""
        self.refused[code] += 1

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
            endpoint = self._endpoints.get(scope["path"])
            if endpoint is not None and scope["method"] == "POST":
                answer = await self._collect(endpoint, scope, headers, receive)
            else:
                answer = await self._answer(scope, headers, receive)
        except Disconnected:
            self.refused["disconnected"] += 1
            return
        except Exception:
            self.refused["internal_error"] += 1
            known = self._endpoints.get(scope["path"])
            log.exception("a request failed", endpoint=known.name if known else "")
            answer = failure(500, "internal_error", "the collector failed; send the events again later")
        origin = headers.get(b"origin")
        await answer.send(send, cors_headers(origin) if origin is not None and answer.shared else ())

    async def _answer(self, scope: Any, headers: dict[bytes, bytes], receive: Any) -> Answer:
        """Answers whatever is not simply an event that is posted."""
        method = scope["method"]
        if method == "OPTIONS":
            return preflight(headers.get(b"access-control-request-headers", b""))
        path = "/" + scope["path"].strip("/")  # a host that was configured with a slash at its end
        prefixed = bool(self._prefix) and path.startswith(self._prefix + "/")
        if prefixed:
            path = "/" + path.removeprefix(self._prefix).strip("/")
        if path.startswith(_PIXEL):
            return await self._show_pixel(path, scope, headers, receive)
        endpoint = self._endpoints.get(path)
        if path.startswith(_WEBHOOK) and (source := self.reception.webhooks.get(path.removeprefix(_WEBHOOK))):
            endpoint = Endpoint("batch", form="webhook", source=source)
        if endpoint is not None or path == "/v1/m":
            if method != "POST":
                self.refused["method_not_allowed"] += 1
                return not_allowed("send events by POST", b"POST, OPTIONS")
            if endpoint is None:  # what clients tell about themselves: taken, and not kept
                self.measurements += 1
                return SUCCESS
            return await self._collect(endpoint, scope, headers, receive)
        page = self._pages.find(path, prefixed=prefixed)
        if page is None:
            self.refused["not_found"] += 1
            return failure(404, "not_found", "there is nothing here; events go to POST /v1/batch")
        try:
            return await self._pages.answer(page, path, scope, headers)
        except BodyError as error:
            return self._refuse(error)

    async def _show_pixel(self, path: str, scope: Any, headers: dict[bytes, bytes], receive: Any) -> Answer:
        """A pixel, once its event is kept or refused: nobody would see another answer."""
        method = scope["method"]
        if method not in ("GET", "HEAD", "POST"):
            self.refused["method_not_allowed"] += 1
            return not_allowed("a pixel is read by GET", b"GET, HEAD, POST, OPTIONS")
        endpoint = self._pixels.get(path)
        if endpoint is None:
            self.refused["not_found"] += 1
        elif method != "HEAD":
            answer = await self._collect(endpoint, scope, headers, receive)
            return PIXEL.plus(*[header for header in answer.headers if header[0] in (b"set-cookie", b"connection")])
        return PIXEL

    async def _collect(self, endpoint: Endpoint, scope: Any, headers: dict[bytes, bytes], receive: Any) -> Answer:
        body = Body(receive, _read_length(headers.get(b"content-length")))
        try:
            with self._budget.hold() as hold:
                data = await body.read(self.reception.limits, hold)
                taken = self.reception.take(data, endpoint, scope, headers, hold)
                if taken.ignored:
                    self.ignored[taken.source] += 1
                else:
                    await self._append(taken.acceptance.events, taken.acceptance.rejected)
        except BodyError as error:
            answer = self._refuse(error)
        except UnavailableError as error:
            status, code = (429, "rate_limited") if isinstance(error, RateLimitedError) else (503, "unavailable")
            self.refused[code] += 1
            answer = busy(status, code, f"{error}; send the events again later", error.retry_after)
        else:
            answer = self._report(endpoint, taken.source, taken.acceptance)
            return answer.plus(*taken.headers) if taken.headers else answer
        # A client that still sends when the connection ends does not see why: it would only try again.
        if answer.status == 408 or b"expect" in headers or not await body.drain():
            return answer.closing()
        return answer

    def _report(self, endpoint: Endpoint, source: str, acceptance: Acceptance) -> Answer:
        """Counts what was mended and is durable now, and tells the client what became of its events."""
        for reason, count in acceptance.mended.items():
            self.mended[source, reason] += count
        if not acceptance.rejections:
            return SUCCESS
        if endpoint.name in EVENT_TYPES:
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

    def _refuse(self, error: BodyError) -> Answer:
        self.refused[error.code] += 1
        return failure(error.status, error.code, str(error))


def _read_length(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() and len(value) < 20 else None


async def _live(receive: Any, send: Any) -> None:
    """ASGI's lifespan: there is nothing to start or stop here."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
