"""The time that passes, also while the machine sleeps: what leases and the like are measured by."""

from __future__ import annotations

import sys
import time

# `time.monotonic` stands still meanwhile: it is CLOCK_MONOTONIC on Linux and mach_absolute_time() on macOS.
# CLOCK_MONOTONIC_RAW goes on where it is mach_continuous_time(), on macOS, and nowhere else.
CLOCK = time.CLOCK_MONOTONIC_RAW if sys.platform == "darwin" else getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed() -> float:
    """Seconds since some moment before the process began. Never goes back, and no one can set it."""
    return time.clock_gettime(CLOCK)
