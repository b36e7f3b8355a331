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
from eventrouter.errors import UnavailableError
from eventrouter.events import EVENT_TYPES, StoredEvent
from eventrouter.records import RejectedEvent
from eventrouter.source import Source

AUTH = (b"authorization", b"Basic " + b64encode(b"key-1:"))
TRACK = {"type": "track", "messageId": "m1", "userId": "u1", "event": "Signed Up"}
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

    def __init__(self, **limits: Any) -> None:
        self.events: list[AcceptedEvent] = []
        self.rejected: list[RejectedEvent] = []
        self.fault: Exception | None = None
        self.state: dict[str, Any] = {"ready": True}
        self.collector = Collector(
            sources={"key-1": Source("website"), "key-2": Source("old", enabled=False), "key-3": Source("app")},
            accept=accept,
            append=self.append,
            ready=self.ready,
            metrics=self.metrics,
            limits=Limits(**limits),
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

        scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": list(headers)}
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


async def test_clients_own_metrics_are_taken(fixture: Fixture) -> None:
    assert (await fixture.post("/v1/m", {"series": []})).body == b'{"success": true}'


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
    fixture.collector.sources = {"key-1": Source("renamed")}
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


# -- anything at all ---------------------------------------------------------------------------------------------------

good_event = st.fixed_dictionaries({"type": st.sampled_from(EVENT_TYPES), "userId": st.text()}).map(json.dumps)
some_body = (
    st.binary()
    | st.lists(good_event | st.sampled_from(["{}", "1", "NaN", '"\\ud800"', "[", "1e999"])).map(
        lambda events: f'{{"batch":[{",".join(events)}]}}'.encode()
    )
    | good_event.map(str.encode)
)
some_path = st.text() | st.sampled_from([f"/v1/{name}" for name in ("batch", "import", "b", "m", *EVENT_TYPES)])
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
            ]
        ),
        st.binary() | st.sampled_from([AUTH[1], b"gzip", b"deflate", b"12", b"-1", b"https://example.com"]),
    )
)


@given(
    st.sampled_from(["POST", "POST", "POST", "GET", "HEAD", "OPTIONS", "PUT", "X"]),
    some_path,
    some_body | some_body.map(gzip.compress),
    some_headers,
    st.binary() | st.just(b"writeKey=key-1"),
    st.booleans(),
)
async def test_no_request_at_all_makes_a_server_error(
    method: str, path: str, body: bytes, headers: Any, query: bytes, split: bool
) -> None:
    fixture = Fixture(max_batch_bytes=400)
    chunks = [body[:5], body[5:]] if split else [body]
    response = await fixture.request(method, path, *chunks, headers=headers, query=query)
    assert 200 <= response.status < 500
    assert response.status == 204 or path == "/metrics" or response.json
    assert fixture.collector.held_bytes == 0
