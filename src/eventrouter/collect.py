"""The first step of an event's journey: an ASGI application that speaks Segment's HTTP with its clients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import structlog

from .acceptance import Acceptance, AcceptedEvent, BodyError, Client, Limits, Rejection
from .address import Address
from .answer import SUCCESS, Answer, Headers, busy, cors_headers, failure, not_allowed, preflight, success
from .config_model import CollectConfig
from .decode import Decoded, decode
from .errors import UnavailableError
from .events import EVENT_TYPES
from .inflate import inflate
from .pages import Pages
from .pixel import PIXEL, read_pairs, read_pixel, refuse_pixel
from .proxies import Proxies
from .receive import Body, Budget, Disconnected, Hold
from .records import RejectedEvent
from .script import Script
from .scrub import Scrub
from .source import RateLimitedError, Source, find_source
from .validation import EventFault
from .write_key import write_keys

log = structlog.get_logger("eventrouter.collect")

Append = Callable[[Sequence[AcceptedEvent], Sequence[RejectedEvent]], Awaitable[None]]
"""Keeps what was accepted and refused; returns when both are durable, raises `UnavailableError` when they are not."""

_TYPES = {name: type_ for type_ in EVENT_TYPES for name in (type_, type_[0])}
_BATCHES = {"batch": "batch", "b": "batch", "import": "import"}
_PIXEL = "/v1/pixel/"


class Accept(Protocol):
    """What `accept.accept` promises."""

    def __call__(
        self,
        body: Decoded,
        *,
        endpoint: str,
        source: str,
        received_at: datetime,
        limits: Limits,
        client: Client | None,
        scrub: Scrub | None,
    ) -> Acceptance: ...


class Taken(NamedTuple):
    """A request's events, ready to be appended."""

    source: str
    acceptance: Acceptance
    headers: Headers = ()
    """What the answer says beside what became of them."""


class Endpoint(NamedTuple):
    """What is sent to a path."""

    name: str
    """`batch`, `import`, or the type of the event."""
    pixel: bool = False


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
        options: CollectConfig | None = None,
        script: Script | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`ready` returns what `/ready` shows, and under `ready` whether it is; `metrics` returns Prometheus' text."""
        options = options or CollectConfig()
        self.sources = sources
        self.limits = limits or Limits()
        self.refused: Counter[str] = Counter()
        """Requests that were refused, by code, since the start. What became of events is counted in the shards."""
        self.mended: Counter[tuple[str, str]] = Counter()
        """Values that JSON can't hold, and that were replaced, by source and reason, since the start."""
        self._accept = accept
        self._append = append
        self._now = now
        self._budget = Budget(self.limits.max_held_bytes)
        self._proxies = Proxies(options.trusted_proxies)
        self._address = Address(options.public_url, options.path_prefix, self._proxies)
        self._pages = Pages(
            sources=lambda: self.sources, address=self._address, script=script, ready=ready, metrics=metrics
        )
        self._prefix = options.path_prefix
        self._pixels = {f"{_PIXEL}{name}": Endpoint(type_, pixel=True) for name, type_ in _TYPES.items()}
        endpoints = {f"/v1/{name}": Endpoint(type_) for name, type_ in (_TYPES | _BATCHES).items()}
        endpoints["/beacon/v1/batch"] = Endpoint("batch")
        self._endpoints = endpoints | {self._prefix + path: endpoint for path, endpoint in endpoints.items()}

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
        if endpoint is not None or path == "/v1/m":
            if method != "POST":
                self.refused["method_not_allowed"] += 1
                return not_allowed("send events by POST", b"POST, OPTIONS")
            if endpoint is None:  # what clients tell about themselves: taken, and not kept
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
                taken = self._take(await body.read(self.limits, hold), endpoint, scope, headers, hold)
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

    def _take(self, data: bytes, endpoint: Endpoint, scope: Any, headers: dict[bytes, bytes], hold: Hold) -> Taken:
        """What becomes of each event of the body `data`; `hold` then holds what is to be appended."""
        received_at = self._now()
        limits = self.limits
        encoding = headers.get(b"content-encoding")
        packing = "" if encoding is None else encoding.decode("latin-1").strip().lower()
        data = inflate(data, packing, limits.max_batch_bytes)
        hold.resize(len(data))
        if endpoint.pixel:
            pairs = read_pairs(scope["query_string"], data)
            try:
                body = read_pixel(pairs)
            except EventFault as fault:  # nobody reads the answer, so it is a refused event, not a refused request
                source = self._find_source(dict(pairs), scope, headers)
                record = refuse_pixel(pairs, fault, source, received_at)
                hold.resize(len(record.payload))
                return Taken(source.name, Acceptance(rejections=[Rejection(0, record)]))
        else:
            body = decode(data)
        source = self._find_source(body.value, scope, headers)
        source.count(body.value)
        acceptance = self._accept(
            body,
            endpoint=endpoint.name,
            source=source.name,
            received_at=received_at,
            limits=limits,
            client=Client(self._proxies.client_ip(scope), headers.get(b"user-agent", b"").decode("latin-1")),
            scrub=source.scrub,
        )
        size = sum([len(event.data) for event in acceptance.events])
        if acceptance.rejections:
            size += sum([len(rejection.record.payload) for rejection in acceptance.rejections])
        hold.resize(size)
        if source.cookie is not None and (endpoint.pixel or b"origin" in headers):
            secure = self._address.is_https(scope, headers)
            return Taken(source.name, acceptance, source.cookie.renew(body.value, headers, secure=secure))
        return Taken(source.name, acceptance)

    def _find_source(self, value: Any, scope: Any, headers: dict[bytes, bytes]) -> Source:
        keys = write_keys(headers.get(b"authorization", b""), value, scope["query_string"])
        source = find_source(self.sources, keys)
        source.admit(headers.get(b"origin"))
        return source

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
