"""OpenTelemetry, and all that is known of it: spans for a request, its append, its routing, and the attempts.

The context travels with the events: as `traceparent` in the log, and from the router on in each delivery. A batch may
hold events of many traces: each of them gets a span of its own, up to a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from opentelemetry import propagate
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .acceptance import AcceptedEvent
from .collect import Append
from .events import StoredEvent
from .records import RejectedEvent
from .threads import StoppedError, Threads
from .verdict import Verdict

CLOSE_SECONDS = 2.0
"""How long the last spans may take to be sent."""
MOST = 128
"""Traces of one batch that get a span; what comes beyond is delivered without."""
TELL_SECONDS = 60.0
"""How often it is logged that spans can't be sent."""
NAME = "service.name"

_w3c = TraceContextTextMapPropagator()

log = structlog.get_logger("eventrouter.otel")


class Tracing:
    """Makes spans, and sends them in a thread of its own; what can't be sent is dropped."""

    def __init__(self, environ: Mapping[str, str], exporter: SpanExporter | None = None) -> None:
        """Where to, and all else, is said by the variables of OpenTelemetry, which its SDK reads itself."""
        named = environ.get("OTEL_SERVICE_NAME") or f"{NAME}=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        resource = Resource.create({} if named else {NAME: "eventrouter"})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_Telling(exporter or OTLPSpanExporter())))
        self._tracer = self._provider.get_tracer("eventrouter")

    def around(self, app: Any) -> Any:
        """The ASGI application `app` with a span for each request, in the trace that the client names."""

        async def traced(scope: Any, receive: Any, send: Any) -> None:
            # Other paths take no events, and those of settings hold write keys.
            if scope["type"] != "http" or "/v1/" not in scope["path"] or "/projects/" in scope["path"]:
                await app(scope, receive, send)
                return
            method, path = scope["method"], scope["path"]
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            attributes = {"http.request.method": method, "url.path": path}
            span = self._tracer.start_span(method, propagate.extract(headers), SpanKind.SERVER, attributes)

            async def answer(message: Any) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    span.set_attribute("http.response.status_code", status)
                    if status != 404:  # there are too many paths that are none of ours
                        span.update_name(f"{method} {path}")
                    if status >= 500:
                        span.set_status(Status(StatusCode.ERROR))
                await send(message)

            with use_span(span, end_on_exit=True):
                await app(scope, receive, answer)

        return traced

    def append(self, inner: Append) -> Append:
        """`inner` with a span, whose context goes with the events."""

        async def append(events: Sequence[AcceptedEvent], rejected: Sequence[RejectedEvent]) -> None:
            with self._tracer.start_as_current_span("append", kind=SpanKind.PRODUCER) as span:
                if span.is_recording():
                    span.set_attributes({"eventrouter.events": len(events), "eventrouter.rejected": len(rejected)})
                    with_it = b',"%b"]' % _parent_of(span).encode()
                    events = [event._replace(data=event.data[:-1] + with_it) for event in events]
                await inner(events, rejected)

        return append

    def routing(self, shard: int, events: Sequence[StoredEvent]) -> Routing:
        """Begins the spans of a batch; from now on its events are in them. What is not ended is not told."""
        spans: dict[str, Span] = {}
        inner: dict[str, str] = {}
        for event in events:
            parent = event.traceparent
            if not parent:
                continue
            if parent not in spans:
                if len(spans) == MOST:
                    event.traceparent = ""
                    continue
                spans[parent] = self._start("route", parent, SpanKind.CONSUMER, {"eventrouter.shard": shard})
                inner[parent] = _parent_of(spans[parent])
            event.traceparent = inner[parent]
        return Routing({inner[parent]: span for parent, span in spans.items()}, events)

    def attempted(self, destination: str, shard: int, verdict: Verdict, seconds: float, reason: str) -> None:
        """Spans of an attempt that has just ended, and took so long."""
        ended = time.time_ns()
        outcomes: dict[str, Counter[str]] = {}
        for outcome, hands in (
            ("delivered", verdict.delivered),
            ("failed", [hand for hand, _ in verdict.failed]),
            ("untried", verdict.untried),
        ):
            for hand in hands:
                if hand.delivery is not None and (parent := hand.delivery.traceparent):
                    outcomes.setdefault(parent, Counter())[outcome] += 1
        for parent, counts in _first(outcomes.items()):
            attributes = {"eventrouter.destination": destination, "eventrouter.shard": shard}
            attributes |= {f"eventrouter.{outcome}": number for outcome, number in counts.items()}
            begun = ended - int(seconds * 1e9)
            span = self._start(f"deliver {destination}", parent, SpanKind.CLIENT, attributes, begun)
            if reason and (counts["failed"] or counts["untried"]):
                span.set_status(Status(StatusCode.ERROR, reason))
            span.end(ended)

    def _start(
        self, name: str, parent: str, kind: SpanKind, attributes: Mapping[str, Any], begun: int | None = None
    ) -> Span:
        context = _w3c.extract({"traceparent": parent})
        return self._tracer.start_span(name, context, kind, dict(attributes), start_time=begun)

    async def close(self) -> None:
        """Sends what is left, within bounds."""
        threads = Threads(1, "otel")
        sending = asyncio.ensure_future(threads.run(self._provider.shutdown))
        await asyncio.wait([sending], timeout=CLOSE_SECONDS)
        await threads.stop(0.0, lambda: None)
        with contextlib.suppress(StoppedError):
            await sending


class Routing:
    """The spans of a batch that is being routed."""

    def __init__(self, spans: Mapping[str, Span], events: Sequence[StoredEvent]) -> None:
        self._spans = spans
        self._came = Counter(event.traceparent for event in events) if spans else Counter[str]()

    def end(self, kept: Sequence[StoredEvent]) -> None:
        """The batch is settled; `kept` is what is left of it without duplicates."""
        went = Counter(event.traceparent for event in kept) if self._spans else {}
        for parent, span in self._spans.items():
            number = went.get(parent, 0)
            duplicates = self._came[parent] - number
            span.set_attributes({"eventrouter.events": number, "eventrouter.duplicates": duplicates})
            span.end()


def _first(rows: Iterable[tuple[str, Counter[str]]]) -> list[tuple[str, Counter[str]]]:
    return list(rows)[:MOST]


def _parent_of(span: Span) -> str:
    carrier: dict[str, str] = {}
    _w3c.inject(carrier, set_span_in_context(span))
    return carrier["traceparent"]


class _Telling(SpanExporter):
    """Sends spans by another exporter, and tells in the log that it can't, but not again and again."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._told = -TELL_SECONDS
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it tells each failure, with a traceback

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Runs in the thread that sends."""
        result, why = SpanExportResult.FAILURE, ""
        try:
            result = self._inner.export(spans)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        now = time.monotonic()
        if result is not SpanExportResult.SUCCESS and now - self._told >= TELL_SECONDS:
            self._told = now
            log.warning("spans can't be sent, and are dropped", hint="see OTEL_EXPORTER_OTLP_ENDPOINT", reason=why)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()
