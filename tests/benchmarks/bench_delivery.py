"""What deliveries cost beside 10,000 parked keys, and how many a slow destination takes one by one. Run it as a script.

`--count` is how many deliveries each part sends.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import structlog
from figures import Figures
from redis.asyncio import Redis

sys.path.insert(0, str(Path(__file__).parents[1]))

from deliver_kit import Post, Sink
from eventrouter.builtin.webhook import Webhook
from eventrouter.embedded import EmbeddedServer
from eventrouter.lane import Park

PARKED = 10_000
LATENCY = 0.05
SHARDS = 4
"""As many as there are by default."""
CONCURRENCY = Webhook.concurrency


def slow_server(told: Connection) -> None:
    """An HTTP server in a process of its own that takes everything, each after `LATENCY` seconds."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.split(b":")[1]))
                await asyncio.sleep(LATENCY)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


async def park(post: Post) -> None:
    """Parks `PARKED` keys of the lane for an hour."""
    for first in range(0, PARKED, 1000):
        await post.put(*(f"parked{number}" for number in range(first, first + 1000)))
    turn = await post.begin()
    assert turn is not None
    after = ""
    while items := (await turn.read(after, units=1000)).items:
        after = items[-1].id
        await turn.settle(parks=[Park(item.key, 3_600_000, [item]) for item in items])
    post.claims.append(await turn.give_up())


async def server_seconds(redis: Redis) -> float:
    """Processor seconds that the server has used."""
    found = await redis.info("cpu")
    return float(found["used_cpu_user"] + found["used_cpu_sys"])


async def until_taken(post: Post, sink: Sink, count: int) -> None:
    while len(sink.batches) < count:
        await asyncio.sleep(post.claims[0].delay if post.claims else 0.0)
        if (claim := await post.turn()) is not None:
            post.claims.append(claim)


async def beside_parked_keys(redis: Redis, count: int, *, parked: bool) -> tuple[float, float]:
    """Processor µs of the worker and of the server for each delivery of a lane, in batches of one."""
    await redis.flushall()
    sink = Sink()
    post = Post(redis, sink, concurrency=CONCURRENCY)
    if parked:
        await park(post)
    await post.put(*(f"live{number}" for number in range(count)))
    used, began = await server_seconds(redis), time.process_time()
    await until_taken(post, sink, count)
    taken, spent = time.process_time() - began, await server_seconds(redis) - used
    assert len(set(sink.got)) == count
    await sink.close()
    return taken / count * 1e6, spent / count * 1e6


async def one_by_one(redis: Redis, count: int, port: int) -> float:
    """Events a second at a webhook that answers after `LATENCY` seconds, one event in each request, all shards."""
    await redis.flushall()
    options = Webhook.Options(url=f"http://127.0.0.1:{port}/", allow_private=True)
    posts = [
        Post(redis, Webhook(options, destination="crm"), shard=shard, concurrency=CONCURRENCY)
        for shard in range(SHARDS)
    ]
    for post in posts:
        await post.put(*(f"{post.lane.shard}-{number}" for number in range(-(-count // SHARDS))))
    began = time.monotonic()
    serving = asyncio.gather(*(post.run(600) for post in posts))
    while sum(len(post.finished) for post in posts) < count:  # then the turns linger
        await asyncio.sleep(0.005)
    seconds = time.monotonic() - began
    await serving
    for post in posts:
        await post.sink.close()
    return count / seconds


async def measure(url: str, count: int, port: int) -> None:
    async with Redis.from_url(url) as redis:
        with Figures("delivery") as figures:
            for parked in (False, True):
                worker, server = await beside_parked_keys(redis, count, parked=parked)
                beside = f"{PARKED:,} parked keys" if parked else "no parked key"
                target = "as without them" if parked else ""
                figures.row(f"a delivery beside {beside}: worker's processor", worker, "µs", target)
                figures.row(f"a delivery beside {beside}: server's processor", server, "µs", target)
            rate = await one_by_one(redis, count, port)
            figures.row("50 ms of latency, one event a request", rate, "events/s", ">= 500 events/s")
            figures.note(
                f"{SHARDS} shards x {CONCURRENCY} requests at once: {SHARDS * CONCURRENCY / LATENCY:,.0f} at best"
            )
            figures.note(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=8000)
    count = parser.parse_args().count
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    ours, theirs = multiprocessing.Pipe()
    sink = multiprocessing.Process(target=slow_server, args=(theirs,), daemon=True)
    sink.start()
    with tempfile.TemporaryDirectory(prefix="er-bench-") as directory, EmbeddedServer(Path(directory)) as server:
        asyncio.run(measure(server.url, count, ours.recv()))
    sink.terminate()


if __name__ == "__main__":
    main()
