"""connections.py: how the server is found, waited for, and checked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from eventrouter.connections import META, AwayError, clients, wait_for_server
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


async def test_an_embedded_server_that_is_away_is_started_by_up(tmp_path: Path) -> None:
    settings = _settings(None, tmp_path)
    steps, blocking = clients(settings.server_url)
    async with steps, blocking:
        with pytest.raises(StartError) as caught:
            await wait_for_server(steps, settings, 0.1)
    assert caught.value.hint == "`eventrouter up` starts the embedded server"


@pytest.mark.parametrize("blocking", [False, True])
async def test_a_command_can_be_cancelled_at_any_moment(valkey: str, blocking: bool) -> None:
    client = clients(valkey)[blocking]
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
