"""throttle.py: a rate that all workers share."""

from __future__ import annotations

import time

from eventrouter.destination import RateLimit
from eventrouter.lanes import Lanes
from eventrouter.throttle import Throttle


async def test_a_rate_is_shared_and_kept(lanes: Lanes) -> None:
    rate = RateLimit(10, per_seconds=0.5)
    one, other = Throttle(lanes, "crm", rate), Throttle(lanes, "crm", rate)
    began = time.monotonic()
    for throttle in (one, other, one, other):
        assert await throttle(5)
    assert time.monotonic() - began >= 0.45


async def test_who_waits_for_a_rate_may_give_up(lanes: Lanes) -> None:
    throttle = Throttle(lanes, "crm", RateLimit(1, per_seconds=60))
    assert await throttle(1)
    began = time.monotonic()
    assert not await throttle(1, lambda: time.monotonic() - began > 0.1)
    assert time.monotonic() - began < 1
