"""A server of one's own is checked for what the promises need."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from eventrouter.embedded import EmbeddedServer
from eventrouter.errors import StartError
from eventrouter.server_check import check_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with EmbeddedServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(params=[True, False], ids=["text", "bytes"])
async def redis(server, request):
    async with Redis.from_url(server.url, decode_responses=request.param) as redis:
        yield redis
        await redis.config_set("appendonly", "yes")
        await redis.config_set("appendfsync", "always")
        await redis.config_set("maxmemory-policy", "noeviction")


async def test_a_server_set_up_well_raises_no_warning(redis):
    assert await check_server(redis) == []


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("appendonly", "no", "set appendonly yes"),
        ("appendfsync", "everysec", "set appendfsync always"),
        ("maxmemory-policy", "allkeys-lru", "set maxmemory-policy noeviction"),
    ],
)
async def test_each_weakness_is_a_warning_with_advice(redis, name, value, advice):
    await redis.config_set(name, value)
    (warning,) = await check_server(redis)
    assert advice in warning


async def test_a_server_that_does_not_tell_its_settings_is_taken_as_it_is(server):
    async with Redis.from_url(server.url) as admin:
        await admin.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-config")
    async with Redis.from_url(server.url.replace("unix://", "unix://app:pw@")) as redis:
        assert await check_server(redis) == []


async def test_an_old_server_is_refused(redis, monkeypatch):
    async def info(section):
        return {"redis_version": "6.2.14"}

    monkeypatch.setattr(redis, "info", info)
    with pytest.raises(StartError, match=r"version 6\.2\.14, which is too old"):
        await check_server(redis)


@pytest.mark.parametrize(("mode", "is_cluster"), [("cluster", False), ("standalone", True), ("sentinel", False)])
async def test_a_server_of_another_kind_than_its_url_says_is_refused(redis, monkeypatch, mode, is_cluster):
    async def info(section):
        return {"redis_version": "7.4.0", "redis_mode": mode}

    monkeypatch.setattr(redis, "info", info)
    with pytest.raises(StartError, match=f"the server is in {mode} mode") as caught:
        await check_server(redis, is_cluster=is_cluster)
    assert "redis+cluster://" in caught.value.hint


async def test_replicas_that_are_missing_are_a_warning(redis):
    (warning,) = await check_server(redis, replicas=1)
    assert "has 0 replicas, and EVENTROUTER_REPLICAS=1" in warning
