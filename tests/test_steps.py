"""steps.py: how steps are run, on a real server and with a real replica."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest
from outside_valkey import OutsideValkey
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from system import until
from valkeys import replicas_of, started

from eventrouter import steps as steps_module
from eventrouter.errors import UnavailableError
from eventrouter.steps import Call, Steps

SOURCES = {
    "add": "redis.call('INCRBY', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])",
    "fail": "return redis.error_reply('NO not now')",
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OutsideValkey, OutsideValkey]]:
    """A server and its replica."""
    directory = tmp_path_factory.mktemp("pair")
    with ExitStack() as stack:
        master = started(stack, directory, 0, appendfsync="no")
        replica = started(stack, directory, 1, appendfsync="no", replicaof=f"127.0.0.1 {master.port}")
        until(lambda: replicas_of(master) == 1)
        yield master, replica


@pytest.fixture
async def master(pair: tuple[OutsideValkey, OutsideValkey]) -> AsyncIterator[Redis]:
    """A client on the server that has the replica."""
    async with Redis.from_url(pair[0].url) as client:
        await client.flushall()
        yield client


async def test_a_step_is_run_by_its_digest_which_the_server_learns_once(redis: Redis) -> None:
    steps = Steps(redis, SOURCES)
    await redis.script_flush()
    assert [b"2", b"5"] == [await steps.run("add", Call(["a"], [number])) for number in (2, 3)]


async def test_the_error_of_a_step_is_raised(redis: Redis) -> None:
    with pytest.raises(ResponseError, match="not now"):
        await Steps(redis, SOURCES).run("fail", Call(["a"], []))


async def test_many_are_run_in_one_round_trip_with_an_error_each(redis: Redis) -> None:
    await redis.script_flush()
    await redis.set("b", "text")
    (first, kept), (second, _) = await Steps(redis, SOURCES).run_kept("add", [Call(["a"], [1]), Call(["b"], [1])])
    assert (b"1", True) == (first, kept)
    assert isinstance(second, ResponseError)
    assert b"1" == await redis.get("a")


async def test_what_a_replica_has_is_kept(master: Redis, pair: tuple[OutsideValkey, OutsideValkey]) -> None:
    steps = Steps(master, SOURCES, replicas=1)
    assert [(b"1", True), (b"2", True)] == await steps.run_kept("add", [Call(["a"], [1]), Call(["b"], [2])])
    async with Redis.from_url(pair[1].url) as replica:
        assert [b"1", b"2"] == await replica.mget("a", "b")
    await steps.reach(["a", "b"])


async def test_what_no_replica_has_is_done_but_not_kept(
    master: Redis, pair: tuple[OutsideValkey, OutsideValkey], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps_module, "WAIT_SECONDS", 0.05)
    steps = Steps(master, SOURCES, replicas=1)
    pair[1].freeze()
    try:
        assert [(b"1", False)] == await steps.run_kept("add", [Call(["a"], [1])])
        with pytest.raises(UnavailableError, match="fewer than 1 replicas"):
            await steps.reach(["a"])
    finally:
        pair[1].thaw()


async def test_more_replicas_than_there_are_keep_nothing(master: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps_module, "WAIT_SECONDS", 0.05)
    assert [(b"1", False)] == await Steps(master, SOURCES, replicas=2).run_kept("add", [Call(["a"], [1])])


async def test_without_replicas_all_is_kept_by_the_server_itself(redis: Redis) -> None:
    steps = Steps(redis, SOURCES)
    assert [(b"1", True)] == await steps.run_kept("add", [Call(["a"], [1])])
    await steps.reach(["a"])
