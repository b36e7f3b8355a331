"""server_pool.py: connections to one server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest
from outside_valkey import OutsideValkey
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from valkeys import started

from eventrouter.queue import PATIENCE
from eventrouter.server_pool import make_pool, pool_options


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    """Lets what was closed at the end of a test come to its end: so does the loop."""
    yield
    await asyncio.sleep(0.05)


async def test_callers_wait_for_one_of_few_connections(valkey: str) -> None:
    async with Redis(connection_pool=make_pool(pool_options(valkey) | {"max_connections": 2})) as client:
        assert [True] * 20 == await asyncio.gather(*(client.ping() for _ in range(20)))
        assert 2 == len(await client.client_list())
        await client.aclose(close_connection_pool=True)


async def test_reads_that_block_have_a_connection_each(redis: Redis, valkey: str) -> None:
    async with Redis(connection_pool=make_pool(pool_options(valkey), reads=True)) as client:
        streams = {"nothing": "$"}
        await asyncio.gather(*(client.xread(streams, block=20) for _ in range(100)))
        await client.aclose(close_connection_pool=True)


@pytest.mark.parametrize("reads", [False, True])
async def test_a_command_can_be_cancelled_at_any_moment(valkey: str, reads: bool) -> None:
    client = Redis(connection_pool=make_pool(pool_options(valkey), reads=reads))
    survivors = []

    async def ping(moment: int) -> None:
        await client.ping()
        await asyncio.sleep(0.01)
        survivors.append(moment)

    async with client:
        await client.ping()
        for moment in range(20):
            for _ in range(10):
                task = asyncio.create_task(ping(moment))
                for _ in range(moment):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await client.connection_pool.disconnect()
        await asyncio.sleep(0.05)  # those that were broken off close by and by
    assert [] == survivors


def test_a_certificate_has_to_be_for_the_servers_name_unless_the_url_says_otherwise() -> None:
    assert [True, False] == [
        pool_options(f"rediss://example.com{query}")["ssl_check_hostname"]
        for query in ("", "?ssl_check_hostname=false")
    ]
    assert "ssl_check_hostname" not in pool_options("redis://example.com")


def test_the_urls_options_win() -> None:
    assert 3.5 == pool_options("redis://localhost?socket_timeout=3.5")["socket_timeout"]


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutsideValkey]:
    """A server for one test."""
    with ExitStack() as stack:
        yield started(stack, tmp_path_factory.mktemp("own"), 0)


async def test_a_connection_leaves_a_server_that_was_demoted(own: OutsideValkey) -> None:
    pool: ConnectionPool = make_pool(pool_options(own.url) | {"max_connections": 1})
    async with Redis(connection_pool=pool) as client:
        before = await client.client_id()
        await client.replicaof("127.0.0.1", 1)
        with pytest.raises(RedisConnectionError, match="become a replica"):
            await client.set("a", 1)
        await client.replicaof("NO", "ONE")
        assert await client.set("a", 1)
        assert before != await client.client_id()
        await client.aclose(close_connection_pool=True)


async def test_other_errors_of_the_server_cost_no_connection(own: OutsideValkey) -> None:
    async with Redis(connection_pool=make_pool(pool_options(own.url) | {"max_connections": 1})) as client:
        before = await client.client_id()
        with pytest.raises(ResponseError):
            await client.execute_command("NONSENSE")
        assert before == await client.client_id()
        await client.aclose(close_connection_pool=True)


async def test_who_has_patience_waits_for_a_server_for_longer_than_for_an_answer(own: OutsideValkey) -> None:
    pool = make_pool(pool_options(own.url) | {"socket_timeout": 0.1, **PATIENCE}, reads=True)
    async with Redis(connection_pool=pool) as client:
        own.stop()
        waiting = asyncio.create_task(client.ping())
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await asyncio.to_thread(own.start)
        assert await waiting
        await client.aclose(close_connection_pool=True)


async def test_what_can_not_be_sent_in_time_is_an_error_of_redis_py(own: OutsideValkey) -> None:
    async with Redis(connection_pool=make_pool(pool_options(own.url) | {"socket_timeout": 0.2})) as client:
        await client.ping()
        own.freeze()
        try:
            with pytest.raises(RedisTimeoutError):
                await client.set("a", b"x" * 50_000_000)
        finally:
            own.thaw()
        await client.aclose(close_connection_pool=True)
