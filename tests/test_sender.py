"""Sending a file: every line once and in order, faults told by line, patience with a busy collector."""

from __future__ import annotations

import io
import json

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from eventrouter.errors import EventRouterError, UnavailableError
from eventrouter.sender import Sender

OK = (200, {"success": True}, {})


class Collector:
    """A collector whose answers a test chooses; keeps what came."""

    def __init__(self, server: HTTPServer) -> None:
        self.bodies: list[list[dict]] = []
        self.answers: list[tuple[int, dict, dict]] = []
        self.keys: list[str] = []
        self.max_events = 2500
        server.expect_request("/v1/batch", method="POST").respond_with_handler(self.answer)

    def answer(self, request: Request) -> Response:
        self.keys.append(request.authorization.username)
        batch = json.loads(request.data)["batch"]
        if self.answers:
            status, body, headers = self.answers.pop(0)
            if status != 200:
                return Response(json.dumps(body), status, headers)
        else:
            body = {"success": True}
        if len(batch) > self.max_events:
            return Response('{"code": "too_large", "message": "too many"}', 413)
        self.bodies.append(batch)
        return Response(json.dumps(body), 200)

    @property
    def events(self) -> list[dict]:
        return [event for batch in self.bodies for event in batch]


@pytest.fixture
def collector(httpserver):
    return Collector(httpserver)


@pytest.fixture
def send(httpserver):
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    async def send(text: str | bytes, name: str = "f.jsonl", **options):
        sender = Sender(httpserver.url_for("/"), "key", wait=wait, **options)
        data = text.encode() if isinstance(text, str) else text
        return await sender.send(io.BytesIO(data), name)

    send.waits = waits
    return send


def lines(count: int) -> str:
    return "".join(json.dumps({"type": "track", "event": "E", "userId": f"u{n}"}) + "\n" for n in range(count))


async def test_events_go_in_order_in_batches_of_a_hundred(collector, send):
    report = await send(lines(250))
    assert [len(batch) for batch in collector.bodies] == [100, 100, 50]
    assert [event["userId"] for event in collector.events] == [f"u{n}" for n in range(250)]
    assert (report.sent, report.faults, set(collector.keys)) == (250, [], {"key"})


async def test_long_events_make_smaller_batches(collector, send):
    event = json.dumps({"userId": "u", "properties": {"text": "x" * 30_000}})
    await send(f"{event}\n" * 30)
    assert [len(batch) for batch in collector.bodies] == [13, 13, 4]


async def test_an_event_is_sent_as_it_is_written(collector, send, httpserver):
    text = '{"userId":"u","messageId":"m","properties":{"n":123456789012345678901234567890,"x":1.10}}'
    await send(text)
    assert httpserver.log[0][0].data == b'{"batch":[' + text.encode() + b"]}"


async def test_the_same_file_gives_the_same_ids_and_two_equal_lines_two(collector, send):
    for name in ("a", "a", "b", "", ""):
        await send('{"userId":"u"}\n{"userId":"u"}\n{}\n{"messageId":null}\n{"messageId":"mine"}\n', name)
    ids = [[event["messageId"] for event in batch] for batch in collector.bodies]
    assert ids[0] == ids[1]
    assert len({each for batch in ids[:1] + ids[2:] for each in batch}) == 4 * 4 + 1
    assert all(batch[4] == "mine" for batch in ids)


async def test_bad_lines_are_told_by_number_and_cost_no_other(collector, send):
    report = await send(b'\xef\xbb\xbf{"userId":"1"}\n\nnonsense\n[1]\n{"userId":"\xff"}\n{"userId":"2"}')
    assert [event["userId"] for event in collector.events] == ["1", "2"]
    assert [(fault.line, fault.code) for fault in report.faults] == [
        (3, "invalid_json"),
        (4, "not_an_object"),
        (5, "invalid_json"),
    ]
    assert "the line is not UTF-8 (byte 11)" == report.faults[2].message
    assert report.sent == 2


async def test_what_the_collector_rejects_is_told_by_line(collector, send):
    rejected = [{"index": 1, "code": "event_not_defined", "message": "no name"}]
    collector.answers = [(200, {"success": True, "rejected": rejected}, {})]
    report = await send("x\n" + lines(3))
    assert [(fault.line, fault.code, fault.message) for fault in report.faults][1] == (
        3,
        "event_not_defined",
        "no name",
    )
    assert report.sent == 2


async def test_a_batch_that_is_refused_is_halved_until_the_line_is_found(collector, send):
    collector.max_events = 1
    report = await send(lines(3))
    assert [event["userId"] for event in collector.events] == ["u0", "u1", "u2"]
    assert (report.sent, report.faults) == (3, [])
    collector.max_events = 0
    report = await send(lines(2))
    assert [(fault.line, fault.code, fault.message) for fault in report.faults] == [
        (1, "too_large", "too many"),
        (2, "too_large", "too many"),
    ]


async def test_a_busy_collector_is_tried_again_when_it_says(collector, send):
    busy = {"code": "unavailable", "message": "full"}
    collector.answers = [
        (503, busy, {"Retry-After": "7"}),
        (500, {}, {}),
        (429, busy, {}),
        OK,
    ]
    report = await send(lines(1))
    assert (report.sent, len(send.waits), send.waits[0]) == (1, 3, 7.0)
    assert 0 < send.waits[1] < send.waits[2] * 2


async def test_a_collector_that_stays_busy_is_given_up_with_where_it_broke_off(collector, send):
    collector.answers = [
        OK,
        (503, {"code": "unavailable", "message": "full"}, {"Retry-After": "60"}),
    ]
    with pytest.raises(UnavailableError, match=r"answers 503: full.*; 100 were sent, line 101 and later") as caught:
        await send(lines(200), patience=30)
    assert "same command" in caught.value.hint


async def test_that_it_waits_is_told_at_once_and_once(collector, send):
    told: list[tuple[str, float]] = []
    busy = {"code": "unavailable", "message": "full"}
    collector.answers = [(503, busy, {}), (503, busy, {}), OK, (503, busy, {}), OK]
    await send(lines(200), patience=30, waiting=lambda why, seconds: told.append((why, round(seconds))))
    assert told == [("it answers 503: full", 30)]


async def test_no_collector_is_told(send, unused_tcp_port):
    with pytest.raises(UnavailableError, match="Connection refused"):
        await Sender(f"http://127.0.0.1:{unused_tcp_port}", "key", patience=0).send(io.BytesIO(b"{}"))


async def test_an_address_that_is_none_is_told():
    with pytest.raises(EventRouterError, match="cannot send to ftp://x/v1/batch"):
        await Sender("ftp://x", "key").send(io.BytesIO(b"{}"))


@pytest.mark.parametrize(
    ("status", "what"),
    [
        (401, "refuses the write key: unknown"),
        (404, "there is no collector"),
        (302, "there is no collector at .*: something else answers 302"),
    ],
)
async def test_what_no_repetition_helps_is_told_at_once(collector, send, status, what):
    collector.answers = [(status, {"code": "c", "message": "unknown"}, {})]
    with pytest.raises(EventRouterError, match=what):
        await send(lines(1))
    assert send.waits == []


@pytest.mark.parametrize("page", ["<html>Log in", "[]", '{"success": "yes"}'])
async def test_a_success_that_no_collector_would_tell_is_none(httpserver, send, page):
    httpserver.expect_request("/v1/batch").respond_with_data(page)
    with pytest.raises(EventRouterError, match=r"there is no collector at .*: something else answers 200"):
        await send(lines(1))
