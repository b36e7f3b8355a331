"""A probe: renewed while it is under way, lost when it is silent for long, and given to others when it told nothing."""

from __future__ import annotations

import asyncio
import time

import pytest

from eventrouter.health import Health
from eventrouter.probe import Probe

LEASE_MS = 300


@pytest.fixture(autouse=True)
def short_leases(monkeypatch):
    for module in ("eventrouter.lease", "eventrouter.health"):
        monkeypatch.setattr(f"{module}.LEASE_MS", LEASE_MS)


@pytest.fixture
def make(lanes):
    def one() -> Health:
        return Health(lanes, "crm", initial=60.0, max_interval=60.0)

    return one


async def probe_of(health: Health) -> Probe:
    probe = Probe(health)
    assert (await probe.gate(), probe.token != "") == (0.0, True)
    return probe


async def wait(health: Health) -> float:
    """How long another turn is to wait, which has no probe."""
    probe = Probe(health)
    seconds = await probe.gate()
    assert "" == probe.token
    return seconds


async def soon(health: Health) -> None:
    """It is away, and due for a probe."""
    await health.failed("away")
    await health.probe_soon()


async def test_nobody_else_has_one_while_it_is_under_way_and_somebody_soon_after_its_worker_died(make):
    one, other = make(), make()
    await soon(one)
    probe = await probe_of(one)
    for _ in range(10):
        await asyncio.sleep(LEASE_MS / 4000)
        assert (await wait(other) > 0, await probe.gate(), await probe.is_held()) == (True, 0.0, True)
    await probe.leave()
    assert await wait(other) > 0
    await asyncio.sleep(LEASE_MS / 1000)
    await (await probe_of(other)).leave()


async def test_who_was_frozen_learns_that_somebody_else_has_it(make):
    one, other = make(), make()
    await soon(one)
    probe = await probe_of(one)
    time.sleep(LEASE_MS / 1000)  # nothing of this process runs
    following = await probe_of(other)
    assert (await probe.is_held(), await following.is_held()) == (False, True)
    await probe.end(told=False)
    assert await wait(make()) > 0
    await following.leave()


async def test_a_turn_without_one_may_go_on(make):
    probe = Probe(make())
    assert (await probe.gate(), probe.token, await probe.is_held()) == (0.0, "", True)
    await probe.end(told=False)
    await probe.leave()


async def test_when_it_told_nothing_anybody_has_the_next_one(make):
    one, other = make(), make()
    await soon(one)
    probe = await probe_of(one)
    await probe.end(told=False)
    assert "" == probe.token
    await (await probe_of(other)).leave()


async def test_when_it_is_left_this_worker_has_the_next_one(make):
    one, other = make(), make()
    await soon(one)
    await (await probe_of(one)).leave()
    assert await wait(other) > 0
    await (await probe_of(one)).leave()
