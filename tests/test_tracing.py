"""Traces are made where they are asked for; elsewhere nothing of OpenTelemetry is loaded, and nothing is called."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from enrich_kit import Router, event
from eventrouter import logs
from eventrouter.acceptance import AcceptedEvent
from eventrouter.app import EventRouter
from eventrouter.events import StoredEvent
from eventrouter.settings import Settings
from eventrouter.tracing import tracing_of

RULES = """
version: 1
sources: { website: { write_key: test-key } }
destinations: { out: { plugin: stdout } }
routes: [{ name: all, to: out }]
"""
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        ENDPOINT | {"OTEL_SDK_DISABLED": "true"},
        ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_there_are_none_unless_they_are_asked_for(environ):
    assert tracing_of(environ) is None


@pytest.mark.parametrize(
    "environ",
    [ENDPOINT, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, {"OTEL_TRACES_EXPORTER": "otlp"}],
)
async def test_an_endpoint_or_an_exporter_asks_for_them(environ):
    tracing = tracing_of(environ)
    assert tracing is not None
    await tracing.close()


@pytest.mark.parametrize("more", [{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, {"OTEL_TRACES_EXPORTER": "jaeger"}])
def test_what_is_not_known_is_told(more, capsys):
    assert tracing_of(ENDPOINT | more) is None
    assert "only OTEL_TRACES_EXPORTER=otlp with http/protobuf is known" in capsys.readouterr().out


def test_where_it_is_not_installed_the_log_says_what_to_do(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "eventrouter.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert tracing_of(ENDPOINT) is None
    assert "pip install 'eventrouter[otel]'" in capsys.readouterr().out


async def test_the_keys_of_the_receiver_are_hidden(monkeypatch):
    monkeypatch.setattr(logs, "_hidden", set())
    tracing = tracing_of(ENDPOINT | {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=t0p-s3cret, other=t0p-s3cret-2"})
    assert tracing is not None
    await tracing.close()
    assert "t0p" not in logs.mask("refused: t0p-s3cret and t0p-s3cret-2")


async def test_without_them_nothing_of_it_is_called_or_loaded_for_an_event(lanes, redis, valkey, tmp_path):
    (tmp_path / "routes.yaml").write_text(RULES)
    app = EventRouter.open(Settings(config=tmp_path / "routes.yaml", data_dir=tmp_path, redis_url=valkey))
    turns = await app.start_worker()
    calls: Counter[str] = Counter()

    def count(frame, what, _):
        if what == "call":
            calls[Path(frame.f_code.co_filename).name] += 1

    stored = StoredEvent("website", event(1, "u"))
    sys.setprofile(count)
    try:
        await app.collector()._append([AcceptedEvent("u", msgspec.json.encode(stored))], [])
        for shard in range(app.settings.shards):
            claims, _ = await app.lanes.sweep(shard, everything=True)
            for claim in claims:
                await turns.run(claim.lane, claim.token, "job")
        await asyncio.sleep(0)
    finally:
        sys.setprofile(None)
    await app.close()
    assert calls["enrich.py"] > 0
    assert [calls[name] for name in ("otel.py", "tracing.py")] == [0, 0]


def test_a_process_without_them_does_not_load_the_library(tmp_path):
    (tmp_path / "routes.yaml").write_text(RULES)
    code = (
        "import sys; from eventrouter.app import EventRouter; from eventrouter.settings import Settings;"
        "EventRouter.open(Settings()); print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


async def test_a_router_begins_and_ends_the_spans_of_a_batch(lanes):
    router = Router(lanes)
    told = []

    class Spans:
        def end(self, kept):
            told.append(("end", [one.message_id for one in kept]))

    def traced(shard, events):
        told.append(("begin", shard, [one.message_id for one in events]))
        for one in events:
            one.traceparent = "inner"
        return Spans()

    router.traced = traced
    await router.accept(event(1), event(1), event(2))
    await router.run()
    assert told == [("begin", 0, ["m1", "m1", "m2"]), ("end", ["m1", "m2"])]
    assert [one.traceparent for one in await router.lane("crm")] == ["inner", "inner"]
