"""Traces: from a client's request to the attempts at destinations, sent by OTLP to a real receiver."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from concurrent.futures import Future

import msgspec
import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode

from cli_kit import RULES, Place, wait_until
from deliver_kit import delivery
from eventrouter.acceptance import AcceptedEvent
from eventrouter.delivery import InHand, Tries
from eventrouter.errors import Retry
from eventrouter.events import StoredEvent
from eventrouter.lane import Item
from eventrouter.otel import MOST, Tracing
from eventrouter.verdict import Verdict
from otel_kit import attributes, receiving

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class Kept(SpanExporter):
    """Keeps spans in memory."""

    def __init__(self) -> None:
        self.spans = []

    def export(self, spans):
        self.spans += spans
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass


@pytest.fixture
async def made():
    kept = Kept()
    tracing = Tracing({}, kept)
    tracing.kept = kept
    yield tracing
    await tracing.close()


def spans(tracing: Tracing) -> list:
    """What it has sent, by the time."""
    tracing._provider.force_flush()
    return sorted(tracing.kept.spans, key=lambda span: span.start_time)


async def request(app, path: str = "/v1/track", headers=(), status: int = 200) -> None:
    sent = []

    async def send(message):
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": path, "headers": list(headers)}, None, send)
    assert [message["status"] for message in sent] == [status]


def answering(status: int = 200, inside=None):
    async def app(scope, receive, send):
        if inside is not None:
            await inside([AcceptedEvent("u", b'["web",{}]')], [])
        await send({"type": "http.response.start", "status": status, "headers": []})

    return app


def number(context) -> str:
    return f"{context.trace_id:032x}"


async def test_a_request_is_a_span_in_the_trace_that_the_client_names(made):
    await request(made.around(answering()), headers=[(b"traceparent", PARENT.encode())])
    [span] = spans(made)
    assert (span.name, number(span.context), f"{span.parent.span_id:016x}") == (
        "POST /v1/track",
        TRACE,
        "b7ad6b7169203331",
    )
    assert dict(span.attributes) == {
        "http.request.method": "POST",
        "url.path": "/v1/track",
        "http.response.status_code": 200,
    }


async def test_without_a_name_a_request_begins_a_trace(made):
    await request(made.around(answering()))
    [span] = spans(made)
    assert span.parent is None


async def test_a_request_that_fails_is_an_error_and_a_path_that_is_none_gives_no_name(made):
    await request(made.around(answering(503)), status=503)
    await request(made.around(answering(404)), "/v1/whatever", status=404)
    failed, unknown = spans(made)
    assert (failed.status.status_code, unknown.name) == (StatusCode.ERROR, "POST")


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/v1/projects/write-key/settings"])
async def test_what_takes_no_events_has_no_span(made, path):
    await request(made.around(answering()), path)
    assert spans(made) == []


async def test_what_is_no_request_passes(made):
    passed = []

    async def app(scope, receive, send):
        passed.append(scope["type"])

    await made.around(app)({"type": "lifespan"}, None, None)
    assert passed == ["lifespan"]


async def test_an_append_is_within_its_request_and_its_context_goes_with_the_events(made):
    taken = []

    async def append(events, rejected):
        taken.extend(events)

    await request(made.around(answering(inside=made.append(append))))
    outer, inner = spans(made)
    assert (inner.name, inner.parent.span_id) == ("append", outer.context.span_id)
    stored = msgspec.json.decode(taken[0].data, type=StoredEvent)
    assert stored.traceparent[:-1] == f"00-{number(inner.context)}-{inner.context.span_id:016x}-0"
    assert (stored.source, stored.event, taken[0].order_key) == ("web", {}, "u")


async def test_an_append_that_fails_is_an_error(made):
    async def append(events, rejected):
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        await made.append(append)([], [])
    [span] = spans(made)
    assert span.status.status_code == StatusCode.ERROR


async def test_a_trace_that_is_not_sampled_does_not_burden_events(monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    tracing = Tracing({}, Kept())
    taken = []

    async def append(events, rejected):
        taken.extend(events)

    await tracing.append(append)([AcceptedEvent("u", b'["web",{}]')], [])
    assert taken[0].data == b'["web",{}]'
    await tracing.close()


def stored(*parents: str) -> list[StoredEvent]:
    return [StoredEvent("web", {"messageId": f"m{place}"}, parent) for place, parent in enumerate(parents)]


async def test_each_trace_of_a_batch_has_a_span_of_its_routing_and_events_go_on_in_it(made):
    other = f"00-{'1' * 32}-{'2' * 16}-01"
    events = stored(PARENT, other, PARENT, "")
    made.routing(3, events).end([events[0], events[1], events[3]])
    first, second = sorted(spans(made), key=lambda span: span.context.trace_id)
    assert (number(first.context), number(second.context)) == (TRACE, "1" * 32)
    assert dict(first.attributes) == {"eventrouter.shard": 3, "eventrouter.events": 1, "eventrouter.duplicates": 1}
    assert dict(second.attributes) == {"eventrouter.shard": 3, "eventrouter.events": 1, "eventrouter.duplicates": 0}
    inner = f"00-{TRACE}-{first.context.span_id:016x}-01"  # the flags are the client's
    assert [event.traceparent for event in events][::2] == [inner, inner]
    assert events[3].traceparent == ""


async def test_of_many_traces_in_a_batch_only_so_many_have_spans(made):
    events = stored(*(f"00-{place + 1:032x}-{place + 1:016x}-01" for place in range(MOST + 5)))
    made.routing(0, events).end(events)
    assert len(spans(made)) == MOST
    assert [event.traceparent for event in events[MOST:]] == [""] * 5


def hand(parent: str, message_id: str = "m") -> InHand:
    one = msgspec.structs.replace(delivery(message_id), traceparent=parent)
    return InHand(Item("1-0", False, "k", 1, b""), [], one, Tries())


async def test_an_attempt_is_a_span_in_each_trace_with_its_outcomes_and_its_time(made):
    other = f"00-{'1' * 32}-{'2' * 16}-01"
    failure = Retry("HTTP 503")
    verdict = Verdict(delivered=[hand(PARENT)], failed=[(hand(other), failure)], untried=[hand(other), hand("")])
    made.attempted("crm", 2, verdict, 1.5, "HTTP 503")
    first, second = sorted(spans(made), key=lambda span: span.context.trace_id)
    assert (first.name, first.end_time - first.start_time) == ("deliver crm", 1_500_000_000)
    common = {"eventrouter.destination": "crm", "eventrouter.shard": 2}
    assert dict(first.attributes) == common | {"eventrouter.delivered": 1}
    assert dict(second.attributes) == common | {"eventrouter.failed": 1, "eventrouter.untried": 1}
    assert (first.status.status_code, second.status.description) == (StatusCode.UNSET, "HTTP 503")


async def test_the_warehouse_has_no_spans(made):
    made.attempted(
        "warehouse", 0, Verdict(delivered=[InHand(Item("1-0", False, "", 1, b""), [], None, Tries())]), 1.0, ""
    )
    assert spans(made) == []


async def test_spans_that_can_not_be_sent_are_dropped_and_told_once(capsys):
    class Failing(Kept):
        def export(self, spans):
            raise OSError("refused")

    tracing = Tracing({}, Failing())
    for _ in range(3):
        await request(tracing.around(answering()))
        tracing._provider.force_flush()
    await tracing.close()
    assert capsys.readouterr().out.count("spans can't be sent") == 1


async def test_closing_waits_for_nobody(monkeypatch):
    monkeypatch.setattr("eventrouter.otel.CLOSE_SECONDS", 0.05)
    stuck = asyncio.Event()

    class Slow(Kept):
        def shutdown(self):
            loop.call_soon_threadsafe(stuck.set)
            release.result()

    loop, release = asyncio.get_running_loop(), Future()
    await Tracing({}, Slow()).close()
    assert stuck.is_set()
    release.set_result(None)


def test_a_trace_goes_from_the_client_to_the_destination(tmp_path):
    rules = RULES + "destinations: { out: { plugin: stdout } }\nroutes: [{ name: all, to: out }]\n"
    with receiving() as receiver:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=t0p-s3cret",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_SERVICE_NAME": "shop-events",
        }
        place = Place(tmp_path, rules, **environment)
        try:
            up = place.up()
            body = json.dumps({"event": "Bought", "userId": "u", "writeKey": "test-key"}).encode()
            headers = {"traceparent": PARENT, "content-type": "application/json"}
            with urllib.request.urlopen(urllib.request.Request(f"{place.url}/v1/track", body, headers)) as answer:
                assert answer.status == 200
            wait_until(lambda: receiver.named("deliver out"))
            assert place.stop(up) == 0
        finally:
            place.close()
    chain = [receiver.named(name) for name in ("POST /v1/track", "append", "route", "deliver out")]
    assert [len(one) for one in chain] == [1, 1, 1, 1]
    ids = [bytes.fromhex("b7ad6b7169203331"), *(one[0].span_id for one in chain)]
    assert [one[0].parent_span_id for one in chain] == ids[:-1]
    assert {one[0].trace_id.hex() for one in chain} == {TRACE}
    assert {service for service, _ in receiver.spans} == {"shop-events"}
    assert attributes(chain[3][0])["eventrouter.delivered"] == 1
    assert receiver.headers[0]["api-key"] == "t0p-s3cret"
    assert "t0p-s3cret" not in place.out + place.err
