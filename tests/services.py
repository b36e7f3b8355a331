"""A real Valkey for tests: one server for each test process, an empty database for each test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis as blocking_redis
from redis.asyncio import Redis

from eventrouter import lanes as lanes_module
from eventrouter import server_time
from eventrouter.embedded import EmbeddedServer
from eventrouter.lanes import Lanes
from lane_kit import Clock, on_test_clock


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The URL of a Valkey with the options of the embedded one, but without its fsync: tests survive no power cut."""
    directory = Path(tempfile.mkdtemp(prefix="er-valkey-"))
    server = EmbeddedServer(directory, maxmemory=256 * 1024 * 1024)
    try:
        server.start()
        with blocking_redis.Redis.from_url(server.url) as client:
            client.config_set("appendfsync", "no")
        yield server.url
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def redis(valkey: str) -> AsyncIterator[Redis]:
    """A client on an empty database."""
    async with Redis.from_url(valkey) as client:
        await client.flushall()
        yield client


@pytest.fixture
def lanes(redis: Redis) -> Lanes:
    """Lanes on an empty database."""
    return Lanes(redis)


@pytest.fixture
async def clock(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that the test owns: `lanes` made after it take the time from it."""
    source = lanes_module.source
    monkeypatch.setattr(server_time, "_ahead_ms", 0.0)  # back to it afterwards
    monkeypatch.setattr(lanes_module, "source", lambda step: on_test_clock(source(step)))
    clock = Clock(redis)
    await clock.tick()
    return clock
