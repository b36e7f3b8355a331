"""Destinations with workers of their own: a plugin that blocks there costs nobody else anything; groups come and go."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from http_sink import Sink
from plugin_package import install
from system import System, until

import blocking_plugin
from eventrouter.testing import Answer

BLOCKED = """
version: 1
sources: { website: { write_key: key-website } }
destinations:
  stuck: { plugin: blocking, worker_group: slow }
  well: { plugin: webhook, options: { url: "${SINK}/well-beside-a-group", allow_private: true } }
routes:
  - { to: stuck, when: event == "Both" }
  - { to: well }
"""
MOVING = """
version: 1
sources: {{ website: {{ write_key: key-website }} }}
destinations:
  moves:
    plugin: webhook
    worker_group: {group}
    options: {{ url: "${{SINK}}/{path}", allow_private: true }}
routes: [{{ to: moves }}]
"""
ENDED = "The worker-slow ended (exit code 70)"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def taken(sink: Sink, path: str) -> list[str]:
    return [hit.json["messageId"] for hit in sink.taken(path)]


def test_a_plugin_that_blocks_in_a_group_of_its_own_slows_no_other_destination(
    start: Callable[..., System], sink: Sink, tmp_path: Path
) -> None:
    path = install(tmp_path / "plugin", "blocker", Path(blocking_plugin.__file__).read_text(encoding="utf-8"))
    system = start(BLOCKED, {"PYTHONPATH": path})
    until(lambda: "worker-slow" in system.log or system.status()["destinations"]["stuck"]["state"] == "ok")
    system.track("Both", "a", messageId="both")
    sent = 0
    # The whole time that the one blocks, the other gets each event at once.
    while ENDED not in system.log:
        system.track("Alone", "b", messageId=f"alone-{sent}")
        sent += 1
        until(lambda number=sent: f"alone-{number - 1}" in taken(sink, "/well-beside-a-group"))
    assert sent > 10
    until(lambda: "both" in taken(sink, "/well-beside-a-group"))
    assert sorted(taken(sink, "/well-beside-a-group")) == sorted(["both", *(f"alone-{n}" for n in range(sent))])
    assert "in Blocking._ask" in system.log
    assert "The worker-1 ended" not in system.log
    until(lambda: system.destination("stuck")["state"] == "on hold")
    assert system.destination("stuck")["waiting"] == 1
    system.events(sent, "Alone")
    assert system.stop() == 0


def group_workers(system: System) -> dict[str, int]:
    """The groups whose workers live, and their process ids."""
    return {one["group"]: one["pid"] for one in system.status()["processes"] if one["kind"] == "worker"}


def save(system: System, group: str, path: str) -> None:
    new = system.config.with_suffix(".new")
    new.write_text(MOVING.format(group=group, path=path))
    new.replace(system.config)


def test_a_destination_that_moves_to_another_group_while_events_come_loses_nothing(
    start: Callable[..., System], sink: Sink
) -> None:
    path = "moves-between-groups"
    system = start(MOVING.format(group="default", path=path))
    sent = 0

    def send(number: int) -> None:
        nonlocal sent
        for _ in range(number):
            system.track("Step", f"user-{sent % 5}", messageId=f"m{sent:04}")
            sent += 1

    send(20)
    for group in ("one", "two", "default", "one"):
        save(system, group, path)
        name = "" if group == "default" else group
        while set(group_workers(system)) != {"", name}:
            send(5)
        send(10)
        until(lambda: len(set(taken(sink, f"/{path}"))) == sent)
    system.events(sent, "Step")
    assert sorted(set(taken(sink, f"/{path}"))) == [f"m{number:04}" for number in range(sent)]
    for user in range(5):
        mine = [one for one in dict.fromkeys(taken(sink, f"/{path}")) if int(one[1:]) % 5 == user]
        assert mine == sorted(mine)
    row = system.destination("moves")
    assert (row["delivered"], row["waiting"], row["dead"]) == (sent, 0, {})
    assert system.stop() == 0


def test_a_group_without_a_worker_is_told_and_its_deliveries_wait_for_one(
    start: Callable[..., System], sink: Sink
) -> None:
    path = "waits-for-a-worker"
    system = start(MOVING.format(group="slow", path=path))
    until(lambda: "slow" in group_workers(system))
    # `up` starts one again and again, unless nobody can: so it is frozen, and counts as gone.
    frozen = psutil.Process(group_workers(system)["slow"])
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        until(lambda: "slow" not in group_workers(system))
        for number in range(5):
            system.track("Step", f"user-{number}", messageId=f"w{number}")
        row = until(lambda: (found := system.destination("moves"))["waiting"] == 5 and found)
        assert row["state"] == "no worker"
        assert "eventrouter work --group slow" in row["reason"]
        sink.always(f"/{path}", Answer())
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    until(lambda: len(set(taken(sink, f"/{path}"))) == 5)
    until(lambda: system.destination("moves")["state"] == "ok")
    assert system.stop() == 0
