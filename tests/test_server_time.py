"""server_time.py: the server's time on machines whose clocks are off."""

from __future__ import annotations

import time

import pytest
from structlog.testing import capture_logs

from eventrouter import server_time
from eventrouter.server_time import note, now_ms


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_time, "_ahead_ms", 0.0)
    monkeypatch.setattr(time, "time", lambda: 1000.0)


def test_it_is_our_own_before_the_server_told_its() -> None:
    assert 1_000_000 == now_ms()


def test_clocks_that_are_hardly_apart_count_as_one() -> None:
    with capture_logs() as told:
        note(1_001_900)
        note(998_100)
    assert 1_000_000 == now_ms()
    assert [] == told


@pytest.mark.parametrize("server_ms", [4_600_000, 400_000])
def test_it_is_the_servers_where_clocks_are_apart_which_is_told_once(server_ms: int) -> None:
    with capture_logs() as told:
        note(server_ms)
        note(server_ms + 1500)
    assert server_ms == now_ms()
    assert [("warning", (1_000_000 - server_ms) / 1000)] == [(one["log_level"], one["seconds_ahead"]) for one in told]


def test_it_goes_on_with_our_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    note(4_600_000)
    monkeypatch.setattr(time, "time", lambda: 1007.5)
    assert 4_607_500 == now_ms()


def test_a_clock_that_was_corrected_is_ours_again(monkeypatch: pytest.MonkeyPatch) -> None:
    note(4_600_000)
    monkeypatch.setattr(time, "time", lambda: 4600.2)
    with capture_logs() as told:
        note(4_600_000)
    assert 4_600_200 == now_ms()
    assert ["info"] == [one["log_level"] for one in told]
