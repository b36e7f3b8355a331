"""The steps of lanes under every fault keep their promises, in a simulation that notices when they are broken."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from eventrouter import lanes as lanes_module
from eventrouter import server_time
from lane_kit import on_test_clock
from lane_simulation import ACTIONS, Schedule, Simulation, random_schedule

EXAMPLES = int(os.environ.get("EVENTROUTER_SIMULATIONS", "150"))
"""How many schedules are played. Whoever sets it gets new ones at each run."""
MUTANT_RUNS = 250
"""How many schedules a broken script gets to be noticed; nearly all are by the first few."""

Run = Callable[[Schedule], None]


@pytest.fixture
def run(valkey: str) -> Iterator[Run]:
    """Plays one schedule; all of them in one event loop."""
    with asyncio.Runner() as runner:
        redis = Redis.from_url(valkey)
        yield lambda schedule: runner.run(Simulation(redis).run(schedule))
        runner.run(redis.aclose())


@pytest.fixture(autouse=True)
def _simulated_time(monkeypatch: pytest.MonkeyPatch) -> None:
    source = lanes_module.source
    monkeypatch.setattr(server_time, "_ahead_ms", 0.0)  # back to it afterwards
    monkeypatch.setattr(lanes_module, "source", lambda step: on_test_clock(source(step)))


@settings(
    max_examples=EXAMPLES,
    derandomize="EVENTROUTER_SIMULATIONS" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(schedule=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 999)), min_size=100, max_size=300))
def test_whatever_fails_each_event_is_settled_once_and_in_order_and_the_lanes_come_to_rest(run, schedule):
    run(schedule)


def test_a_schedule_means_the_same_at_each_run(run, valkey):
    async def trace() -> list[tuple[str, list[str]]]:
        async with Redis.from_url(valkey) as redis:
            simulation = Simulation(redis)
            await simulation.run(random_schedule(7))
            return [(lane, ledger.settled) for lane, ledger in simulation.ledgers.items()]

    assert asyncio.run(trace()) == asyncio.run(trace())


MUTANTS = {
    "begin keeps the token": ("begin", "'token', fresh, 'begun'", "'token', token, 'begun'"),
    "the sweep takes a new token for a turn that waits": ("sweep", "if turn[2] == '1' then", "if true then"),
    "the claim goes back without a look at the lane": (
        "read",
        "if #items > 0 then",
        "if #items > 0 and give_back == 0 then",
    ),
    "settling is not fenced": ("settle", "if fenced_off(lane, token) then", "if false then"),
    "giving up leaves no lease": (
        "yield",
        "lease(lane, delay + short)",
        "redis.call('ZREM', shard_of(lane) .. 'leases', name_of(lane))",
    ),
    "what is woken has no lease": (
        "wake",
        "redis.call('ZADD', shard_of(lane) .. (begun and 'leases' or 'due'), 'XX', now, name_of(lane))",
        "redis.call('ZREM', shard_of(lane) .. (begun and 'leases' or 'due'), name_of(lane))",
    ),
    "a turn that has begun is not woken": ("wake", "redis.call('HSET', lane .. ':turn', 'woken', '1')", ""),
    "a turn that was woken waits": ("yield", "redis.call('HEXISTS', lane .. ':turn', 'woken')", "0"),
    "parked keys of a turn that was woken wait": ("begin", "  all_due(lane)\nend\n", "end\n"),
    "what a dead turn had taken waits": ("begin", "rows[i + 1] % 1 > 0", "false"),
    "a claim has no lease": ("prelude", "lease(lane, short)\n  return true", "return true"),
    "an idle lane forgets its parked keys": ("read", "if tonumber(next_due) > 0 then", "if false then"),
    "what follows a parked item is read": ("read", "if some_parked and key ~= ''", "if false and key ~= ''"),
    "only the first item of a key is parked": (
        "settle",
        "    if row then\n",
        "    if row and redis.call('XLEN', park) == 0 then\n",
    ),
    "a parked item is looked for in the lane": (
        "settle",
        "key == '' and lane or lane .. ':park:' .. key",
        "lane",
    ),
    "the rest of a parked key is parked no more": (
        "settle",
        "redis.call('ZADD', parked, 'XX', now, arg())",
        "redis.call('ZREM', parked, arg())",
    ),
    "tries are not kept": ("settle", "redis.call('HSET', lane .. ':tries', id, tries)", "local _ = id"),
    "tries are noted only at the first failure": (
        "settle",
        "(row or redis.call('XRANGE', park, id, id)[1])",
        "row",
    ),
    "tries of a batch are not kept": ("settle", "redis.call('HSET', lane .. ':tries', item, known)", ""),
    "tries are kept for ever": (
        "settle",
        "redis.call('HDEL', lane .. ':tries', unpack(ids, from, to))",
        "local _ = to",
    ),
    "pins are kept for ever": ("settle", "redis.call('HDEL', lane .. ':pins', batch)", "local _ = batch"),
    "what is left of a batch is not pinned": (
        "settle",
        "redis.call('HSET', lane .. ':pins', batch, ids)",
        "redis.call('HDEL', lane .. ':pins', batch)",
    ),
    "pins are not kept": ("pin", "redis.call('HSET', KEYS[1] .. ':pins', arg(), arg())", "local _ = arg()"),
    "routed events are not marked as seen": (
        "settle",
        "redis.call('SADD', key",
        "redis.call('SMISMEMBER', key",
    ),
    "what was sent again is not remembered": (
        "once",
        "remember(shard .. 'seen_again', digests, digests + pieces - 1, window, most)",
        "",
    ),
    "who sends again wakes nobody": (
        "once",
        "claimed[#claimed + 1] = tokens[i]",
        "redis.call('ZREM', shard_of(lane) .. 'leases', name_of(lane))\n    claimed[#claimed] = nil",
    ),
    "the router wakes nobody": (
        "settle",
        "local claimed = appends()",
        "appends()\nlocal claimed = {}\nfor i = 2, #KEYS do redis.call('HDEL', KEYS[i] .. ':turn', 'token') end",
    ),
}
"""Scripts with a detail taken out: (step, its text, what stands there instead)."""


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_simulation_notices_when(mutant, run, monkeypatch):
    broken, old, new = MUTANTS[mutant]
    source = lanes_module.source

    def mutated(step: str) -> str:
        text = source(step)
        if broken in (step, "prelude"):
            assert text.count(old) == 1
            text = text.replace(old, new)
        return text

    monkeypatch.setattr(lanes_module, "source", mutated)
    with pytest.raises(
        Exception, match=r"settled|twice|no rest|came before|never attempted|pinned|noted|woken|taken|XADD"
    ) as noticed:
        for seed in range(MUTANT_RUNS):
            run(random_schedule(seed))
    assert noticed.value is not None
