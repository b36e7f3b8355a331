"""sentinel.py: the server that real Sentinels name, also after a failover."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from system import free_port
from valkeys import Watched

from eventrouter.queue import PATIENCE
from eventrouter.sentinel import make_sentinel_pool
from eventrouter.server_url import ServerUrl


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    """Lets what was closed at the end of a test come to its end: so does the loop."""
    yield
    await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A master, two replicas, three Sentinels."""
    with Watched(tmp_path_factory.mktemp("watched")) as servers:
        yield servers


async def port_of(client: Redis) -> int:
    """The server that a client is connected to."""
    return int((await client.info("server"))["tcp_port"])


@pytest.mark.parametrize("reads", [False, True])
async def test_it_is_the_master_also_where_the_first_sentinel_is_away(servers: Watched, reads: bool) -> None:
    url = servers.url.replace("@", f"@127.0.0.1:{free_port()},")
    async with Redis(connection_pool=make_sentinel_pool(ServerUrl.parse(url), reads=reads)) as client:
        assert servers.master.port == await port_of(client)
        await client.aclose(close_connection_pool=True)


async def test_callers_wait_for_one_of_few_connections(servers: Watched) -> None:
    pool = make_sentinel_pool(ServerUrl.parse(servers.url), max_connections=2)
    async with Redis(connection_pool=pool) as client:
        assert [True] * 20 == await asyncio.gather(*(client.ping() for _ in range(20)))
        await client.aclose(close_connection_pool=True)


async def test_a_service_that_nobody_knows_is_an_error(servers: Watched) -> None:
    url = servers.url.replace("/main", "/other")
    async with Redis(connection_pool=make_sentinel_pool(ServerUrl.parse(url))) as client:
        with pytest.raises(RedisConnectionError, match="No master found for 'other'"):
            await client.ping()
        await client.aclose(close_connection_pool=True)


async def test_options_are_those_of_the_servers_and_of_the_sentinels(tmp_path: Path) -> None:
    url = ServerUrl.parse("rediss+sentinel://app:a@one/main/3?ssl_ca_certs=/ca&sentinel_password=b")
    pool = make_sentinel_pool(url)
    options, sentinel = pool.connection_kwargs, pool.sentinel_manager.sentinel_kwargs
    assert ("app", "a", 3, "/ca") == tuple(options[name] for name in ("username", "password", "db", "ssl_ca_certs"))
    assert (True, "b", "/ca") == tuple(sentinel[name] for name in ("ssl", "password", "ssl_ca_certs"))
    assert "username" not in sentinel


async def test_after_a_failover_it_is_the_new_master(servers: Watched) -> None:
    pools = [make_sentinel_pool(ServerUrl.parse(servers.url), **options) for options in ({}, PATIENCE)]
    async with Redis(connection_pool=pools[0]) as client, Redis(connection_pool=pools[1]) as patient:
        await asyncio.gather(*(client.ping() for _ in range(5)))  # so many connections lead to the old one
        await patient.ping()
        old = servers.master
        old.kill()
        waiting = asyncio.create_task(port_of(patient))
        found = old.port
        async with asyncio.timeout(60):
            while found == old.port:
                await asyncio.sleep(0.05)
                try:
                    found = await port_of(client)
                except RedisError:
                    continue
            assert found == await waiting
        assert await client.set("a", 1)
        assert servers.master.port == found
        old.start()
        await client.aclose(close_connection_pool=True)
        await patient.aclose(close_connection_pool=True)
