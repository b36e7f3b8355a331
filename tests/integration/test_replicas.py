"""EVENTROUTER_REPLICAS: an event counts as kept when so many replicas have it, so that a failover does not lose it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from outside_valkey import OutsideValkey
from system import System, run, steadily, until
from test_outside_redis import ARQ
from valkeys import Watched, replicas_of, started

RULES = """
version: 1
sources: { website: { write_key: key-website } }
collect: { spool: { max_bytes: "${SPOOL:-1GB}" } }
"""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[OutsideValkey, OutsideValkey]]:
    """A server and its replica."""
    with ExitStack() as stack:
        master = started(stack, tmp_path, 0)
        replica = started(stack, tmp_path, 1, replicaof=f"127.0.0.1 {master.port}")
        until(lambda: replicas_of(master) == 1)
        yield master, replica


def test_without_a_spool_an_event_that_no_replica_has_is_a_503(
    pair: tuple[OutsideValkey, OutsideValkey], tmp_path: Path
) -> None:
    master, replica = pair
    environment = {"EVENTROUTER_REDIS_URL": master.url, "EVENTROUTER_REPLICAS": "1", "SPOOL": "0"}
    with System(tmp_path, RULES, environment, command="collect") as system:
        system.track("Before", "a")
        replica.freeze()
        reply = system.post("/v1/track", {"event": "During", "anonymousId": "a"})
        replica.thaw()
        assert reply.error == (503, "unavailable")
        until(lambda: system.post("/v1/track", {"event": "After", "anonymousId": "a"}).status == 200)


def test_with_a_spool_it_waits_there_and_the_log_does_not_fill_with_repeats(
    pair: tuple[OutsideValkey, OutsideValkey], tmp_path: Path
) -> None:
    master, replica = pair
    environment = {"EVENTROUTER_REDIS_URL": master.url, "EVENTROUTER_REPLICAS": "1"}
    with System(tmp_path, RULES, environment, command="collect") as system:
        replica.freeze()
        system.track("During", "a")
        assert system.get("/ready").json["spooling"] is True
        with redis.Redis.from_url(master.url) as client:

            def appended() -> int:
                return sum(int(client.hget(f"er:{{{shard}}}:counts", "accepted") or 0) for shard in range(4))

            before = appended()
            assert steadily(lambda: appended() <= before + 1, 3)
        replica.thaw()
        until(lambda: system.get("/ready").json["spooling"] is False)
        assert "events go to the spool" in system.log


def test_what_only_the_old_master_had_is_there_after_a_failover(tmp_path: Path) -> None:
    with Watched(tmp_path) as servers:
        environment = {"EVENTROUTER_REDIS_URL": servers.url, "EVENTROUTER_REPLICAS": "1"}
        with System(tmp_path, RULES, environment) as system:
            system.track("Before", "a")
            system.events(1, "Before")
            old = servers.master
            replicas = [server for server in servers.servers if server is not old]
            for replica in replicas:
                replica.freeze()
            system.track("During", "a")
            old.kill()
            for replica in replicas:
                replica.thaw()
            until(lambda: servers.has_other_master(old))
            system.track("After", "a")
            system.events(1, "During")
            system.events(1, "After")
            assert system.destination("warehouse")["waiting"] == 0
            done = run([*ARQ, "--check", "eventrouter.WorkerSettings"], system.variables(), system.directory)
            assert done.returncode == 0, done.stderr
            assert "s3cret" not in system.log + done.stdout + done.stderr


def test_replicas_that_are_missing_are_told_at_the_start(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = started(stack, tmp_path, 0)
        environment = {"EVENTROUTER_REDIS_URL": server.url, "EVENTROUTER_REPLICAS": "2"}
        with System(tmp_path, RULES, environment, command="collect") as system:
            assert "has 0 replicas, and EVENTROUTER_REPLICAS=2" in system.log
            system.track("Spooled", "a")
            assert system.get("/ready").json["spooling"] is True
