"""A turn that comes to nothing is told once a minute, noted each time, and without secrets."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from eventrouter import turn_failures
from eventrouter.counters import read_snapshot
from eventrouter.logs import hide
from eventrouter.turn_failures import tell
from lane_kit import begin, counts


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
    monkeypatch.setattr(turn_failures, "_told", {})


async def test_it_is_counted_and_noted_each_time_and_logged_once(lanes, redis):
    turn = await begin(lanes, ("k", "a"))
    with capture_logs() as lines:
        for _ in range(3):
            await tell(turn, "it is bad", 5.0, ValueError("x"))
    assert [("a turn failed", "crm", 0, "it is bad", 5.0)] == [
        tuple(line[name] for name in ("event", "lane", "shard", "reason", "next_try_seconds")) for line in lines
    ]
    assert isinstance(lines[0]["exc_info"], ValueError)
    assert 3 == (await counts(redis))["turn_failed:crm"]
    assert "it is bad" == (await read_snapshot(lanes, 1, ["crm"])).lanes["crm"].failure


async def test_another_reason_is_logged_at_once_and_the_same_one_after_a_while(lanes, monkeypatch):
    turn = await begin(lanes, ("k", "a"))
    with capture_logs() as lines:
        for reason in ("one", "one", "other"):
            await tell(turn, reason, 5.0)
        monkeypatch.setattr(turn_failures, "TELL_SECONDS", 0.0)
        await tell(turn, "other", 5.0)
    assert [("one", None), ("other", 1), ("other", None)] == [
        (line["reason"], line.get("times_since")) for line in lines
    ]
    assert {"a lane waits"} == {line["event"] for line in lines}


async def test_a_reason_is_short_and_holds_no_secret(lanes):
    hide("hunter2hunter2")
    turn = await begin(lanes, ("k", "a"))
    for reason, told in (
        ("no hunter2hunter2,\n  postgresql://me:pass@db/x", "no **, postgresql://**@db/x"),
        ("x" * 199 + "hunter2hunter2", "x" * 199 + "*"),
        ("\ud800", "?"),
    ):
        await tell(turn, reason, 5.0)
        failure = (await read_snapshot(lanes, 1, ["crm"])).lanes["crm"].failure
        assert told.replace("**", "*") == _short(failure)


def _short(text: str) -> str:
    """`text` with one star for each mask."""
    while "**" in text:
        text = text.replace("**", "*")
    return text


async def test_a_server_that_is_away_breaks_nothing(lanes):
    turn = await begin(lanes, ("k", "a"))

    async def away(*_):
        raise ConnectionError("away")

    turn.fail = away
    await tell(turn, "it is bad", 5.0)
