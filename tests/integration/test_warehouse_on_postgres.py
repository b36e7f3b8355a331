"""The warehouse on a real PostgreSQL that is restarted, crowded, locked and shared."""

from __future__ import annotations

import asyncio
import random

import psycopg
import pytest

from eventrouter.errors import Retry
from postgres_kit import postgres_running
from warehouse_kit import messages, record, run, select, warehouse_at


async def test_a_server_that_restarts_loses_nothing() -> None:
    with postgres_running() as (server, url):
        warehouse = warehouse_at(url)
        await warehouse.deliver(messages(record("m1")))
        server.stop()
        with pytest.raises(Retry, match="the warehouse at"):
            await warehouse.deliver(messages(record("m2")))
        server.ensure_postgres_running()
        await warehouse.deliver(messages(record("m2")))
        await warehouse.close()
        assert [("m1",), ("m2",)] == select(url, "SELECT id FROM tracks ORDER BY id")


async def test_a_connection_that_was_cut_while_idle_is_not_even_noticed(postgres_url: str) -> None:
    warehouse = warehouse_at(postgres_url)
    await warehouse.deliver(messages(record("m1")))
    run(
        postgres_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'eventrouter' AND datname = current_database()",
    )
    await warehouse.deliver(messages(record("m2")))
    await warehouse.close()
    assert [(2,)] == select(postgres_url, "SELECT count(*) FROM tracks")


async def test_too_many_connections_are_a_retry_with_advice(postgres_url: str) -> None:
    run(postgres_url, "DROP ROLE IF EXISTS crowded")
    run(postgres_url, "CREATE ROLE crowded LOGIN CONNECTION LIMIT 0")
    warehouse = warehouse_at(postgres_url.replace("postgres@", "crowded@"))
    with pytest.raises(Retry, match="too many connections"):
        await warehouse.deliver(messages(record("m1")))
    await warehouse.close()


async def test_a_new_column_waits_for_a_long_reader_and_then_comes(postgres_url: str) -> None:
    warehouse = warehouse_at(postgres_url)
    await warehouse.deliver(messages(record("m1")))
    reader = psycopg.connect(postgres_url)
    reader.execute("SELECT * FROM order_completed")
    loading = asyncio.create_task(warehouse.deliver(messages(record("m2", properties={"fresh": 1}))))
    await asyncio.sleep(0.3)
    assert not loading.done()
    reader.close()
    await loading
    await warehouse.close()
    assert [("m2", 1)] == select(postgres_url, "SELECT id, fresh FROM order_completed WHERE fresh IS NOT NULL")


async def test_workers_that_bring_the_same_new_names_at_once_do_not_fail(postgres_url: str) -> None:
    workers = [warehouse_at(postgres_url) for _ in range(4)]
    dice = random.Random(11)
    batches = []
    for batch in range(24):
        records = [
            record(
                f"m{batch}-{one}",
                event=f"Event {dice.randrange(6)}",
                properties={f"p{dice.randrange(40)}": dice.choice([1, 1.5, "text", True])},
                context={f"c{dice.randrange(20)}": dice.choice([1, "text"])},
            )
            for one in range(40)
        ]
        records += [
            record(
                f"i{batch}-{one}", "identify", userId=f"u{dice.randrange(5)}", traits={f"t{dice.randrange(20)}": one}
            )
            for one in range(10)
        ]
        batches.append(messages(*records))

    async def work(number: int) -> None:
        for batch in batches[number::2]:  # each batch is loaded by two of them
            await workers[number].deliver(batch)
            await workers[number + 2].deliver(batch)

    await asyncio.gather(work(0), work(1), work(0), work(1))
    for worker in workers:
        await worker.close()
    assert [(24 * 50, 24 * 40, 24 * 10)] == select(
        postgres_url,
        "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM tracks), (SELECT count(*) FROM identifies)",
    )
    tables = [name for (name,) in select(postgres_url, "SELECT table_name FROM eventrouter_tables")]
    assert 6 == len(tables)
    assert 24 * 40 == sum(select(postgres_url, f"SELECT count(*) FROM {name}")[0][0] for name in tables)
    assert [0] * 4 == [worker.refused for worker in workers]
    assert [(5,)] == select(postgres_url, "SELECT count(*) FROM users")


async def test_a_batch_is_seen_whole_or_not_at_all(postgres_url: str) -> None:
    warehouse = warehouse_at(postgres_url)
    await warehouse.deliver(messages(record("first")))
    seen: set[int] = set()

    async def watch() -> None:
        async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as reader:
            while True:
                cursor = await reader.execute("SELECT count(*) FROM order_completed")
                [count] = await cursor.fetchone() or [0]
                seen.add(count)

    watching = asyncio.create_task(watch())
    for batch in range(5):
        await warehouse.deliver(messages(*(record(f"m{batch}-{one}") for one in range(200))))
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await warehouse.close()
    assert seen <= {1 + 200 * batch for batch in range(6)}
