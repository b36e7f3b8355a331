"""The event log on a Cluster, arq's keys on another server: a whole system, and the commands that look at it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from http_sink import Sink
from system import System, until
from valkeys import ValkeyCluster, ask, started

from eventrouter.testing import Answer

RULES = """
version: 1
sources: { website: { write_key: key-website } }
destinations:
  all:
    plugin: webhook
    batch: { size: 10 }
    rate_limit: 1000/s
    concurrency: 4
    options: { url: "${SINK}/on-a-cluster", allow_private: true }
routes:
  - { to: all }
"""


@pytest.fixture(scope="module")
def on_cluster(tmp_path_factory: pytest.TempPathFactory, sink: Sink) -> Iterator[tuple[System, ValkeyCluster]]:
    """A system, eight shards on three masters."""
    directory = tmp_path_factory.mktemp("cluster")
    with ExitStack() as stack:
        cluster = stack.enter_context(ValkeyCluster(directory))
        queue = started(stack, directory, 9, appendonly="no")
        environment = {
            "SINK": sink.url,
            "EVENTROUTER_REDIS_URL": cluster.url,
            "EVENTROUTER_QUEUE_URL": queue.url,
            "EVENTROUTER_REPLICAS": "1",
            "EVENTROUTER_SHARDS": "8",
        }
        sink.always("/on-a-cluster", lambda events: Answer(status=400 if "Bad" in str(events) else 200))
        yield stack.enter_context(System(directory, RULES, environment)), cluster


def test_events_of_all_shards_are_stored_and_delivered_in_order(
    on_cluster: tuple[System, ValkeyCluster], sink: Sink
) -> None:
    system, cluster = on_cluster
    for number in range(200):
        system.track("Seen", f"a{number % 20}", messageId=f"seen-{number}", properties={"number": number})
    system.track("Bad", "b", messageId="bad-1")
    system.events(200, "Seen")
    until(lambda: system.destination("all")["waiting"] == 0)
    arrived = [event for hit in sink.taken("/on-a-cluster") for event in hit.json if event["event"] == "Seen"]
    assert {event["messageId"] for event in arrived} == {f"seen-{number}" for number in range(200)}
    for who in range(20):
        numbers = [event["properties"]["number"] for event in arrived if event["anonymousId"] == f"a{who}"]
        assert numbers == sorted(numbers)
    used = [server for server in cluster.servers[:3] if ask(server, "DBSIZE")]
    assert len(used) == 3


@pytest.mark.parametrize(
    "command",
    ["status --json", "audit --json", "audit --deep --json", "trace seen-3 --json", "dead list --json"],
)
def test_commands_that_look_at_it_work(on_cluster: tuple[System, ValkeyCluster], command: str) -> None:
    done = on_cluster[0].run(*command.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)


def test_a_destination_can_be_paused_and_resumed_and_a_letter_sent_again(
    on_cluster: tuple[System, ValkeyCluster], sink: Sink
) -> None:
    system, _ = on_cluster
    assert system.run("pause", "all").returncode == 0
    system.track("Paused", "c")
    until(lambda: system.destination("all")["waiting"] == 1)
    assert system.run("resume", "all").returncode == 0
    until(lambda: system.destination("all")["waiting"] == 0)
    sink.always("/on-a-cluster", None)
    done = system.run("dead", "replay", "--destination", "all", "--yes")
    assert done.returncode == 0, done.stderr
    until(lambda: "Bad" in str([hit.json for hit in sink.taken("/on-a-cluster")]))
    assert system.run("audit").returncode == 0
