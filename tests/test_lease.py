"""The lease of a turn, on a real server: renewed while the turn lives, and known to be lost when it is."""

from __future__ import annotations

import asyncio
import time

import pytest

from eventrouter import elapsed
from eventrouter.lane import FencedError
from eventrouter.lease import TurnLease
from lane_kit import CRM, begin, take


@pytest.fixture(autouse=True)
def short_leases(monkeypatch):
    for module in ("eventrouter.lease", "eventrouter.lanes"):
        monkeypatch.setattr(f"{module}.LEASE_MS", 150)


async def take_over(lanes):
    [claim], _ = await lanes.sweep(0, everything=True)
    return await take(lanes, claim)


async def test_it_is_renewed_while_the_body_runs_and_no_longer(lanes):
    turn = await begin(lanes, ("k", "a"))
    async with TurnLease(turn) as lease:
        for _ in range(20):
            await asyncio.sleep(0.02)
            assert ([], True) == ((await lanes.sweep(0))[0], await lease.is_held())
    await asyncio.sleep(0.2)
    assert [CRM] == [claim.lane for claim in (await lanes.sweep(0))[0]]


async def test_a_server_that_is_away_for_a_moment_does_not_end_the_renewals(lanes):
    turn = await begin(lanes, ("k", "a"))
    renew, failures = turn.renew, [ConnectionError("away"), TimeoutError()]

    async def sometimes():
        if failures:
            raise failures.pop()
        await renew()

    turn.renew = sometimes
    async with TurnLease(turn) as lease:
        await asyncio.sleep(0.2)
        assert await lease.is_held()
        assert [] == failures


async def test_a_turn_that_was_taken_over_ends_and_its_lease_is_lost(lanes):
    turn = await begin(lanes, ("k", "a"))
    passed = False
    async with TurnLease(turn) as lease:
        await take_over(lanes)
        await asyncio.sleep(0.1)
        assert lease.lost
        assert not await lease.is_held()
        await turn.read()
        passed = True
    assert not passed


async def test_after_a_long_silence_it_asks_at_once(lanes):
    turn = await begin(lanes, ("k", "a"))
    async with TurnLease(turn) as lease:
        await take_over(lanes)
        assert not lease.lost
        time.sleep(0.2)  # nothing of this process runs
        assert not await lease.is_held()
        assert lease.lost


async def test_after_a_long_silence_it_goes_on_when_nobody_took_over(lanes):
    turn = await begin(lanes, ("k", "a"))
    async with TurnLease(turn) as lease:
        time.sleep(0.2)  # nothing of this process runs
        assert await lease.is_held()


async def test_after_the_machine_slept_it_asks_at_once(lanes, monkeypatch):
    turn = await begin(lanes, ("k", "a"))
    async with TurnLease(turn) as lease:
        await take_over(lanes)
        slept = elapsed.elapsed() + 3600  # `time.monotonic` stands still meanwhile
        monkeypatch.setattr(elapsed.time, "clock_gettime", {elapsed.CLOCK: slept}.__getitem__)
        assert not await lease.is_held()
        assert lease.lost


async def test_it_is_not_held_while_nobody_can_say(lanes):
    turn = await begin(lanes, ("k", "a"))

    async def away():
        raise ConnectionError("away")

    turn.renew = away
    async with TurnLease(turn) as lease:
        assert await lease.is_held()
        await asyncio.sleep(0.2)
        assert not await lease.is_held()
        assert not lease.lost


async def test_it_counts_from_before_the_turn_began(lanes):
    turn = await begin(lanes, ("k", "a"))
    turn.began -= 1.0
    await take_over(lanes)
    async with TurnLease(turn) as lease:
        assert not await lease.is_held()


async def test_other_errors_pass(lanes):
    turn = await begin(lanes, ("k", "a"))
    with pytest.raises(ZeroDivisionError):
        async with TurnLease(turn):
            raise ZeroDivisionError
    async with TurnLease(turn):
        raise FencedError("taken over")
