"""elapsed.py: the time that passes."""

from __future__ import annotations

import sys
import time

from eventrouter.elapsed import CLOCK, elapsed


def test_it_goes_on_and_never_back():
    before = [elapsed() for _ in range(100)]
    time.sleep(0.01)
    assert sorted(before) == before
    assert elapsed() >= before[-1] + 0.01


def test_it_is_the_clock_that_counts_the_sleep_of_the_machine():
    assert CLOCK == (time.CLOCK_MONOTONIC_RAW if sys.platform == "darwin" else time.CLOCK_BOOTTIME)
