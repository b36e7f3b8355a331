import json
from base64 import b64encode
from typing import Any

import pytest

from eventrouter.acceptance import BodyError
from eventrouter.address import Address
from eventrouter.answer import Answer
from eventrouter.errors import UnavailableError
from eventrouter.pages import Pages
from eventrouter.proxies import Proxies
from eventrouter.script import Script
from eventrouter.source import Source

SOURCES = {"key-1": Source("website"), "a/b": Source("app"), "key-2": Source("old", enabled=False)}
state: dict[str, Any] = {}


async def ready() -> dict[str, Any]:
    if "fault" in state:
        raise UnavailableError(state["fault"])
    return state


async def metrics() -> bytes:
    return b"events_total 1\n"


def pages(public_url: str = "", script: Script | None = None) -> Pages:
    address = Address(public_url, "", Proxies())
    return Pages(sources=lambda: SOURCES, address=address, script=script, ready=ready, metrics=metrics)


async def get(
    path: str, query: bytes = b"", method: str = "GET", made: Pages | None = None, **headers: bytes
) -> Answer:
    made = made or pages()
    page = made.find(path, prefixed=False)
    assert page is not None
    pairs = {b"host": b"localhost:8000"} | {name.encode(): value for name, value in headers.items()}
    scope = {"method": method, "query_string": query, "client": None, "headers": list(pairs.items())}
    return await made.answer(page, path, scope, pairs)


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["key-1", "a/b"])
async def test_segments_client_reads_its_settings(key: str) -> None:
    answer = await get(f"/v1/projects/{key}/settings")
    assert (answer.status, answer.shared) == (200, True)
    assert dict(answer.headers)[b"cache-control"] == b"private, max-age=300"
    assert json.loads(answer.body)["integrations"] == {
        "Segment.io": {"apiKey": key, "apiHost": "localhost:8000/v1", "protocol": "http"}
    }


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [("key-9", 404, "unknown_write_key"), ("", 404, "unknown_write_key"), ("key-2", 403, "source_disabled")],
)
async def test_segments_client_is_told_why_there_are_none(key: str, status: int, code: str) -> None:
    with pytest.raises(BodyError) as caught:
        await get(f"/v1/projects/{key}/settings")
    assert (caught.value.status, caught.value.code) == (status, code)


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        (b"p=npm&v=3&writeKey=key-1", {}),
        (b"", {"authorization": b"Basic " + b64encode(b"key-1:")}),
        (b"", {"authorization": b"Basic " + b64encode(b"key-1")}),
        (b"writeKey=key-1", {"authorization": b"Basic " + b64encode(b"other:")}),
    ],
)
async def test_rudderstacks_client_reads_its_settings(query: bytes, headers: Any) -> None:
    source = json.loads((await get("/sourceConfig", query, **headers)).body)["source"]
    assert (source["id"], source["writeKey"], source["enabled"]) == ("website", "key-1", True)
    assert "dataplanes" not in source


async def test_rudderstacks_client_is_told_the_public_url() -> None:
    answer = await get("/sourceConfig", b"writeKey=key-1", made=pages("https://events.shop.example"))
    assert json.loads(answer.body)["source"]["dataplanes"]["US"][0]["url"] == "https://events.shop.example"


async def test_rudderstacks_client_is_told_that_a_source_is_off() -> None:
    assert json.loads((await get("/sourceConfig", b"writeKey=key-2")).body)["source"]["enabled"] is False


@pytest.mark.parametrize("query", [b"", b"writeKey=key-9"])
async def test_without_a_known_key_there_are_no_settings(query: bytes) -> None:
    with pytest.raises(BodyError) as caught:
        await get("/sourceConfig", query)
    assert caught.value.status == 401


# -- the script and the operators' pages -------------------------------------------------------------------------------


async def test_the_script_is_there_when_it_was_built() -> None:
    assert pages().find("/eventrouter.js", prefixed=False) is None
    answer = await get("/eventrouter.js", made=pages(script=Script(b"1")))
    assert (answer.status, answer.body, answer.shared) == (200, b"1", False)


async def test_health_ready_and_metrics_are_shown_to_no_page() -> None:
    state.clear()
    state["ready"] = True
    health, is_ready, numbers = [await get(path) for path in ("/health", "/ready", "/metrics")]
    assert (health.status, health.body, health.shared) == (200, b'{"status": "ok"}', False)
    assert (is_ready.status, json.loads(is_ready.body), is_ready.shared) == (200, {"ready": True}, False)
    assert (numbers.body, numbers.shared) == (b"events_total 1\n", False)
    assert dict(numbers.headers)[b"content-type"] == b"text/plain; version=0.0.4; charset=utf-8"


async def test_what_is_not_ready_says_why() -> None:
    state.clear()
    state.update(ready=False, redis="loading")
    assert (await get("/ready")).status == 503
    state["fault"] = "no redis"
    answer = await get("/ready")
    assert (answer.status, json.loads(answer.body)) == (503, {"ready": False, "reason": "no redis"})


def test_operators_pages_are_not_below_the_path_prefix() -> None:
    made = pages()
    assert [made.find(path, prefixed=True) for path in ("/health", "/ready", "/metrics")] == [None] * 3
    assert made.find("/sourceConfig", prefixed=True) is not None
    assert made.find("/v1/projects/k/settings", prefixed=True) is not None


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_pages_are_only_read(method: str) -> None:
    answer = await get("/health", method=method)
    assert (answer.status, dict(answer.headers)[b"allow"]) == (405, b"GET, HEAD, OPTIONS")


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/projects", "/v1/projects/settings", "/healthz", "/sourceconfig"])
def test_there_is_nothing_else(path: str) -> None:
    assert pages().find(path, prefixed=False) is None
