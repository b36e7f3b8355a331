"""arq as it is, on a real server: turns are picked up, copies are fenced off, lost ones are found, SIGTERM drains."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from arq.connections import ArqRedis, RedisSettings
from arq.constants import in_progress_key_prefix, job_key_prefix
from arq.worker import Worker, async_check_health
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError
from structlog.testing import capture_logs

from eventrouter import queue as queue_module
from eventrouter import turns as turns_module
from eventrouter.lane import Claim, Lane
from eventrouter.lanes import Lanes
from eventrouter.queue import (
    HEALTH,
    PATIENCE,
    QUEUE,
    Client,
    Queue,
    queue_of,
    turn_job,
    worker_settings,
)
from eventrouter.turns import Turns
from lane_kit import CRM, append, expire_lease, take
from queue_kit import Serve, jobs, until


@pytest.fixture
async def queue(valkey, redis):
    one = await Queue.connect(valkey)
    yield one
    await one.close()


@pytest.fixture
def turns(lanes, queue):
    return lambda serve, shards=2: Turns(lanes, shards, queue, serve)


@contextlib.asynccontextmanager
async def working(url, turns, group=""):
    """A real arq worker in this process."""

    async def start():
        return turns

    async def stop():
        pass

    settings = worker_settings(url, start, stop, shards=2, group=group)
    options = {name: value for name, value in vars(settings).items() if not name.startswith("__")}
    worker = Worker(**options, handle_signals=False)
    running = asyncio.create_task(worker.async_run())
    try:
        yield worker
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        if worker.pool is not None:
            await worker.pool.aclose(close_connection_pool=True)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


# health

ARQ_CLOSES = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")


@ARQ_CLOSES
async def test_the_check_of_arq_goes_on_when_one_of_two_workers_ends(queue, redis, lanes, valkey):
    turns = [Turns(lanes, 2, queue, Serve()) for _ in range(2)]
    async with working(valkey, turns[0]), working(valkey, turns[1]) as ending:
        await asyncio.sleep(0.2)
        await ending.close()
        for _ in range(30):
            assert 0 == await async_check_health(RedisSettings.from_dsn(valkey), queue_name=QUEUE)
            await asyncio.sleep(0.1)
        assert 10 < await redis.ttl(HEALTH)


@ARQ_CLOSES
async def test_the_check_of_arq_fails_soon_after_the_last_worker_ended(queue, redis, lanes, valkey):
    async with working(valkey, Turns(lanes, 2, queue, Serve())) as worker:
        await asyncio.sleep(0.2)
        await worker.close()
    assert 0 < await redis.pttl(HEALTH) <= 2000


# jobs


async def test_a_claim_becomes_a_job_that_carries_the_lane_and_the_token_alone(queue, redis):
    await queue.enqueue([Claim(CRM, "token")])
    [job] = await jobs(redis)
    stored = msgspec.json.decode(await redis.get(job_key_prefix + job))
    assert ("turn", [0, "crm", "token"]) == (stored["f"], list(stored["a"]))


async def test_a_claim_with_a_delay_waits_in_arq(queue, redis):
    await queue.enqueue([Claim(CRM, "token", 60.0)])
    [(_, due)] = await redis.zrange(QUEUE, 0, -1, withscores=True)
    assert 55 < due / 1000 - time.time() <= 60.5


async def test_a_deferred_job_may_be_hastened(queue, redis):
    job = await queue.defer(Claim(CRM, "token", 60.0))
    assert await queue.hasten(CRM, job)
    [(found, due)] = await redis.zrange(QUEUE, 0, -1, withscores=True)
    assert (job, True) == (found.decode(), due / 1000 <= time.time())


async def test_hastening_brings_no_job_back_that_was_done_meanwhile_and_delays_none(queue, redis):
    job = await queue.defer(Claim(CRM, "token"))
    before = await redis.zscore(QUEUE, job)
    assert not await queue.hasten(CRM, job)
    assert before == await redis.zscore(QUEUE, job)
    await redis.zrem(QUEUE, job)
    assert not await queue.hasten(CRM, job)
    assert [] == await jobs(redis)


async def test_the_same_claim_again_is_another_job(queue, redis):
    await queue.enqueue([Claim(CRM, "token")])
    await queue.enqueue([Claim(CRM, "token")])
    assert 2 == len(await jobs(redis))


async def test_the_job_of_a_dead_turn_is_forgotten(queue, redis):
    await queue.enqueue([Claim(CRM, "token")])
    [dead] = await jobs(redis)
    await redis.set(in_progress_key_prefix + dead, b"1")
    await queue.enqueue([Claim(CRM, "fresh", job=dead)])
    [job] = await jobs(redis)
    assert job != dead
    assert not await redis.exists(in_progress_key_prefix + dead, job_key_prefix + dead)


async def test_a_start_without_workers_forgets_every_job(queue, redis):
    await queue.enqueue([Claim(Lane(0, f"lane{number}"), "token") for number in range(20)])
    await queue.clear()
    assert [] == await redis.keys("arq:*")
    assert [] == await jobs(redis)


# groups


def grouped(lane: str) -> str:
    return "slow" if lane == "crm" else ""


@pytest.fixture
async def both(valkey, redis):
    """The queue as a worker of the default group sees it, and as one of the group `slow`."""
    made = [await Queue.connect(valkey, grouped, group) for group in ("", "slow")]
    yield made
    for one in made:
        await one.close()


async def test_a_claim_goes_to_the_queue_of_its_group_whoever_hands_it_on(both, redis):
    for queue in both:
        await queue.enqueue([Claim(CRM, "token"), Claim(Lane(0, "log"), "token")])
    assert ["crm", "crm"] == [job.split(":")[0] for job in await jobs(redis, "slow")]
    assert ["log", "log"] == [job.split(":")[0] for job in await jobs(redis)]


async def test_each_knows_which_lanes_its_workers_serve(both):
    assert [(False, True), (True, False)] == [(one.is_mine(CRM), one.is_mine(Lane(0, "log"))) for one in both]


async def test_a_start_forgets_the_jobs_of_every_group(both, redis):
    await both[0].enqueue([Claim(CRM, "token"), Claim(Lane(0, "log"), "token")])
    await both[0].clear(["slow"])
    assert [] == await jobs(redis) + await jobs(redis, "slow") + await redis.keys("arq:*")


async def test_what_the_sweep_finds_of_a_group_without_workers_is_not_piled_up_and_that_is_told(both, redis):
    default, slow = both
    await default.enqueue([Claim(CRM, "dead")])
    [dead] = await jobs(redis, "slow")
    with capture_logs() as lines:
        for _ in range(3):
            await default.enqueue_again([Claim(CRM, "token", job=dead), Claim(Lane(0, "log"), "token")])
    assert (3, []) == (len(await jobs(redis)), await jobs(redis, "slow"))
    [told] = lines
    assert ("a group has no worker: what it is to serve waits", "slow") == (told["event"], told["group"])
    assert "eventrouter work --group slow" in told["hint"]
    await slow.show_health(5)
    await default.enqueue_again([Claim(CRM, "token")])
    assert 1 == len(await jobs(redis, "slow"))


async def test_the_default_group_may_be_the_one_without_workers(both, redis):
    with capture_logs() as lines:
        await both[1].enqueue_again([Claim(CRM, "token"), Claim(Lane(0, "log"), "token")])
    assert (1, []) == (len(await jobs(redis, "slow")), await jobs(redis))
    assert ["default"] == [line["group"] for line in lines]


@ARQ_CLOSES
async def test_the_check_of_arq_asks_for_the_workers_of_a_group(both, redis, lanes, valkey):
    async with working(valkey, Turns(lanes, 2, both[1], Serve()), "slow"):
        async with asyncio.timeout(10):
            while not await redis.exists(queue_of("slow") + ":health-check"):
                await asyncio.sleep(0.05)
        assert 0 == await async_check_health(RedisSettings.from_dsn(valkey), queue_name=queue_of("slow"))
        assert not await redis.exists(HEALTH)


@ARQ_CLOSES
async def test_workers_serve_the_lanes_of_their_group_alone(both, redis, lanes, valkey):
    serves = [Serve(), Serve()]
    workers = [Turns(lanes, 2, queue, serve) for queue, serve in zip(both, serves, strict=True)]
    async with working(valkey, workers[0]), working(valkey, workers[1], "slow"):
        for shard in range(2):
            claims = await lanes.append(shard, [append(("k", "one")), append(("k", "one"), lane="other")])
            await both[shard].enqueue(claims)
        await until(lambda: [2, 2] == [len(serve.turns) for serve in serves])
    assert [{"other"}, {"crm"}] == [{lane.name for lane in serve.turns} for serve in serves]


async def test_a_server_that_is_away_does_not_break_the_caller(redis):
    queue = Queue(ArqRedis.from_url("unix:///nowhere/valkey.sock"))
    await queue.enqueue([Claim(CRM, "token")])
    assert "" == await queue.defer(Claim(CRM, "token", 1.0))
    assert await queue.hasten(CRM, "job")  # who knows


async def test_no_job_is_a_pickle(queue, redis):
    await queue.enqueue([Claim(CRM, "token")])
    [job] = await jobs(redis)
    assert (await redis.get(job_key_prefix + job)).startswith(b"{")


async def test_a_restarting_server_is_waited_for_by_a_worker_alone(tmp_path):
    url = f"unix://{tmp_path / 'valkey.sock'}"
    with pytest.raises(RedisConnectionError):
        await Queue.connect(url)
    worker = Client.of(url, **PATIENCE)
    asking = asyncio.create_task(worker.ping())
    await asyncio.sleep(0.3)
    assert not asking.done()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await worker.aclose(close_connection_pool=True)


# a full server


@pytest.fixture
async def full(redis, queue):
    """Fills the server, as often as it is called."""
    before = (await redis.config_get("maxmemory"))["maxmemory"]
    yield lambda: redis.config_set("maxmemory", 100_000)
    await redis.config_set("maxmemory", before)


@ARQ_CLOSES
async def test_a_worker_starts_and_serves_while_the_server_is_full(valkey, queue, lanes, redis, full):
    serve = Serve()
    claims = await lanes.append(0, [append(("k", "one"), lane=f"lane{number}") for number in range(5)])
    await full()
    with pytest.raises(OutOfMemoryError):
        await redis.set("key", "value")
    await queue.enqueue(claims)
    async with working(valkey, Turns(lanes, 2, queue, serve)):
        await until(lambda: len(serve.turns) == 5)
        async with asyncio.timeout(5):
            while await redis.keys("arq:*job*") or await redis.keys("arq:in-progress:*"):
                await asyncio.sleep(0.02)
        assert 0 == await async_check_health(RedisSettings.from_dsn(valkey), queue_name=QUEUE)


async def test_the_sweep_enqueues_while_the_server_is_full(turns, lanes, redis, full, monkeypatch):
    monkeypatch.setattr(turns_module, "SWEEP_SECONDS", 0.02)
    await lanes.append(1, [append(("k", "one"))])  # its claim never reached arq
    await expire_lease(redis, Lane(1, "crm"))
    await full()
    sweeping = asyncio.create_task(turns(Serve()).sweep_forever())
    async with asyncio.timeout(5):
        while not await jobs(redis):
            await asyncio.sleep(0.01)
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)
    assert await redis.exists(HEALTH)


# a real worker


async def test_a_worker_picks_turns_up_within_milliseconds_and_leaves_nothing_in_arq(valkey, queue, lanes, redis):
    done = []

    async def serve(turn, stopping, others_wait):
        done.append(time.monotonic())
        await turn.read()

    async with working(valkey, Turns(lanes, 2, queue, serve)) as worker:
        await until(lambda: "turns" in worker.ctx)
        waits = []
        for number in range(20):
            claims = await lanes.append(0, [append(("k", "one"), lane=f"lane{number}")])
            began = time.monotonic()
            await queue.enqueue(claims)
            await until(lambda number=number: len(done) > number)
            waits.append(done[-1] - began)
        assert sorted(waits)[10] < 0.1
        async with asyncio.timeout(5):
            while await redis.keys("arq:*job*") or await redis.keys("arq:in-progress:*"):
                await asyncio.sleep(0.02)
        assert [] == await jobs(redis)


async def test_a_turn_that_died_with_its_worker_is_taken_up_by_another(valkey, queue, lanes, redis, monkeypatch):
    monkeypatch.setattr(turns_module, "SWEEP_SECONDS", 0.05)
    [claim] = await lanes.append(0, [append(("k", "one"))])
    dead = await take(lanes, claim)  # a worker that is gone
    await expire_lease(redis, CRM)
    serve = Serve()
    async with working(valkey, Turns(lanes, 2, queue, serve)):
        await until(lambda: serve.turns)
    assert dead.lane == serve.turns[0]


async def test_the_job_of_a_worker_is_one_function(valkey, queue, lanes):
    serve = Serve()
    [claim] = await lanes.append(0, [append(("k", "one"))])
    await turn_job({"turns": Turns(lanes, 2, queue, serve), "job_id": "job"}, 0, "crm", claim.token)
    assert [CRM] == serve.turns


WORKER = """
import asyncio, sys
from redis.asyncio import Redis
from eventrouter.lanes import Lanes
from eventrouter.queue import Queue, run_worker, worker_settings
from eventrouter.turns import Turns

url = sys.argv[1]
async def serve(turn, stopping, others_wait):
    print("begun", flush=True)
    await stopping.wait()
    await asyncio.sleep(0.3)  # the attempt in hand
    print("ended", flush=True)
    return await turn.give_up()
async def start():
    return Turns(Lanes(Redis.from_url(url)), 1, await Queue.connect(url), serve)
async def stop():
    print("closed", flush=True)
run_worker(worker_settings(url, start, stop, shards=1))
print("exit", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_the_attempt_in_hand_end_hands_the_lane_over_and_exits_well(
    valkey, queue, lanes, redis, tmp_path, number
):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    claims = await lanes.append(0, [append(("k", "one"))])
    await queue.enqueue(claims)
    environment = {**os.environ, "PYTHONPATH": str(Path(queue_module.__file__).parents[1])}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), valkey, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    try:
        assert process.stdout is not None
        assert b"begun\n" == await asyncio.wait_for(process.stdout.readline(), 20)
        process.send_signal(number)
        began = time.monotonic()
        output, errors = await asyncio.wait_for(process.communicate(), 15)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (0, b"ended\nclosed\nexit\n") == (process.returncode, output), errors.decode()
    assert time.monotonic() - began < 5
    [job] = await jobs(redis)
    token = job.split(":")[2]
    assert await Lanes(redis).begin(CRM, token) is not None
