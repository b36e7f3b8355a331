"""cluster.py: a client of a real Cluster of three masters, each with a replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from outside_valkey import OutsideValkey
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, NoScriptError, RedisError, ResponseError
from system import free_port
from valkeys import ValkeyCluster, ask, started

from eventrouter.cluster import Cluster, key_of, slot_of
from eventrouter.connections import client

KEYS = ["er:{0}:a", "er:{1}:a", "er:{2}:a", "er:{3}:a"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    """Three masters, three replicas."""
    with ValkeyCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
async def cluster(servers: ValkeyCluster) -> AsyncIterator[Cluster]:
    """A client; all keys are gone."""
    made = client(servers.url)
    assert isinstance(made, Cluster)
    for master in await made.masters():
        await master.flushall()
    yield made
    await made.aclose()


@pytest.mark.parametrize(
    ("args", "options", "key"),
    [
        (("GET", "a"), {}, "a"),
        (("GET", b"a"), {}, "a"),
        (("EVALSHA", "digest", 1, "a", "b"), {}, "a"),
        (("XREAD", b"COUNT", 1, b"STREAMS", "a", "$"), {}, "a"),
        (("XINFO STREAM", "a"), {}, "a"),
        (("WAIT", 1, 100), {"keys": ["a"]}, "a"),
        (("PING",), {}, "er:meta"),
        (("INFO", "server"), {}, "er:meta"),
        (("CONFIG GET", "maxmemory"), {}, "er:meta"),
        (("TIME",), {}, "er:meta"),
    ],
)
def test_a_command_has_its_key(args: tuple[Any, ...], options: dict[str, Any], key: str) -> None:
    assert key == key_of(args, options)


def test_what_is_in_braces_decides_who_has_a_key(servers: ValkeyCluster) -> None:
    assert [ask(servers.servers[0], "CLUSTER", "KEYSLOT", key) for key in KEYS] == [slot_of(key) for key in KEYS]
    assert slot_of("er:{0}:a") == slot_of("er:{0}:lane:log")
    assert len({slot_of(key) for key in KEYS}) == len(KEYS)


async def test_each_key_is_on_its_node(cluster: Cluster, servers: ValkeyCluster) -> None:
    assert len({servers.master_of(key).port for key in KEYS}) > 1
    for number, key in enumerate(KEYS):
        await cluster.set(key, number)
    assert [str(number).encode() for number in range(4)] == [await cluster.get(key) for key in KEYS]


async def test_a_pipeline_goes_to_all_nodes_and_keeps_its_order(cluster: Cluster) -> None:
    async with cluster.pipeline(transaction=False) as pipeline:
        for number in range(40):
            pipeline.incrby(KEYS[number % 4], number)
        pipeline.ping()
        pipeline.hgetall("er:{9}:none")
        answers = await pipeline.execute()
    totals = [sum(range(number % 4, number + 1, 4)) for number in range(40)]
    assert [*totals, True, {}] == answers


async def test_errors_stay_with_their_commands_or_the_first_is_raised(cluster: Cluster) -> None:
    await cluster.set(KEYS[1], "text")
    async with cluster.pipeline(transaction=False) as pipeline:
        for key in KEYS:
            pipeline.incr(key)
        one, two, *others = await pipeline.execute(raise_on_error=False)
        assert isinstance(two, ResponseError)
        assert [1, 1, 1] == [one, *others]
        for key in KEYS:
            pipeline.incr(key)
        with pytest.raises(ResponseError, match="not an integer"):
            await pipeline.execute()


async def test_a_transaction_stays_within_a_slot(cluster: Cluster) -> None:
    async with cluster.pipeline(transaction=True) as pipeline:
        pipeline.set("er:{1}:a", 1)
        pipeline.incr("er:{1}:b")
        assert [True, 1] == await pipeline.execute()
        pipeline.set("er:{1}:a", 1)
        pipeline.set("er:{2}:a", 1)
        with pytest.raises(RedisError, match="within one slot"):
            await pipeline.execute()


async def test_scripts_run_where_their_keys_are(cluster: Cluster) -> None:
    for key in KEYS:
        await cluster.set(key, "v")
        assert b"v" == await cluster.eval("return redis.call('GETDEL', KEYS[1])", 1, key)  # type: ignore[misc]
    with pytest.raises(NoScriptError):
        await cluster.evalsha("0" * 40, 1, KEYS[0])  # type: ignore[misc]


async def test_a_read_that_blocks_waits_at_the_node_of_its_stream(cluster: Cluster, servers: ValkeyCluster) -> None:
    reader = client(servers.url, reads=True)
    waiting = [asyncio.create_task(reader.xread({key: "$"}, block=20_000)) for key in KEYS]
    async with asyncio.timeout(20):
        while sum([int((await node.info("clients"))["blocked_clients"]) for node in await cluster.masters()]) < 4:
            await asyncio.sleep(0.01)
    for key in KEYS:
        await cluster.xadd(key, {"n": "1"})
    assert [1] * 4 == [len(found) for found in await asyncio.gather(*waiting)]
    await reader.aclose()


async def test_a_wait_tells_of_the_replicas_of_its_keys_node(cluster: Cluster) -> None:
    async with cluster.pipeline(transaction=False) as pipeline:
        for key in KEYS:
            pipeline.incr(key)
        for key in KEYS:
            pipeline.execute_command("WAIT", 1, 5000, keys=[key])
        assert [1] * 8 == await pipeline.execute()


async def test_what_is_published_reaches_who_subscribed_at_any_node(cluster: Cluster) -> None:
    subscriptions = [cluster.pubsub() for _ in range(8)]
    for one in subscriptions:
        await one.subscribe("news")
        assert (await one.get_message(timeout=20))["type"] == "subscribe"
    await cluster.publish("news", "hello")
    for one in subscriptions:
        assert b"hello" == (await one.get_message(timeout=20))["data"]
        await one.aclose()


async def test_a_slot_that_moved_is_found_and_nothing_is_done_twice(cluster: Cluster, servers: ValkeyCluster) -> None:
    slot, source = slot_of(KEYS[2]), servers.master_of(KEYS[2])
    target = next(one for one in servers.servers[:3] if one is not source)
    await cluster.incr(KEYS[2])
    name = ask(target, "CLUSTER", "MYID")
    ask(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", name)
    async with asyncio.timeout(30):
        while await asyncio.to_thread(servers.master_of, KEYS[2]) is not target:
            await asyncio.sleep(0.05)
    async with cluster.pipeline(transaction=False) as pipeline:
        for _ in range(2):
            for key in KEYS:
                pipeline.incr(key)
        pipeline.execute_command("WAIT", 1, 5000, keys=[KEYS[2]])
        assert [1, 1, 2, 1, 2, 2, 3, 2, 1] == await pipeline.execute()
    assert 4 == await cluster.incr(KEYS[2])


async def test_a_slot_that_moves_on_and_on_is_an_error_in_the_end(cluster: Cluster, servers: ValkeyCluster) -> None:
    """The map says one thing, and every node another."""
    await cluster.set(KEYS[0], "x")
    wrong = next(one for one in servers.servers[:3] if one is not servers.master_of(KEYS[0]))

    async def owner(key: str) -> tuple[str, int]:
        return "127.0.0.1", wrong.port

    cluster._owner = owner  # type: ignore[method-assign]
    with pytest.raises(MovedError):
        await cluster.set(KEYS[0], "y")


async def test_a_node_that_is_away_harms_the_keys_of_no_other(cluster: Cluster, servers: ValkeyCluster) -> None:
    for server in servers.servers:
        ask(server, "CONFIG", "SET", "cluster-require-full-coverage", "no")
    victim = servers.master_of(KEYS[0])
    there = [key for key in KEYS if servers.master_of(key) is not victim]
    await cluster.get(KEYS[0])
    victim.kill()
    try:
        async with cluster.pipeline(transaction=False) as pipeline:
            for key in (KEYS[0], *there):
                pipeline.set(key, 1)
            first, *others = await pipeline.execute(raise_on_error=False)
        assert isinstance(first, RedisConnectionError)
        assert [True] * len(there) == others
        # Its replica takes over, and is found.
        async with asyncio.timeout(60):
            while True:
                try:
                    assert await cluster.set(KEYS[0], 2)
                    break
                except RedisError:
                    await asyncio.sleep(0.05)
        assert b"2" == await cluster.get(KEYS[0])
    finally:
        victim.start()


async def test_without_any_node_it_says_so() -> None:
    cluster = client(f"redis+cluster://127.0.0.1:{free_port()}")
    with pytest.raises(RedisConnectionError):
        await cluster.ping()
    await cluster.aclose()


async def test_slots_that_nobody_has_are_an_error(tmp_path_factory: pytest.TempPathFactory) -> None:
    with ExitStack() as stack:
        port = str(free_port())
        node: OutsideValkey = started(stack, tmp_path_factory.mktemp("n"), 0, cluster_enabled="yes", cluster_port=port)
        cluster = client(node.url.replace("redis://", "redis+cluster://"))
        with pytest.raises(RedisError, match="no node has the slot"):
            await cluster.get("a")
        ask(node, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await cluster.get("a") is None
                    break
                except RedisError:
                    await asyncio.sleep(0.05)
        await cluster.aclose()
        assert isinstance(cluster, Redis)
