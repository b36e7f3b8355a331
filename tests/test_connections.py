"""connections.py: how the server is found, waited for, and checked."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from arq.connections import RedisSettings
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ResponseError
from system import free_port
from valkeys import started

from eventrouter.cluster import Cluster
from eventrouter.connections import META, AwayError, client, clients, is_busy, single_server, wait_for_server
from eventrouter.errors import StartError
from eventrouter.settings import Settings


def _settings(url: str | None, tmp_path: Path, **more: int) -> Settings:
    return Settings(redis_url=url, data_dir=tmp_path, **more)  # type: ignore[arg-type]


async def test_a_server_that_answers_and_fits_is_taken(valkey: str, redis: Redis, tmp_path: Path) -> None:
    await wait_for_server(redis, _settings(valkey, tmp_path), 1)
    assert await redis.hgetall(META) == {b"shards": b"4", b"format": b"1"}


async def test_another_number_of_shards_is_refused(valkey: str, redis: Redis, tmp_path: Path) -> None:
    await wait_for_server(redis, _settings(valkey, tmp_path), 1)
    with pytest.raises(StartError, match="this event log has 4 shards, not 8") as caught:
        await wait_for_server(redis, _settings(valkey, tmp_path, shards=8), 1)
    assert "EVENTROUTER_SHARDS=4" in caught.value.hint


async def test_a_log_of_another_format_is_refused(valkey: str, redis: Redis, tmp_path: Path) -> None:
    await redis.hset(META, "format", "99")
    with pytest.raises(StartError, match="format 99"):
        await wait_for_server(redis, _settings(valkey, tmp_path), 1)


async def test_a_full_server_that_has_an_event_log_is_taken(valkey: str, redis: Redis, tmp_path: Path) -> None:
    await wait_for_server(redis, _settings(valkey, tmp_path), 1)
    async with _full(redis):
        await wait_for_server(redis, _settings(valkey, tmp_path), 1)


async def test_a_server_that_others_filled_is_refused_at_the_first_start(
    valkey: str, redis: Redis, tmp_path: Path
) -> None:
    async with _full(redis):
        with pytest.raises(StartError, match="is full of other things") as caught:
            await wait_for_server(redis, _settings(valkey, tmp_path), 1)
    assert "maxmemory" in caught.value.hint


@contextlib.asynccontextmanager
async def _full(redis: Redis) -> AsyncIterator[None]:
    before = (await redis.config_get("maxmemory"))["maxmemory"]
    await redis.config_set("maxmemory", 100_000)
    try:
        yield
    finally:
        await redis.config_set("maxmemory", before)


async def test_a_server_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    url = "redis://user:secret@127.0.0.1:1/0"
    steps, blocking = clients(url)
    async with steps, blocking:
        with pytest.raises(AwayError, match="is not reachable") as caught:
            await wait_for_server(steps, _settings(url, tmp_path), 0.1)
    assert "secret" not in str(caught.value)
    assert "EVENTROUTER_REDIS_URL" in caught.value.hint


@pytest.mark.parametrize("embedded", [True, False])
async def test_a_server_that_takes_connections_and_says_nothing_is_told_so(embedded: bool, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        async with client(url) as steps:
            with pytest.raises(AwayError, match="takes connections, but does not answer") as caught:
                await wait_for_server(steps, _settings(None if embedded else url, tmp_path), 0, silent=0.1)
    assert embedded == ("the log of `eventrouter up`" in caught.value.hint)


async def test_a_server_that_is_busy_with_a_script_is_waited_for(valkey: str, redis: Redis, tmp_path: Path) -> None:
    await redis.config_set("busy-reply-threshold", 1)
    async with Redis.from_url(valkey) as other:
        script = asyncio.create_task(other.eval("while true do end", 0))
        try:
            while not await _is_busy(redis):
                await asyncio.sleep(0.001)
            waiting = asyncio.create_task(wait_for_server(redis, _settings(valkey, tmp_path), 0, silent=5))
            done, _ = await asyncio.wait([waiting], timeout=0.2)
            assert not done
        finally:
            async with Redis.from_url(valkey) as third:
                await third.script_kill()
            await redis.config_set("busy-reply-threshold", 5000)
        await waiting
        with pytest.raises(ResponseError, match="killed"):
            await script


async def _is_busy(redis: Redis) -> bool:
    try:
        await redis.ping()
    except ResponseError as error:
        return is_busy(error)
    return False


async def test_an_embedded_server_that_is_away_is_started_by_up(tmp_path: Path) -> None:
    settings = _settings(None, tmp_path)
    steps, blocking = clients(settings.server_url)
    async with steps, blocking:
        with pytest.raises(StartError) as caught:
            await wait_for_server(steps, settings, 0.1)
    assert "`eventrouter up` starts the embedded server; where it runs, its log says what is wrong" == caught.value.hint


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://:hunter2@localhost?socket_timeout=soon", "Invalid value for 'socket_timeout'"),
        ("redis://:hunter2@localhost?nonsense=1", "nonsense"),
        ("redis+sentinel://:hunter2@localhost/main?nonsense=1", "nonsense"),
        ("redis+cluster://:hunter2@localhost?nonsense=1", "nonsense"),
        ("nonsense://:hunter2@localhost", "is not the URL"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_at_once_without_its_password(url: str, told: str) -> None:
    with pytest.raises(StartError, match=told) as caught:
        clients(url)
    assert "hunter2" not in str(caught.value)
    assert "redis+sentinel://HOST" in caught.value.hint


def test_each_kind_of_url_gets_its_kind_of_client() -> None:
    pools = [client(url).connection_pool for url in ("redis://localhost", "redis+sentinel://localhost/main")]
    assert [False, True] == [isinstance(pool, SentinelConnectionPool) for pool in pools]
    assert [True, True] == [isinstance(pool, BlockingConnectionPool) for pool in pools]
    assert [False, True] == [isinstance(client(f"redis{kind}://localhost"), Cluster) for kind in ("", "+cluster")]


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("unix:///run/v.sock?db=2", {"unix_socket_path": "/run/v.sock", "database": 2}),
        ("redis://app:p%40ss@example.com:6380/3", {"host": "example.com", "port": 6380, "password": "p@ss"}),
        ("rediss://example.com?ssl_ca_certs=/ca", {"ssl": True, "ssl_ca_certs": "/ca", "ssl_check_hostname": True}),
        (
            "redis+sentinel://:pass@one,two:2/main/1",
            {"host": [("one", 26379), ("two", 2)], "sentinel": True, "sentinel_master": "main", "password": "pass"},
        ),
    ],
)
def test_arq_is_told_in_its_own_words_where_a_single_server_is(url: str, settings: dict[str, object]) -> None:
    found = single_server(url)
    assert settings == {name: found[name] for name in settings}
    RedisSettings(**found)


async def test_a_cluster_is_not_taken_for_a_single_server(tmp_path: Path) -> None:
    with ExitStack() as stack:
        node = started(stack, tmp_path, 0, cluster_enabled="yes", cluster_port=str(free_port()))
        async with Redis.from_url(node.url) as redis:
            with pytest.raises(StartError, match="is that of a single server, and the server is in cluster mode"):
                await wait_for_server(redis, _settings(node.url, tmp_path), 1)


async def test_why_no_server_was_found_is_told_of_sentinels(tmp_path: Path) -> None:
    url = f"redis+sentinel://:secret@127.0.0.1:{free_port()}/main"
    steps = client(url)
    with pytest.raises(AwayError, match=r"is not reachable .No master found for 'main'") as caught:
        await wait_for_server(steps, _settings(url, tmp_path), 0.1)
    await steps.aclose(close_connection_pool=True)
    assert "secret" not in str(caught.value)
