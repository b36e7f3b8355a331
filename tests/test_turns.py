"""The turns of a worker: fenced, bounded, handed over when they fail, and found by the sweep when they are lost."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import AsyncExitStack

import pytest
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from eventrouter import turns as turns_module
from eventrouter.counters import failing, read_snapshot
from eventrouter.lane import Lane
from eventrouter.queue import QUEUE, Queue, queue_of
from eventrouter.slots import TURNS_PER_DESTINATION
from eventrouter.turns import MISPLACED_SECONDS, Turns
from lane_kit import CRM, append, expire_lease
from queue_kit import Serve, jobs, until


@pytest.fixture
async def queue(valkey, redis):
    one = await Queue.connect(valkey)
    yield one
    await one.close()


@pytest.fixture
async def queue_by(valkey):
    """Makes queues of these rules and groups."""
    async with AsyncExitStack() as made:

        async def make(group_of, group=""):
            one = await Queue.connect(valkey, group_of, group)
            made.push_async_callback(one.close)
            return one

        yield make


@pytest.fixture
def turns(lanes, queue):
    return lambda serve, shards=2: Turns(lanes, shards, queue, serve)


def token_of(job: str) -> str:
    return job.split(":")[2]


async def test_a_turn_that_has_more_to_do_is_enqueued_again(turns, lanes, redis):
    serve = Serve(claim=3.0)
    [claim] = await lanes.append(0, [append(("k", "one"))])
    await turns(serve).run(CRM, claim.token, "job")
    [(_, due)] = await redis.zrange(QUEUE, 0, -1, withscores=True)
    assert 2 < due / 1000 - time.time() <= 3.1


@pytest.mark.parametrize(
    ("error", "told"),
    [(ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"), (ResponseError("OOM"), "Redis refuses a step: OOM")],
)
async def test_a_turn_that_fails_is_noted_with_its_reason_and_goes_on_later(turns, lanes, redis, error, told):
    [claim] = await lanes.append(0, [append(("k", "one"))])
    await turns(Serve(error=error)).run(CRM, claim.token, "job")
    found = failing(await read_snapshot(lanes, 2, ["crm"]), "crm")
    assert {"state": "failing", "reason": told, "turns_failed": 1} == found
    [(_, due)] = await redis.zrange(QUEUE, 0, -1, withscores=True)
    assert 4 < due / 1000 - time.time() <= 5.1


async def test_a_copy_of_a_job_serves_nothing(turns, lanes, redis):
    serve = Serve()
    [claim] = await lanes.append(0, [append(("k", "one"))])
    runner = turns(serve)
    await runner.run(CRM, claim.token, "job")
    await runner.run(CRM, claim.token, "job")
    await runner.run(CRM, "stranger", "job")
    assert [CRM] == serve.turns
    assert [] == await jobs(redis)


async def test_a_turn_that_fails_comes_back_a_little_later(turns, lanes, redis):
    [claim] = await lanes.append(0, [append(("k", "one"))])
    await turns(Serve(error=ZeroDivisionError())).run(CRM, claim.token, "job")
    [(_, due)] = await redis.zrange(QUEUE, 0, -1, withscores=True)
    assert 4 < due / 1000 - time.time() <= 5.1


@pytest.mark.parametrize("error", [ConnectionError("away"), TimeoutError()])
async def test_a_turn_that_lost_its_server_goes_on_soon_after_it_is_back(turns, lanes, redis, error):
    [claim] = await lanes.append(0, [append(("k", "one"))])
    began = time.monotonic()
    await turns(Serve(error=error)).run(CRM, claim.token, "job")
    assert time.monotonic() - began < 2
    [job] = await jobs(redis)
    assert await lanes.begin(CRM, job.split(":")[2]) is not None


async def test_a_turn_that_fails_when_it_was_fenced_off_ends_quietly(turns, lanes, redis):
    class Late(Serve):
        async def __call__(self, turn, stopping, others_wait):
            await expire_lease(redis, CRM)
            await lanes.sweep(0)
            raise ZeroDivisionError

    [claim] = await lanes.append(0, [append(("k", "one"))])
    await turns(Late()).run(CRM, claim.token, "job")
    assert [] == await jobs(redis)


async def test_one_destination_cannot_take_every_slot_and_the_warehouse_has_its_own(turns, lanes, redis):
    serve = Serve()
    serve.gate.clear()
    runner = turns(serve, shards=20)
    claims = []
    for shard in range(TURNS_PER_DESTINATION + 2):
        claims += await lanes.append(shard, [append(("k", "one")), append(("k", "one"), lane="warehouse")])
    running = [asyncio.create_task(runner.run(claim.lane, claim.token, "job")) for claim in claims]
    await until(lambda: len(serve.turns) == 2 * TURNS_PER_DESTINATION + 2)
    await asyncio.sleep(0.05)
    assert TURNS_PER_DESTINATION == sum(lane.name == "crm" for lane in serve.turns)
    assert 2 == len(await jobs(redis))  # those that found no slot come back soon
    serve.gate.set()
    await asyncio.gather(*running)


class EachItsGate(Serve):
    """Serves each lane until its gate opens, then hands it over: there is more."""

    def __init__(self):
        super().__init__()
        self.gates = defaultdict(asyncio.Event)
        self.others_wait = {}

    async def __call__(self, turn, stopping, others_wait):
        self.turns.append(turn.lane)
        self.others_wait[turn.lane] = others_wait
        await self.gates[turn.lane].wait()
        return await turn.give_up()


@pytest.fixture
async def crowd(turns, lanes):
    """Begins turns of so many lanes of crm; returns the runner and who is served, once all slots are taken."""
    running = []
    serve = EachItsGate()
    runner = turns(serve, shards=64)

    async def begin(number):
        for shard in range(number):
            [claim] = await lanes.append(shard, [append(("k", "one"))])
            running.append(asyncio.create_task(runner.run(claim.lane, claim.token, "job")))
            if shard < TURNS_PER_DESTINATION:
                await until(lambda shard=shard: len(serve.turns) == shard + 1)
            else:
                await running[-1]
        return runner, serve

    yield begin
    for lane in serve.turns:
        serve.gates[lane].set()
    await asyncio.gather(*running)


async def job_of(redis, shard):
    """The job of a lane of crm that waits, and when it is due."""
    found = await redis.zrange(QUEUE, 0, -1, withscores=True)
    [one] = [(job.decode(), due) for job, due in found if job.startswith(f"crm:{shard}:".encode())]
    return one


async def test_lanes_without_a_slot_cost_few_jobs(crowd, redis):
    began = time.time()
    await crowd(64)
    due = [ms / 1000 - began for _, ms in await redis.zrange(QUEUE, 0, -1, withscores=True)]
    assert 64 - TURNS_PER_DESTINATION == len(due)
    assert sum(1 / seconds for seconds in due) < 25  # jobs a second


async def test_a_turn_that_ends_calls_the_lane_that_has_waited_longest_for_its_slot(crowd, redis):
    _, serve = await crowd(10)
    before = [await job_of(redis, shard) for shard in (8, 9)]
    serve.gates[Lane(0, "crm")].set()
    async with asyncio.timeout(5):
        while await job_of(redis, 8) == before[0]:
            await asyncio.sleep(0.01)
    (job, due), second = await job_of(redis, 8), await job_of(redis, 9)
    assert (before[0][0], before[1]) == (job, second)
    assert due < before[0][1]


async def test_a_lane_that_had_its_turn_does_not_overtake_those_that_wait_for_one(crowd, redis):
    runner, serve = await crowd(9)
    serve.gates[Lane(0, "crm")].set()
    async with asyncio.timeout(5):
        while not any(job.startswith("crm:0:") for job in await jobs(redis)):
            await asyncio.sleep(0.01)
    again, _ = await job_of(redis, 0)
    await runner.run(CRM, token_of(again), again)
    first, _ = await job_of(redis, 8)
    running = asyncio.create_task(runner.run(Lane(8, "crm"), token_of(first), first))
    await until(lambda: len(serve.turns) == 9)
    assert [Lane(shard, "crm") for shard in range(9)] == serve.turns
    serve.gates[Lane(8, "crm")].set()
    await running


async def test_a_turn_is_told_that_others_wait_for_its_slot(crowd):
    _, serve = await crowd(9)
    assert serve.others_wait[CRM]()


async def test_a_worker_that_stops_hands_its_jobs_on_as_they_are(turns, lanes, redis):
    serve = Serve()
    runner = turns(serve)
    runner.stopping.set()
    [claim] = await lanes.append(0, [append(("k", "one"))])
    await runner.run(CRM, claim.token, "job")
    assert [] == serve.turns
    [job] = await jobs(redis)
    assert claim.token in job


async def test_cancelled_turns_are_broken_off(turns, lanes):
    serve = Serve()
    serve.gate.clear()
    runner = turns(serve)
    [claim] = await lanes.append(0, [append(("k", "one"))])
    running = asyncio.create_task(runner.run(CRM, claim.token, "job"))
    await until(lambda: serve.turns)
    runner.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()


async def test_the_sweep_enqueues_what_was_lost_and_goes_on_while_the_server_is_away(turns, lanes, redis, monkeypatch):
    monkeypatch.setattr(turns_module, "SWEEP_SECONDS", 0.02)
    await lanes.append(1, [append(("k", "one"))])  # its claim never reached arq
    runner = turns(Serve())
    real, failures = lanes.sweep, [ConnectionError("away"), TimeoutError()]

    async def sweep(shard, **options):
        if failures:
            raise failures.pop()
        return await real(shard, **options)

    runner._lanes.sweep = sweep
    with capture_logs() as lines:
        sweeping = asyncio.create_task(runner.sweep_forever())
        await expire_lease(redis, Lane(1, "crm"))
        async with asyncio.timeout(5):
            while not await jobs(redis):
                await asyncio.sleep(0.01)
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
    assert [] == failures
    assert ["the sweep waits for Redis"] == [line["event"] for line in lines]


async def test_a_turn_of_another_group_is_handed_on_unserved_and_not_at_once(lanes, redis, queue_by):
    queue = await queue_by(lambda lane: "slow")
    serve = Serve()
    [claim] = await lanes.append(0, [append(("k", "one"))])
    began = time.time()
    await Turns(lanes, 2, queue, serve).run(CRM, claim.token, "job")
    assert ([], []) == (serve.turns, await jobs(redis))
    [(job, due)] = await redis.zrange(queue_of("slow"), 0, -1, withscores=True)
    assert due / 1000 >= began + MISPLACED_SECONDS - 0.01
    assert await lanes.begin(CRM, token_of(job.decode())) is not None


async def test_groups_that_hand_a_lane_to_each_other_do_so_with_one_job_however_many_copies_there_are(
    lanes, redis, queue_by
):
    serve = Serve()
    # Each group has rules by which the other one serves the lane.
    queues = {group: await queue_by(lambda _, to=to: to, group) for group, to in (("a", "b"), ("b", "a"))}
    workers = {group: Turns(lanes, 2, queue, serve) for group, queue in queues.items()}
    await queues["a"].enqueue(await lanes.append(0, [append(("k", "one"))]))
    numbers = []
    for _ in range(4):
        for group, worker in workers.items():
            await expire_lease(redis, CRM)
            await queues[group].enqueue((await lanes.sweep(0))[0])  # arq was slow
            waiting = await jobs(redis, group)
            await redis.delete(queue_of(group))
            for job in waiting:
                await worker.run(CRM, token_of(job), job)
        numbers.append(sum([len(await jobs(redis, group)) for group in workers]))
    assert ([], [2, 2, 2, 2]) == (serve.turns, numbers)  # one, and the copy that the sweep has just made


async def test_a_lane_that_is_handed_on_again_and_again_is_so_less_and_less_often(lanes, redis, queue_by):
    groups = {"crm": "slow"}
    queue = await queue_by(lambda lane: groups[lane])
    [claim] = await lanes.append(0, [append(("k", "one"))])
    token, delays, worker = claim.token, [], Turns(lanes, 2, queue, Serve(claim=0.0))

    async def run(group):
        nonlocal token
        await worker.run(CRM, token, "job")
        [(job, due)] = await redis.zrange(queue_of(group), 0, -1, withscores=True)
        await redis.delete(queue_of(group))
        token = token_of(job.decode())
        return due / 1000 - time.time()

    delays = [await run("slow") for _ in range(6)]
    assert delays[0] < delays[1] < delays[2] < delays[3] < delays[4]
    assert 4 < delays[-1] <= 5
    groups["crm"] = ""
    await run("")  # it is served, so all agree
    groups["crm"] = "slow"
    assert await run("slow") <= MISPLACED_SECONDS + 0.1  # the job's time is that of another look at the clock


async def test_a_destination_that_moves_to_another_group_while_a_turn_runs_goes_on_there(lanes, redis, queue_by):
    groups = {"crm": "old"}
    queue = await queue_by(lambda lane: groups[lane], "old")

    class Moves(Serve):
        async def __call__(self, turn, stopping, others_wait):
            groups["crm"] = "new"
            return await turn.give_up()

    [claim] = await lanes.append(0, [append(("k", "one"))])
    await Turns(lanes, 2, queue, Moves()).run(CRM, claim.token, "job")
    assert ([], 1) == (await jobs(redis, "old"), len(await jobs(redis, "new")))
