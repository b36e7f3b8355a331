import asyncio
import gzip
import json
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from eventrouter.accept import accept
from eventrouter.acceptance import AcceptedEvent, Limits
from eventrouter.collect import Collector
from eventrouter.config_model import CollectConfig, CookieConfig, SourceConfig, VerifyConfig, WebhookSourceConfig
from eventrouter.cookie import Cookie
from eventrouter.errors import UnavailableError
from eventrouter.events import EVENT_TYPES, StoredEvent
from eventrouter.limiter import Limiter
from eventrouter.origins import Origins
from eventrouter.pixel import PIXEL
from eventrouter.records import RejectedEvent
from eventrouter.script import Script
from eventrouter.source import Source
from eventrouter.webhook_source import WebhookSource

AUTH = (b"authorization", b"Basic " + b64encode(b"key-1:"))
SHOP = b"https://shop.example"
TRACK = {"type": "track", "messageId": "m1", "userId": "u1", "event": "Signed Up"}
HOOK = SourceConfig(
    "hook",
    (),
    webhook=WebhookSourceConfig(
        VerifyConfig("token", ("secret",), header="x-token"),
        {"type": "track", "event": "{{ body.kind }}", "userId": "{{ body.user }}"},
        'body.kind != "ping"',
    ),
)
SOURCES = {
    "key-1": Source("website"),
    "key-2": Source("old", enabled=False),
    "key-3": Source("app"),
    "key-shop": Source("shop", origins=Origins(["https://shop.example"]), cookie=Cookie(CookieConfig())),
}
stored = msgspec.json.Decoder(StoredEvent)


class Response(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Fixture:
    """A collector whose event log is a list; `fault` is what its next append raises."""

    def __init__(self, options: CollectConfig | None = None, **limits: Any) -> None:
        self.events: list[AcceptedEvent] = []
        self.rejected: list[RejectedEvent] = []
        self.fault: Exception | None = None
        self.state: dict[str, Any] = {"ready": True}
        self.collector = Collector(
            sources=SOURCES | {"key-slow": Source("slow", limiter=Limiter(2, now=lambda: 0.0))},
            webhooks={"hook": Source("hook", webhook=WebhookSource(HOOK))},
            accept=accept,
            append=self.append,
            ready=self.ready,
            metrics=self.metrics,
            limits=Limits(**limits),
            options=options,
            script=Script(b"window.eventrouter = {}"),
            now=lambda: datetime(2026, 11, 24, 17, tzinfo=UTC),
        )

    async def append(self, events: Sequence[AcceptedEvent], rejected: Sequence[RejectedEvent]) -> None:
        if self.fault is not None:
            raise self.fault
        self.events += events
        self.rejected += rejected

    async def ready(self) -> dict[str, Any]:
        if self.fault is not None:
            raise self.fault
        return self.state

    async def metrics(self) -> bytes:
        return b"events_total 1\n"

    async def request(
        self, method: str, path: str, *chunks: Any, headers: Any = (AUTH,), query: bytes = b"", ended: bool = True
    ) -> Response:
        """The answer to a request whose body arrives in `chunks` (None: the client goes away)."""
        messages: list[dict[str, Any]] = []
        for chunk in chunks or (b"",):
            body = chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode()
            messages.append({"type": "http.request", "body": body, "more_body": True})
            if chunk is None:
                messages[-1] = {"type": "http.disconnect"}
        messages[-1]["more_body"] = not ended
        sent: list[dict[str, Any]] = []

        async def receive() -> Any:
            if not messages:
                await asyncio.sleep(60)
            return messages.pop(0)

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "scheme": "http",
            "client": ("203.0.113.9", 4711),
            "method": method,
            "path": path,
            "query_string": query,
            "headers": list(headers),
        }
        await self.collector(scope, receive, send)
        if not sent:
            return Response(0, {}, b"")
        return Response(sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"])

    async def post(self, path: str, *chunks: Any, **more: Any) -> Response:
        return await self.request("POST", path, *chunks, **more)

    def stored(self) -> list[StoredEvent]:
        return [stored.decode(event.data) for event in self.events]


@pytest.fixture
def fixture() -> Fixture:
    return Fixture()


# -- endpoints ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/import", "/v1/b", "/v1/batch/", "//v1/batch", "/beacon/v1/batch"])
async def test_a_batch_is_kept_before_the_answer(fixture: Fixture, path: str) -> None:
    response = await fixture.post(path, {"batch": [TRACK, TRACK | {"messageId": "m2"}]})
    assert (response.status, response.body) == (200, b'{"success": true}')
    assert [(event.source, event.message_id) for event in fixture.stored()] == [("website", "m1"), ("website", "m2")]


@pytest.mark.parametrize("type_", EVENT_TYPES)
async def test_each_type_has_an_endpoint_of_its_own_and_a_short_one(fixture: Fixture, type_: str) -> None:
    body = {"userId": "u", "event": "A", "groupId": "g", "previousId": "p"}
    for name in (type_, type_[0]):
        assert (await fixture.post(f"/v1/{name}", body)).body == b'{"success": true}'
    assert [event.event["type"] for event in fixture.stored()] == [type_, type_]


async def test_an_import_keeps_its_times(fixture: Fixture) -> None:
    body = {"sentAt": "2020-01-01T00:00:00Z", "batch": [TRACK | {"timestamp": "2011-01-01"}]}
    await fixture.post("/v1/import", body)
    await fixture.post("/v1/batch", body)
    assert [event.event["timestamp"][:4] for event in fixture.stored()] == ["2011", "2017"]


async def test_clients_own_metrics_are_taken_and_counted(fixture: Fixture) -> None:
    assert fixture.collector.counted()["collector_measurements_dropped"] == {(): 0}
    assert (await fixture.post("/v1/m", {"series": []})).body == b'{"success": true}'
    assert (await fixture.request("GET", "/v1/m")).status == 405
    assert fixture.collector.counted()["collector_measurements_dropped"] == {(): 1}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/", 404, "not_found"),
        ("POST", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/" + "x" * 1000, 404, "not_found"),
        ("GET", "/v1/batch", 405, "method_not_allowed"),
        ("PUT", "/v1/track", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_there_is_said_in_json(
    fixture: Fixture, method: str, path: str, status: int, code: str
) -> None:
    response = await fixture.request(method, path, TRACK)
    assert (response.status, response.json["code"]) == (status, code)
    assert response.json["message"]


# -- write keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "body", "query"),
    [
        ([AUTH], {}, b""),
        ([(b"authorization", b"Basic " + b64encode(b"key-1"))], {}, b""),
        ([], {"writeKey": "key-1"}, b""),
        ([(b"authorization", b"Bearer token")], {"writeKey": "key-1"}, b""),
        ([(b"authorization", b"Bearer key-1")], {}, b""),
        ([(b"authorization", b"Basic " + b64encode(b"proxy:password"))], {"writeKey": "key-1"}, b""),
        ([], {}, b"writeKey=key-1"),
    ],
)
async def test_a_write_key_is_found_wherever_clients_put_it(
    fixture: Fixture, headers: Any, body: Any, query: bytes
) -> None:
    response = await fixture.post("/v1/track", TRACK | body, headers=headers, query=query)
    assert (response.status, [event.source for event in fixture.stored()]) == (200, ["website"])
    assert "writeKey" not in fixture.stored()[0].event


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [(b"key-9:", 401, "unknown_write_key"), (b"", 401, "missing_write_key"), (b"key-2:", 403, "source_disabled")],
)
async def test_a_wrong_write_key_is_refused(fixture: Fixture, key: bytes, status: int, code: str) -> None:
    response = await fixture.post("/v1/track", TRACK, headers=[(b"authorization", b"Basic " + b64encode(key))])
    assert (response.status, response.json["code"], fixture.events) == (status, code, [])


async def test_sources_can_be_replaced(fixture: Fixture) -> None:
    fixture.collector.reception.sources = {"key-1": Source("renamed")}
    await fixture.post("/v1/track", TRACK)
    assert [event.source for event in fixture.stored()] == ["renamed"]


# -- bodies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [b"application/json", b"text/plain", b"application/x-www-form-urlencoded", b"\xff"])
@pytest.mark.parametrize("encoding", [[], [(b"content-encoding", b"GZIP")]])
async def test_the_content_type_does_not_matter(fixture: Fixture, kind: bytes, encoding: Any) -> None:
    body = gzip.compress(json.dumps(TRACK).encode())
    headers = [AUTH, (b"content-type", kind), *encoding]
    assert (await fixture.post("/v1/track", body, headers=headers)).status == 200
    assert (await fixture.post("/v1/track", TRACK, headers=headers)).status == 200
    assert len(fixture.events) == 2


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "body_not_object"),
        (b"\x1f\x8bgarbage", 400, "invalid_encoding"),
        (b"{}", 400, "batch_not_array"),
        (b'{"batch":[]}', 400, "empty_batch"),
        (b'{"batch":[1,2,3]}', 413, "too_many_events"),
        (b"x" * 1001, 413, "too_large"),
        (gzip.compress(b"x" * 1001, mtime=0), 413, "too_large"),
    ],
)
async def test_a_bad_body_is_refused_as_a_whole(body: bytes, status: int, code: str) -> None:
    fixture = Fixture(max_batch_events=2, max_batch_bytes=1000)
    response = await fixture.post("/v1/batch", body)
    assert (response.status, response.json["code"], response.json["success"]) == (status, code, False)
    assert response.json["message"]
    assert fixture.collector.refused == {code: 1}


async def test_a_large_body_is_refused_by_its_length_and_the_connection_lives_on() -> None:
    fixture = Fixture(max_batch_bytes=1000)
    headers = [AUTH, (b"content-length", b"1002")]
    response = await fixture.post("/v1/batch", b"x" * 501, b"x" * 501, headers=headers)
    assert (response.status, b"connection" in response.headers) == (413, False)


@pytest.mark.parametrize(
    "more", [(b"content-length", b"99999999999"), (b"expect", b"100-continue"), (b"content-length", b"9" * 30)]
)
async def test_a_body_that_is_not_drained_ends_the_connection(more: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventrouter.receive.DRAIN_SECONDS", 0.05)
    fixture = Fixture(max_batch_bytes=1000)
    response = await fixture.post("/v1/batch", b"x" * 2000, headers=[AUTH, more], ended=False)
    assert (response.status, response.headers[b"connection"]) == (413, b"close")


async def test_a_slow_body_is_given_up_and_ends_the_connection() -> None:
    fixture = Fixture(body_timeout=0.05)
    response = await fixture.post("/v1/batch", b'{"batch":', ended=False)
    assert (response.status, response.json["code"]) == (408, "body_timeout")
    assert response.headers[b"connection"] == b"close"


async def test_a_client_that_goes_away_is_counted_and_nothing_is_kept(fixture: Fixture) -> None:
    response = await fixture.post("/v1/batch", b'{"batch":', None)
    assert (response.status, fixture.events) == (0, [])
    assert fixture.collector.refused == {"disconnected": 1}


# -- bad events --------------------------------------------------------------------------------------------------------


async def test_a_batch_with_a_bad_event_is_a_success_that_says_so(fixture: Fixture) -> None:
    response = await fixture.post("/v1/batch", {"batch": [TRACK, {"type": "track", "userId": "u", "messageId": "m2"}]})
    assert response.status == 200
    assert response.json == {
        "success": True,
        "rejected": [
            {
                "index": 1,
                "code": "event_not_defined",
                "message": "a track event needs `event`, its name",
                "messageId": "m2",
            }
        ],
    }
    assert (len(fixture.events), [record.message_id for record in fixture.rejected]) == (1, ["m2"])


async def test_a_batch_of_bad_events_is_no_bad_request(fixture: Fixture) -> None:
    response = await fixture.post("/v1/batch", {"batch": [1]})
    assert (response.status, response.json["rejected"][0]["code"]) == (200, "event_not_object")


async def test_a_single_bad_event_is_a_bad_request_and_is_kept_too(fixture: Fixture) -> None:
    response = await fixture.post("/v1/track", {"userId": "u"})
    assert (response.status, response.json["code"]) == (400, "event_not_defined")
    assert ([], ["event_not_defined"]) == (fixture.events, [record.code for record in fixture.rejected])


async def test_mended_values_are_counted_once_they_are_kept(fixture: Fixture) -> None:
    body = b'{"batch":[{"type":"page","userId":"u","a":NaN},{"type":"x"},{"type":"y"}]}'
    fixture.fault = UnavailableError("the event log is full")
    await fixture.post("/v1/batch", body)
    assert fixture.collector.mended == {}
    fixture.fault = None
    await fixture.post("/v1/batch", body)
    assert fixture.collector.mended == {("website", "not_a_number"): 1}
    assert fixture.collector.refused == {"unavailable": 1}


# -- when the log is away ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "seconds"), [(None, b"1"), (0.2, b"1"), (2.5, b"3")])
async def test_without_the_log_the_client_is_asked_to_come_again(
    fixture: Fixture, after: float | None, seconds: bytes
) -> None:
    fixture.fault = UnavailableError("the event log is full", retry_after=after)
    response = await fixture.post("/v1/track", TRACK)
    assert (response.status, response.headers[b"retry-after"]) == (503, seconds)
    assert response.json["code"] == "unavailable"
    assert fixture.collector.refused == {"unavailable": 1}


async def test_a_bug_is_logged_without_the_body_or_the_key(fixture: Fixture) -> None:
    fixture.fault = RuntimeError("oops")
    with capture_logs() as logs:
        response = await fixture.post("/v1/track", TRACK)
    assert (response.status, response.json["code"]) == (500, "internal_error")
    assert [(entry["event"], entry["endpoint"]) for entry in logs] == [("a request failed", "track")]
    assert not {"key-1", "Signed Up"} & set(str(logs).split("'"))


async def test_requests_share_a_bounded_memory() -> None:
    fixture = Fixture(max_held_bytes=1000)
    waiting = asyncio.Event()
    go_on = asyncio.Event()

    async def append(events: Any, rejected: Any) -> None:
        waiting.set()
        await go_on.wait()

    fixture.collector._append = append
    first = asyncio.create_task(fixture.post("/v1/track", TRACK | {"properties": {"text": "x" * 500}}))
    await waiting.wait()
    response = await fixture.post("/v1/track", TRACK | {"properties": {"text": "x" * 500}})
    assert (response.status, response.headers[b"retry-after"]) == (503, b"1")
    go_on.set()
    assert (await first).status == 200
    assert (await fixture.post("/v1/track", TRACK | {"properties": {"text": "x" * 500}})).status == 200
    assert fixture.collector.held_bytes == 0


# -- browsers and operators --------------------------------------------------------------------------------------------


async def test_a_preflight_is_answered_for_any_path(fixture: Fixture) -> None:
    headers = [
        (b"origin", b"https://shop.example.com"),
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", b"authorization,content-type,rsa-retry"),
    ]
    response = await fixture.request("OPTIONS", "/v1/batch", headers=headers)
    assert response.status == 204
    assert response.headers[b"access-control-allow-origin"] == b"https://shop.example.com"
    assert b"rsa-retry" in response.headers[b"access-control-allow-headers"]


@pytest.mark.parametrize("path", ["/v1/track", "/v1/nothing"])
async def test_a_page_of_another_origin_may_read_every_answer(fixture: Fixture, path: str) -> None:
    response = await fixture.post(path, TRACK, headers=[(b"origin", b"https://shop.example.com")])
    assert response.status in (401, 404)
    assert response.headers[b"access-control-allow-origin"] == b"https://shop.example.com"


@pytest.mark.parametrize("path", ["/v1/projects/key-1/settings", "/sourceConfig"])
@pytest.mark.parametrize("origin", [None, b"https://shop.example", b"no origin\xff"])
async def test_settings_that_a_page_loads_are_not_kept_for_another_origin(
    fixture: Fixture, path: str, origin: bytes | None
) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), AUTH] + ([] if origin is None else [(b"origin", origin)])
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "client": None, "headers": headers}
    await fixture.collector(scope, None, send)
    assert (sent[0]["status"], [value for name, value in sent[0]["headers"] if name == b"vary"]) == (200, [b"origin"])


async def test_what_its_server_refuses_is_counted_too(fixture: Fixture) -> None:
    fixture.collector.count_refused("too_many_connections")
    assert fixture.collector.counted()["collector_requests_refused"] == {("too_many_connections",): 1}


async def test_operators_pages_are_shown_and_to_no_other_origin(fixture: Fixture) -> None:
    for path, body in [
        ("/health", b'{"status": "ok"}'),
        ("/ready", b'{"ready":true}'),
        ("/metrics", b"events_total 1\n"),
    ]:
        response = await fixture.request("GET", path, headers=[(b"origin", b"https://shop.example")])
        assert (response.status, response.body) == (200, body)
        assert b"access-control-allow-origin" not in response.headers


async def test_the_servers_own_start_and_stop_are_confirmed(fixture: Fixture) -> None:
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await fixture.collector({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(ValueError, match="websocket"):
        await fixture.collector({"type": "websocket"}, receive, send)


# -- pixels ------------------------------------------------------------------------------------------------------------


async def pixel(fixture: Fixture, query: bytes, method: str = "GET", path: str = "/v1/pixel/track", **more: Any) -> Any:
    response = await fixture.request(method, path, query=query, **{"headers": ()} | more)
    assert (response.status, response.body) == (200, PIXEL.body)
    return response


@pytest.mark.parametrize("path", ["/v1/pixel/track", "/v1/pixel/t", "/v1/pixel/track/"])
async def test_a_pixel_is_an_event(fixture: Fixture, path: str) -> None:
    response = await pixel(fixture, b"writeKey=key-1&userId=u&event=Opened&properties.mail=7", path=path)
    assert response.headers[b"content-type"] == b"image/gif"
    [event] = fixture.stored()
    assert (event.source, event.event["type"], event.event["event"]) == ("website", "track", "Opened")
    assert event.event["properties"] == {"mail": "7"}
    assert "writeKey" not in event.event


@pytest.mark.parametrize("key", [b"&writeKey=key-1", b""])
async def test_a_pixels_data_may_hold_all_of_it(fixture: Fixture, key: bytes) -> None:
    event = TRACK if key else TRACK | {"writeKey": "key-1"}
    await pixel(fixture, b"data=" + b64encode(json.dumps(event).encode()) + key)
    assert [event.message_id for event in fixture.stored()] == ["m1"]


async def test_a_pixel_may_be_posted_as_a_form(fixture: Fixture) -> None:
    response = await fixture.post("/v1/pixel/page", b"userId=u&name=A", headers=(), query=b"writeKey=key-1")
    assert (response.body, [event.event["name"] for event in fixture.stored()]) == (PIXEL.body, ["A"])


@pytest.mark.parametrize(
    ("query", "code"),
    [(b"event=A", "no_user_anon_id"), (b"userId=u", "event_not_defined"), (b"data=!", "invalid_pixel")],
)
async def test_a_bad_pixel_is_a_refused_event(fixture: Fixture, query: bytes, code: str) -> None:
    await pixel(fixture, b"writeKey=key-1&" + query)
    assert ([record.code for record in fixture.rejected], fixture.events) == ([code], [])
    assert "key-1" not in fixture.rejected[0].payload


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (b"userId=u&event=A", "missing_write_key"),
        (b"userId=u&event=A&writeKey=key-9", "unknown_write_key"),
        (b"data=!&writeKey=key-9", "unknown_write_key"),
        (b"userId=u&event=A&writeKey=key-2", "source_disabled"),
        (b"writeKey=key-1&" + b"a=1&" * 1001, "too_many_fields"),
    ],
)
async def test_a_pixel_that_is_nobodys_is_counted(fixture: Fixture, query: bytes, code: str) -> None:
    await pixel(fixture, query)
    assert (fixture.collector.refused, fixture.events, fixture.rejected) == ({code: 1}, [], [])


async def test_a_pixel_is_shown_without_the_log_too_and_its_loss_is_counted(fixture: Fixture) -> None:
    fixture.fault = UnavailableError("the event log is full")
    await pixel(fixture, b"writeKey=key-1&userId=u&event=A")
    assert fixture.collector.refused == {"unavailable": 1}


async def test_who_only_asks_for_a_pixels_head_is_no_event(fixture: Fixture) -> None:
    await pixel(fixture, b"writeKey=key-1&userId=u&event=A", method="HEAD")
    assert fixture.events == []


async def test_a_pixel_of_no_known_type_is_counted(fixture: Fixture) -> None:
    await pixel(fixture, b"writeKey=key-1", path="/v1/pixel/nothing")
    assert fixture.collector.refused == {"not_found": 1}


async def test_a_pixel_is_not_put(fixture: Fixture) -> None:
    response = await fixture.request("PUT", "/v1/pixel/track")
    assert (response.status, response.headers[b"allow"]) == (405, b"GET, HEAD, POST, OPTIONS")


# -- webhooks ----------------------------------------------------------------------------------------------------------

TOKEN = (b"x-token", b"secret")


async def test_what_another_system_posts_becomes_an_event(fixture: Fixture) -> None:
    response = await fixture.post("/v1/webhook/hook", {"kind": "Paid", "user": "u-1"}, headers=[TOKEN])
    assert response.body == b'{"success": true}'
    [event] = fixture.stored()
    assert (event.source, event.event["event"], event.event["userId"]) == ("hook", "Paid", "u-1")
    assert "ip" not in event.event["context"]


async def test_a_webhook_whose_condition_is_false_is_counted(fixture: Fixture) -> None:
    response = await fixture.post("/v1/webhook/hook", {"kind": "ping", "user": "u"}, headers=[TOKEN])
    assert (response.body, fixture.events) == (b'{"success": true}', [])
    assert (fixture.collector.refused, fixture.collector.ignored) == ({}, {"hook": 1})
    assert fixture.collector.counted()["collector_webhooks_ignored"] == {("hook",): 1}


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/v1/webhook/hook", (), 401),
        ("POST", "/v1/webhook/website", [TOKEN], 404),
        ("POST", "/v1/webhook/", [TOKEN], 404),
        ("GET", "/v1/webhook/hook", [TOKEN], 405),
    ],
)
async def test_a_webhook_that_is_wrong_is_refused(
    fixture: Fixture, method: str, path: str, headers: Any, status: int
) -> None:
    response = await fixture.request(method, path, {"kind": "Paid", "user": "u"}, headers=headers)
    assert (response.status, fixture.events) == (status, [])


# -- what a source allows ----------------------------------------------------------------------------------------------


def auth(key: bytes) -> tuple[bytes, bytes]:
    return (b"authorization", b"Basic " + b64encode(key + b":"))


@pytest.mark.parametrize("headers", [[], [(b"origin", SHOP)]])
async def test_pages_of_a_sources_origins_and_servers_may_send(fixture: Fixture, headers: Any) -> None:
    assert (await fixture.post("/v1/track", TRACK, headers=[auth(b"key-shop"), *headers])).status == 200


async def test_pages_of_another_origin_are_refused_and_can_read_why(fixture: Fixture) -> None:
    headers = [auth(b"key-shop"), (b"origin", b"https://evil.example")]
    response = await fixture.post("/v1/track", TRACK, headers=headers)
    assert (response.status, response.json["code"]) == (403, "origin_not_allowed")
    assert response.headers[b"access-control-allow-origin"] == b"https://evil.example"
    assert (fixture.events, fixture.rejected, fixture.collector.refused) == ([], [], {"origin_not_allowed": 1})


async def test_pixels_pass_whatever_page_shows_them(fixture: Fixture) -> None:
    headers = [(b"referer", b"https://mail.example/"), (b"sec-fetch-site", b"cross-site")]
    await pixel(fixture, b"writeKey=key-shop&anonymousId=a-1&event=A", headers=headers)
    assert (len(fixture.events), fixture.collector.refused) == (1, {})


async def test_a_source_that_sends_too_much_has_to_wait(fixture: Fixture) -> None:
    headers = [auth(b"key-slow"), (b"origin", SHOP)]
    assert (await fixture.post("/v1/batch", {"batch": [TRACK, TRACK]}, headers=headers)).status == 200
    response = await fixture.post("/v1/track", TRACK, headers=headers)
    assert (response.status, response.json["code"]) == (429, "rate_limited")
    assert (response.headers[b"retry-after"], len(fixture.events)) == (b"1", 2)
    assert response.headers[b"access-control-expose-headers"] == b"retry-after"
    assert fixture.collector.refused == {"rate_limited": 1}


# -- the cookie --------------------------------------------------------------------------------------------------------


async def test_a_browsers_anonymous_id_is_kept_in_a_cookie(fixture: Fixture) -> None:
    event = {"event": "A", "anonymousId": "a-1"}
    page = ((b"origin", SHOP), (b"sec-fetch-site", b"same-site"), (b"sec-fetch-mode", b"cors"))
    first = await fixture.post("/v1/track", event, headers=[auth(b"key-shop"), *page])
    assert first.headers[b"set-cookie"] == b"er_anonymous_id=a-1; Path=/; Max-Age=31536000; SameSite=Lax; Secure"
    assert first.headers[b"access-control-allow-credentials"] == b"true"
    later = await fixture.post(
        "/v1/track", event, headers=[*page, auth(b"key-shop"), (b"cookie", b"er_anonymous_id=x")]
    )
    assert later.headers[b"set-cookie"].startswith(b"er_anonymous_id=x;")
    assert [event.event["anonymousId"] for event in fixture.stored()] == ["a-1", "a-1"]


async def test_a_refused_event_keeps_the_cookie_too(fixture: Fixture) -> None:
    site = (b"sec-fetch-site", b"same-origin")
    headers = [auth(b"key-shop"), (b"origin", SHOP), site, (b"cookie", b"er_anonymous_id=x")]
    response = await fixture.post("/v1/track", {"userId": "u"}, headers=headers)
    assert (response.status, b"set-cookie" in response.headers) == (400, True)


async def test_a_pixel_sets_the_cookie_for_pages_of_the_site(fixture: Fixture) -> None:
    query = b"writeKey=key-shop&anonymousId=a-1&event=A"
    headers = [(b"sec-fetch-site", b"same-site"), (b"sec-fetch-mode", b"no-cors")]
    response = await fixture.request("GET", "/v1/pixel/track", headers=headers, query=query)
    assert response.headers[b"set-cookie"] == b"er_anonymous_id=a-1; Path=/; Max-Age=31536000; SameSite=Lax"
    assert b"set-cookie" not in (await pixel(fixture, query)).headers


async def test_another_site_gives_nobody_an_id_of_its_choice() -> None:
    fixture = Fixture()
    fixture.collector.reception.sources = {"key": Source("open", cookie=Cookie(CookieConfig(domain=".shop.example")))}
    event = {"writeKey": "key", "event": "A", "anonymousId": "chosen"}
    for headers in (
        [(b"origin", b"https://evil.example"), (b"content-type", b"text/plain")],
        [(b"origin", b"null"), (b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate")],
    ):
        response = await fixture.post("/v1/track", event, headers=headers)
        assert (response.status, b"set-cookie" in response.headers) == (200, False)


@pytest.mark.parametrize("headers", [[auth(b"key-shop")], [auth(b"key-1"), (b"origin", SHOP)]])
async def test_servers_and_sources_without_it_get_no_cookie(fixture: Fixture, headers: Any) -> None:
    response = await fixture.post("/v1/track", {"event": "A", "anonymousId": "a-1"}, headers=headers)
    assert b"set-cookie" not in response.headers


# -- who asks, and where -----------------------------------------------------------------------------------------------

BROWSER = (b"user-agent", b"Mozilla/5.0")


async def test_a_browsers_address_is_in_its_events(fixture: Fixture) -> None:
    await fixture.post("/v1/track", TRACK, headers=[AUTH, BROWSER, (b"x-forwarded-for", b"6.6.6.6")])
    assert fixture.stored()[0].event["context"] == {"ip": "203.0.113.9", "userAgent": "Mozilla/5.0"}


async def test_behind_a_trusted_proxy_it_is_what_that_says() -> None:
    fixture = Fixture(CollectConfig(trusted_proxies=("203.0.113.0/24",)))
    await fixture.post("/v1/track", TRACK, headers=[AUTH, BROWSER, (b"x-forwarded-for", b"6.6.6.6, 198.51.100.7")])
    assert fixture.stored()[0].event["context"]["ip"] == "198.51.100.7"


@pytest.mark.parametrize("path", ["/v1/projects/key-1/settings", "/e/v1/projects/key-1/settings/"])
async def test_settings_name_the_prefix(path: str) -> None:
    fixture = Fixture(CollectConfig(path_prefix="/e"))
    response = await fixture.request("GET", path, headers=[(b"host", b"localhost:8000"), (b"origin", SHOP)])
    assert response.json["integrations"]["Segment.io"]["apiHost"] == "localhost:8000/e/v1"
    assert response.headers[b"access-control-allow-origin"] == SHOP


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/projects/key-9/settings", 404, "unknown_write_key"),
        ("/v1/projects/key-2/settings", 403, "source_disabled"),
        ("/v1/projects/key-1/settings", 400, "invalid_host"),
        ("/sourceConfig/", 401, "missing_write_key"),
    ],
)
async def test_settings_that_cannot_be_told_are_counted(fixture: Fixture, path: str, status: int, code: str) -> None:
    response = await fixture.request("GET", path, headers=[(b"host", b"a b")])
    assert (response.status, response.json["code"]) == (status, code)
    assert fixture.collector.refused == {code: 1}


PREFIXED = [
    ("POST", "/e/v1/track", 200),
    ("POST", "/e/v1/t", 200),
    ("POST", "/e/v1/track/", 200),
    ("POST", "/e//v1/track", 200),
    ("POST", "/v1/track", 200),
    ("POST", "/e/v1/m", 200),
    ("GET", "/e/v1/pixel/track", 200),
    ("GET", "/e/eventrouter.js", 200),
    ("GET", "/e/sourceConfig/", 200),
    ("GET", "/e/v1/track", 405),
    ("GET", "/e/metrics", 404),
    ("GET", "/e/health", 404),
    ("GET", "/health", 200),
    ("POST", "/e", 404),
    ("POST", "/ev1/track", 404),
    ("OPTIONS", "/e/v1/track", 204),
]


@pytest.mark.parametrize(("method", "path", "status"), PREFIXED)
async def test_clients_paths_are_below_the_prefix_too(method: str, path: str, status: int) -> None:
    fixture = Fixture(CollectConfig(path_prefix="/e"))
    assert (await fixture.request(method, path, TRACK)).status == status


ALLOWED = [
    ("PUT", "/v1/track", b"POST, OPTIONS"),
    ("GET", "/v1/m", b"POST, OPTIONS"),
    ("DELETE", "/eventrouter.js", b"GET, HEAD, OPTIONS"),
    ("POST", "/v1/projects/key-1/settings", b"GET, HEAD, OPTIONS"),
    ("POST", "/metrics", b"GET, HEAD, OPTIONS"),
]


@pytest.mark.parametrize(("method", "path", "allowed"), ALLOWED)
async def test_a_wrong_method_is_told_the_right_ones(fixture: Fixture, method: str, path: str, allowed: bytes) -> None:
    response = await fixture.request(method, path)
    assert (response.status, response.json["code"], response.headers[b"allow"]) == (405, "method_not_allowed", allowed)


async def test_the_script_is_served_to_any_page(fixture: Fixture) -> None:
    response = await fixture.request("GET", "/eventrouter.js", query=b"v=1", headers=[(b"origin", SHOP)])
    assert (response.status, response.body) == (200, b"window.eventrouter = {}")
    assert response.headers[b"access-control-allow-origin"] == b"*"
    again = await fixture.request("GET", "/eventrouter.js", headers=[(b"if-none-match", response.headers[b"etag"])])
    assert (again.status, again.body) == (304, b"")


# -- anything at all ---------------------------------------------------------------------------------------------------

good_event = st.fixed_dictionaries({"type": st.sampled_from(EVENT_TYPES), "userId": st.text()}).map(json.dumps)
some_body = (
    st.binary()
    | st.lists(good_event | st.sampled_from(["{}", "1", "NaN", '"\\ud800"', "[", "1e999"])).map(
        lambda events: f'{{"batch":[{",".join(events)}]}}'.encode()
    )
    | good_event.map(str.encode)
)
PATHS = [
    *[f"/v1/{name}" for name in ("batch", "import", "b", "m", *EVENT_TYPES)],
    *[f"/v1/pixel/{name}" for name in ("track", "p", "x", "")],
    "/v1/webhook/hook",
    "/v1/projects/key-1/settings",
    "/sourceConfig/",
    "/eventrouter.js",
    "/health",
]
some_path = st.text() | st.sampled_from([prefix + path for path in PATHS for prefix in ("", "/e", "/e/", "/")])
some_query = (
    st.binary()
    | st.just(b"writeKey=key-1")
    | st.binary().map(lambda data: b"writeKey=key-1&data=" + b64encode(data))
    | st.lists(st.sampled_from([b"writeKey=key-shop", b"userId=u", b"event=%FF", b"a.b.0=1", b"a=2", b"data=e30"])).map(
        b"&".join
    )
)
some_headers = st.lists(
    st.tuples(
        st.sampled_from(
            [
                b"authorization",
                b"content-length",
                b"content-encoding",
                b"content-type",
                b"origin",
                b"expect",
                b"access-control-request-headers",
                b"host",
                b"cookie",
                b"referer",
                b"user-agent",
                b"x-forwarded-for",
                b"x-forwarded-host",
                b"x-forwarded-proto",
                b"forwarded",
                b"accept-encoding",
                b"if-none-match",
                b"x-token",
            ]
        ),
        st.binary()
        | st.sampled_from(
            [
                *[
                    AUTH[1],
                    auth(b"key-shop")[1],
                    b"gzip",
                    b"deflate",
                    b"12",
                    b"-1",
                    SHOP,
                    b"null",
                    b"localhost",
                    b"secret",
                ],
                *[
                    b"er_anonymous_id=a",
                    b"Mozilla/5.0",
                    b"1.2.3.4, [::1]:5",
                    b'for="[::1]:5";proto=https, for=x',
                ],
            ]
        ),
    )
)


@given(
    st.sampled_from(["POST", "POST", "POST", "GET", "GET", "HEAD", "OPTIONS", "PUT", "X"]),
    some_path,
    some_body | some_body.map(gzip.compress),
    some_headers,
    some_query,
    st.booleans(),
)
async def test_no_request_at_all_makes_a_server_error(
    method: str, path: str, body: bytes, headers: Any, query: bytes, split: bool
) -> None:
    fixture = Fixture(CollectConfig(path_prefix="/e", trusted_proxies=("203.0.113.9",)), max_batch_bytes=400)
    chunks = [body[:5], body[5:]] if split else [body]
    response = await fixture.request(method, path, *chunks, headers=headers, query=query)
    assert 200 <= response.status < 500
    assert not {byte for header in response.headers.items() for byte in b"".join(header)} & set(b"\r\n\0")
    if response.headers.get(b"content-type") == b"application/json":
        assert isinstance(response.json, dict)
    assert fixture.collector.held_bytes == 0
