"""Whether traces are wanted: by OpenTelemetry's own variables, where its packages are installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

from . import logs

if TYPE_CHECKING:
    from .otel import Tracing

log = structlog.get_logger("eventrouter.tracing")

NO_TRACING: Tracing | None = None
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")


def tracing_of(environ: Mapping[str, str]) -> Tracing | None:
    """What makes spans; None where nobody asked for them, and then nothing of OpenTelemetry is even imported.

    An endpoint switches it on, and so does `OTEL_TRACES_EXPORTER=otlp`; that variable with `none` and
    `OTEL_SDK_DISABLED=true` switch it off.
    """
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if disabled or exporter == "none" or not (exporter or any(map(environ.get, ENDPOINTS))):
        return None
    protocol = next(filter(None, map(environ.get, PROTOCOLS)), "http/protobuf")
    if exporter not in ("", "otlp") or protocol != "http/protobuf":
        log.warning(
            "there are no traces: only OTEL_TRACES_EXPORTER=otlp with http/protobuf is known",
            exporter=exporter,
            protocol=protocol,
        )
        return None
    for name in HEADERS:
        logs.hide(*(pair.partition("=")[2].strip() for pair in environ.get(name, "").split(",")))
    try:
        from .otel import Tracing
    except ImportError as error:
        log.warning("there are no traces: pip install 'eventrouter[otel]'", missing=error.name)
        return None
    return Tracing(environ)
