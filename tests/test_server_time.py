"""server_time.py: the server's time on machines whose clocks are off."""

from __future__ import annotations

import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from eventrouter import server_time
from eventrouter.server_time import note, now_ms, own_ms
from lane_kit import begin


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The one time of this machine's clock."""
    own = [1000.0]
    monkeypatch.setattr(server_time, "_ahead_ms", 0.0)
    monkeypatch.setattr(time, "time", lambda: own[0])
    return own


def hear(server_ms: float, took: float = 0.0) -> None:
    """The server tells its time, so many seconds after it was asked."""
    note(server_ms, own_ms() - took * 1000)


def test_it_is_our_own_before_the_server_told_its() -> None:
    assert 1_000_000 == now_ms()


def test_clocks_that_are_hardly_apart_count_as_one() -> None:
    with capture_logs() as told:
        hear(1_001_900)
        hear(998_100)
    assert 1_000_000 == now_ms()
    assert [] == told


@pytest.mark.parametrize("server_ms", [4_600_000, 400_000])
def test_it_is_the_servers_where_clocks_are_apart_which_is_told_once(server_ms: int) -> None:
    with capture_logs() as told:
        hear(server_ms)
        hear(server_ms + 1500)
    assert server_ms == now_ms()
    assert [("warning", (1_000_000 - server_ms) / 1000)] == [(one["log_level"], one["seconds_ahead"]) for one in told]


def test_it_goes_on_with_our_own_clock(clock: list[float]) -> None:
    hear(4_600_000)
    clock[0] = 1007.5
    assert 4_607_500 == now_ms()


def test_a_clock_that_was_corrected_is_ours_again(clock: list[float]) -> None:
    hear(4_600_000)
    clock[0] = 4600.2
    with capture_logs() as told:
        hear(4_600_000)
    assert 4_600_200 == now_ms()
    assert ["info"] == [one["log_level"] for one in told]


@pytest.mark.parametrize("server_ms", [989_700, 995_000, 1_000_000])
def test_a_process_that_was_frozen_while_it_asked_takes_no_clock_for_wrong(server_ms: float) -> None:
    with capture_logs() as told:
        hear(server_ms, took=10.3)
    assert 1_000_000 == now_ms()
    assert [] == told


def test_clocks_that_are_apart_stay_so_while_answers_are_slow() -> None:
    hear(4_600_000)
    with capture_logs() as told:
        hear(4_590_000, took=10.0)
        hear(4_599_000, took=10.0)
    assert 4_600_000 == now_ms()
    assert [] == told


def test_what_a_slow_answer_told_of_clocks_that_are_apart_is_corrected_by_the_next_quick_one() -> None:
    hear(4_590_000, took=10.0)
    assert 4_595_000 == now_ms()
    hear(4_600_000, took=0.001)
    assert 4_600_000 == pytest.approx(now_ms(), abs=1)


async def test_the_time_that_a_turn_reads_may_be_looked_at_late(lanes, clock: list[float]) -> None:
    turn = await begin(lanes, ("k", "a"))
    clock[0], _ = await lanes.redis.time()
    run = lanes.run

    async def frozen(*args: Any) -> Any:
        answer = await run(*args)
        clock[0] += 10
        return answer

    lanes.run = frozen
    with capture_logs() as told:
        await turn.read()
    assert [] == told
