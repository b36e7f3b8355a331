"""Writes that a full server takes: single ones, in pipelines and in transactions."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from eventrouter.unrefused import REFUSED, Unrefused, allowed


class Client(Unrefused, Redis):
    pass


@pytest.fixture
async def client(valkey, redis):
    async with Client.from_url(valkey) as one:
        yield one


@pytest.fixture
async def full(client, redis):
    """A server that has more than its maxmemory."""
    before = (await redis.config_get("maxmemory"))["maxmemory"]
    await redis.config_set("maxmemory", 100_000)
    try:
        with pytest.raises(OutOfMemoryError):
            await redis.set("key", "value")
        yield
    finally:
        await redis.config_set("maxmemory", before)


async def test_single_writes_are_taken(full, client):
    await client.set("text", "value", px=10_000)
    await client.psetex("short", 10_000, "value")
    await client.setex("seconds", 10, "value")
    await client.zadd("set", {"one": 1, "two": 2})
    await client.zincrby("set", 5, "one")
    assert 1 == await client.incr("number")
    assert [b"value", b"value", b"value"] == await client.mget("text", "short", "seconds")
    assert [(b"two", 2.0), (b"one", 6.0)] == await client.zrange("set", 0, -1, withscores=True)
    assert 0 < await client.pttl("text") <= 10_000


@pytest.mark.parametrize("transaction", [True, False])
async def test_pipelines_are_taken_after_a_watch_too(full, client, transaction):
    async with client.pipeline(transaction=transaction) as pipeline:
        if transaction:
            await pipeline.watch("watched")
            assert not await pipeline.exists("watched")
            pipeline.multi()
        pipeline.psetex("job", 1000, b"\x00\xff")
        pipeline.incr("tries")
        pipeline.expire("tries", 10)
        pipeline.zadd("queue", {"job": 5})
        assert [b"OK", 1, True, 1] == await pipeline.execute()
    assert b"\x00\xff" == await client.get("job")


async def test_a_server_that_forgot_its_scripts_takes_them(full, client, redis):
    await client.set("text", "one")
    await redis.script_flush()
    async with client.pipeline() as pipeline:
        pipeline.set("text", "two")
        await pipeline.execute()
    assert b"two" == await client.get("text")


async def test_every_write_of_arq_is_among_them(redis):
    """arq's commands that a full server refuses, by the server's own word."""
    flags = {name.upper(): info["flags"] for name, info in (await redis.command()).items()}
    for name in ("ZREM", "DEL", "EXPIRE", "PEXPIRE", "WATCH", "MULTI", "EXEC", "EVAL", "ZRANGEBYSCORE", "ZCARD"):
        assert "denyoom" not in flags[name]
        assert (name, "key") == allowed((name, "key"))
    for name in REFUSED:
        assert "denyoom" in flags[name]


@pytest.mark.parametrize(("command", "answer"), [(("EXISTS", "job"), 1), (("ZSCORE", "queue", "job"), None)])
async def test_a_watch_whose_connection_breaks_is_as_if_the_job_were_taken(client, redis, command, answer):
    async with client.pipeline(transaction=True) as pipeline:
        await pipeline.watch("job")
        await redis.client_kill_filter(_id=await pipeline.execute_command("CLIENT ID"))
        assert answer == await pipeline.execute_command(*command)
    assert await client.ping()


async def test_a_watch_that_holds_answers_as_ever(client):
    await client.zadd("queue", {"job": 5})
    async with client.pipeline(transaction=True) as pipeline:
        await pipeline.watch("job")
        assert (0, 5.0) == (await pipeline.exists("job"), await pipeline.zscore("queue", "job"))
