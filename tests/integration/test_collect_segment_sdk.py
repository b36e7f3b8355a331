"""segment-analytics-python, as it is, against the collector on a real server."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from segment.analytics.client import Client

from eventrouter.accept import accept
from eventrouter.acceptance import AcceptedEvent
from eventrouter.collect import Collector
from eventrouter.errors import UnavailableError
from eventrouter.events import StoredEvent
from eventrouter.records import RejectedEvent
from eventrouter.serve import serve
from eventrouter.source import Source

stored = msgspec.json.Decoder(StoredEvent)


class Log:
    """An event log in memory that is away for its first `away` appends."""

    def __init__(self) -> None:
        self.away = 0
        self.events: list[StoredEvent] = []
        self.rejected: list[RejectedEvent] = []

    async def append(self, events: Sequence[AcceptedEvent], rejected: Sequence[RejectedEvent]) -> None:
        if self.away:
            self.away -= 1
            raise UnavailableError("the event log is away", retry_after=1)
        self.events += [stored.decode(event.data) for event in events]
        self.rejected += rejected


async def nothing() -> Any:
    return {}


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def host(log: Log) -> AsyncIterator[str]:
    collector = Collector(
        sources={"key-1": Source("website")}, accept=accept, append=log.append, ready=nothing, metrics=nothing
    )
    stop = asyncio.Event()
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(collector, "127.0.0.1", 0, stop=stop, on_ready=url.set_result))
    yield await url
    stop.set()
    await task


async def send(host: str, calls: Any, **options: Any) -> list[Exception]:
    errors: list[Exception] = []

    def work() -> None:
        client = Client("key-1", host=host, on_error=lambda error, _: errors.append(error), **options)
        calls(client)
        client.shutdown()

    await asyncio.to_thread(work)
    return errors


@pytest.mark.parametrize("gzip", [False, True])
async def test_every_call_arrives_as_it_was_made(host: str, log: Log, gzip: bool) -> None:
    time = datetime.now(UTC) - timedelta(days=400)

    def calls(client: Client) -> None:
        client.identify("u1", {"email": "a@example.com", "größe": 2**70})
        client.track("u1", "Order Completed", {"total": 12.5, "items": [1, None, "😀"]}, timestamp=time)
        client.page("u1", name="Home", properties={"url": "https://example.com"})
        client.screen(anonymous_id="a1", category="c", name="Main")
        client.group("u1", "g1", {"plan": "pro"})
        client.alias("old", "u1")
        client.track(42, "Numeric Id")

    assert await send(host, calls, gzip=gzip) == []
    assert log.rejected == []
    events = [event.event for event in log.events]
    assert [event["type"] for event in events] == ["identify", "track", "page", "screen", "group", "alias", "track"]
    identify, track, page, screen, group, alias, numeric = events
    assert identify["traits"] == {"email": "a@example.com", "größe": 2**70}
    assert track["properties"] == {"total": 12.5, "items": [1, None, "😀"]}
    happened = datetime.fromisoformat(track["timestamp"])
    assert abs(happened - time) < timedelta(seconds=5)
    assert (page["name"], screen["anonymousId"], group["groupId"]) == ("Home", "a1", "g1")
    assert (alias["previousId"], alias["userId"], numeric["userId"]) == ("old", "u1", "42")
    assert "userId" not in screen
    assert {event["context"]["library"]["name"] for event in events} == {"analytics-python"}
    assert len({event["messageId"] for event in events}) == 7


async def test_a_nan_costs_no_event(host: str, log: Log) -> None:
    assert await send(host, lambda client: client.track("u", "A", {"rate": float("nan"), "n": 1})) == []
    assert [event.event["properties"] for event in log.events] == [{"rate": None, "n": 1}]


async def test_large_batches_arrive_complete(host: str, log: Log) -> None:
    def calls(client: Client) -> None:
        for number in range(1000):
            client.track("u", "A", {"number": number, "text": "x" * 2000})

    assert await send(host, calls, upload_size=500, max_queue_size=10_000) == []
    assert [event.event["properties"]["number"] for event in log.events] == list(range(1000))


async def test_the_client_comes_again_when_the_log_was_away(host: str, log: Log) -> None:
    log.away = 1
    assert await send(host, lambda client: client.track("u", "A")) == []
    assert len(log.events) == 1


async def test_a_wrong_key_is_said_once_and_not_tried_again(host: str, log: Log) -> None:
    errors: list[Any] = []

    def work() -> None:
        client = Client("key-9", host=host, on_error=lambda error, _: errors.append(error))
        client.track("u", "A")
        client.shutdown()

    await asyncio.wait_for(asyncio.to_thread(work), 10)
    assert [(error.status, error.code) for error in errors] == [(401, "unknown_write_key")]
