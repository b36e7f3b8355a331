"""A power cut: what the embedded server has acknowledged is there afterwards. The disk is a forgetful one, on Linux."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import chaos_disk
import pytest
import redis

from eventrouter.embedded import EmbeddedServer

WRITERS = 4
SECONDS = 1.7
"""How long is written: not a multiple of the second after which `everysec` syncs."""

pytestmark = pytest.mark.slow


def lost_after_power_cut(directory: Path, monkeypatch: pytest.MonkeyPatch, policy: str) -> tuple[int, int]:
    """Appends while `appendfsync` is `policy`, cuts the power; returns how many were acknowledged and how many lost."""
    disk = chaos_disk.environment(chaos_disk.build(directory), fsync_ms="20:60", power_loss=True)
    for name, value in disk.items():
        monkeypatch.setenv(name, value)
    server = EmbeddedServer(directory / "data")
    server.start()
    acknowledged: list[bytes] = []

    def write(number: int) -> None:
        with redis.Redis.from_url(server.url) as client:
            try:
                while True:
                    acknowledged.append(client.xadd("log", {"writer": str(number)}))
            except redis.RedisError:
                return

    try:
        with redis.Redis.from_url(server.url) as client:
            client.config_set("appendfsync", policy)
        writers = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        time.sleep(SECONDS)
        os.kill(server.pid, signal.SIGKILL)
        for writer in writers:
            writer.join()
        server.stop()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            kept = {item for item, _ in client.xrange("log")}
        return len(acknowledged), len(set(acknowledged) - kept)
    finally:
        server.stop()


if sys.platform == "linux":

    def test_no_acknowledged_append_is_lost(tmp_path, monkeypatch):
        acknowledged, lost = lost_after_power_cut(tmp_path, monkeypatch, "always")
        assert acknowledged > 20
        assert 0 == lost

    def test_the_disk_does_forget_what_was_not_synced(tmp_path, monkeypatch):
        """The test above has teeth: with a sync each second, the last second's appends are gone."""
        acknowledged, lost = lost_after_power_cut(tmp_path, monkeypatch, "everysec")
        assert acknowledged > 20
        assert lost > 0
