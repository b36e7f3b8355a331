"""A plugin that blocks the event loop: its worker is replaced, and the other destinations go on."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from http_sink import Sink
from plugin_package import install
from system import System, steadily, until

import blocking_plugin

RULES = """
version: 1
sources: { website: { write_key: key-website } }
destinations:
  stuck: { plugin: blocking }
  well: { plugin: webhook, options: { url: "${SINK}/well-beside-stuck", allow_private: true } }
routes:
  - { to: stuck, when: event == "Both" }
  - { to: well }
"""
ENDED = "ended (exit code 70)"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def taken(sink: Sink) -> set[str]:
    return {hit.json["messageId"] for hit in sink.taken("/well-beside-stuck")}


def test_the_worker_is_replaced_and_other_destinations_go_on(
    start: Callable[..., System], sink: Sink, tmp_path: Path
) -> None:
    path = install(tmp_path / "plugin", "blocker", Path(blocking_plugin.__file__).read_text(encoding="utf-8"))
    system = start(RULES, {"PYTHONPATH": path})
    system.track("Before", "a", messageId="before")
    sink.wait("/well-beside-stuck", 1)
    started = time.monotonic()
    for number in range(8):
        system.track("Both", f"a{number}", messageId=f"both-{number}")
    until(lambda: ENDED in system.log)
    assert time.monotonic() - started < 20
    # What was under way may come again; all of it comes, by the next worker.
    until(lambda: taken(sink) == {"before", *(f"both-{number}" for number in range(8))})
    for number in range(8):
        system.track("After", f"a{number}", messageId=f"after-{number}")
    until(lambda: len(taken(sink)) == 17)
    assert time.monotonic() - started < 30
    assert "blocker.py:" in system.log
    assert "in Blocking._ask" in system.log
    row = system.destination("stuck")
    assert (row["state"], row["waiting"]) == ("on hold", 8)
    assert "its plugin blocks the event loop: " in row["reason"]
    assert "blocker.py:" in row["reason"]
    assert 200 < row["next_try_seconds"] <= 300
    assert steadily(lambda: system.log.count(ENDED) == 1, 15)
    system.events(8, "Both")
    assert system.stop() == 0
