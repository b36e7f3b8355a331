import msgspec

from eventrouter import presence
from eventrouter.presence import KEY, Process, leave, processes, tell, this_process


async def test_who_tells_is_there_with_its_rules_until_it_leaves(redis):
    worker, collector = this_process("worker", "r1", group="g"), this_process("collector", "r2", "routes.yaml:3: wrong")
    await tell(redis, worker)
    await tell(redis, collector)
    found = await processes(redis)
    assert [(one.kind, one.rules, one.problem) for one in found] == [
        ("collector", "r2", "routes.yaml:3: wrong"),
        ("worker", "r1", ""),
    ]
    worker.rules = "r2"
    await tell(redis, worker)
    assert [one.rules for one in await processes(redis)] == ["r2", "r2"]
    await leave(redis, worker)
    assert [one.kind for one in await processes(redis)] == ["collector"]


async def test_who_was_killed_is_forgotten(redis, monkeypatch):
    await tell(redis, Process("worker", "here", 1, "r1"))
    monkeypatch.setattr(presence, "GONE_SECONDS", -1.0)
    assert await processes(redis) == []
    assert await redis.hlen(KEY) == 0


async def test_ages_are_told_by_the_servers_clock_whatever_that_of_a_host_says(redis, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 0.0)
    await tell(redis, this_process("worker", "r1"))
    monkeypatch.undo()
    assert len(await processes(redis)) == 1


async def test_what_was_told_before_the_servers_clock_was_set_back_is_not_there(redis):
    worker = this_process("worker", "r1")
    await tell(redis, worker)
    worker.seen_ms += 60_000
    await redis.hset(KEY, "worker:here:1", msgspec.json.encode(worker))
    assert len(await processes(redis)) == 1


async def test_what_another_version_tells_is_passed_over(redis):
    await redis.hset(KEY, "worker:there:1", "?")
    await tell(redis, this_process("worker", "r1"))
    assert len(await processes(redis)) == 1


async def test_containers_with_the_same_host_name_and_process_id_are_two(redis, monkeypatch):
    await tell(redis, this_process("worker", "r1"))
    monkeypatch.setattr(presence, "RUN", "other")
    other = this_process("worker", "r1")
    await tell(redis, other)
    assert len(await processes(redis)) == 2
    await leave(redis, other)
    assert len(await processes(redis)) == 1
