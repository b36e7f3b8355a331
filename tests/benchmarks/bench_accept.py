"""How many microseconds collecting and accepting take for one event; run it by itself: `python bench_accept.py`."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import Any

from figures import Figures

from eventrouter.accept import accept
from eventrouter.acceptance import Client
from eventrouter.collect import Collector
from eventrouter.decode import decode
from eventrouter.scrub import Scrub
from eventrouter.source import Source

EVENTS = 100
ROUNDS = 300


def event(number: int) -> dict[str, Any]:
    """A track event of about 600 bytes as segment-analytics-python sends it."""
    return {
        "integrations": {},
        "anonymousId": f"3f2b6f0e-7d0c-4c1e-9a55-{number:012d}",
        "properties": {
            "order_id": f"O-{number}",
            "total": 123.45 + number,
            "currency": "EUR",
            "coupon": None,
            "products": [{"sku": "A-1", "quantity": 2, "price": 10.5}, {"sku": "B-2", "quantity": 1, "price": 102.45}],
            "first": False,
        },
        "timestamp": "2026-11-24T17:00:00.123+00:00",
        "context": {
            "library": {"name": "analytics-python", "version": "2.3.3"},
            "page": {"path": "/checkout", "url": "https://shop.example.com/checkout"},
        },
        "userId": f"user-{number}",
        "type": "track",
        "event": "Order Completed",
        "messageId": f"c0a8012e-5d1f-4b7c-8f00-{number:012d}",
    }


def best(run: Any) -> float:
    """The fastest of `ROUNDS` runs, in microseconds per event."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times) / EVENTS * 1e6


def main() -> None:
    """Measures microseconds per event."""
    events = [event(number) for number in range(EVENTS)]
    body = json.dumps({"batch": events, "sentAt": "2026-11-24T17:00:01.123456+00:00", "writeKey": "k"}).encode()
    odd = body.replace(b'"coupon": null', b'"coupon": NaN', 1)
    received_at = datetime(2026, 11, 24, 17, 0, 2, tzinfo=UTC)
    accepted = accept(body, endpoint="batch", source="website", received_at=received_at)
    assert len(accepted.events) == EVENTS, accepted.rejections

    def run(data: bytes, **more: Any) -> None:
        accept(data, endpoint="batch", source="website", received_at=received_at, **more)

    browser = Client("203.0.113.7", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0")
    fields = Scrub(remove=["context.ip", "traits.phone"], hashed=["userId", "traits.email"], salt="pepper")
    parameters = Scrub(query=["token", "email"])

    async def append(events: Any, rejected: Any) -> None:
        return

    async def nothing() -> Any:
        return {}

    collector = Collector(
        sources={"k": Source("website")}, accept=accept, append=append, ready=nothing, metrics=nothing
    )
    headers = [(b"host", b"localhost"), (b"authorization", b"Basic azo="), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/track", "query_string": b"", "headers": headers}
    single = json.dumps(event(1)).encode()

    async def receive() -> Any:
        return {"type": "http.request", "body": single, "more_body": False}

    async def send(message: Any) -> None:
        assert message.get("status", 200) == 200, message

    async def requests() -> None:
        for _ in range(EVENTS):
            await collector(scope, receive, send)

    rows = {
        "decode alone": lambda: best(lambda: decode(body)),
        "accept": lambda: best(lambda: run(body)),
        "accept, from a browser": lambda: best(lambda: run(body, client=browser)),
        "accept, fields removed and hashed": lambda: best(lambda: run(body, scrub=fields)),
        "accept, query parameters removed": lambda: best(lambda: run(body, scrub=parameters)),
        "accept, with a NaN in the batch": lambda: best(lambda: run(odd)),
        "collect and accept, a request an event, without a server": lambda: best(lambda: asyncio.run(requests())),
    }
    with Figures("accept") as figures:
        figures.note(f"{len(body) // EVENTS} bytes an event, batches of {EVENTS}")
        for name, measured in rows.items():
            figures.row(name, measured(), "µs/event")


if __name__ == "__main__":
    main()
