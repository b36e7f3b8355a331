"""Following the rules file in a running process, and telling others which rules it has."""

import asyncio

import pytest

from eventrouter import following, rules_file
from eventrouter.config import load
from eventrouter.following import Following
from eventrouter.kept_rules import KeptRules
from eventrouter.presence import processes
from eventrouter.rules_file import RulesFile
from routes_kit import HEAD, PLUGINS


@pytest.fixture
async def place(tmp_path, redis, monkeypatch):
    monkeypatch.setattr(rules_file, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(following, "TELL_SECONDS", 0.01)
    path = tmp_path / "routes.yaml"
    path.write_text(HEAD)
    rules = RulesFile(load(path, PLUGINS, {}), PLUGINS, {}, KeptRules(tmp_path / "data", path))
    taken = []

    async def take(config):
        taken.append(config.version)

    made = Following("worker", rules, redis, take, "stores", "slow")
    made.start()
    yield path, rules, taken, made
    await made.stop()


async def until(condition):
    async with asyncio.timeout(5):
        while not await condition():
            await asyncio.sleep(0.01)


async def told(redis):
    return [(one.kind, one.rules, bool(one.problem)) for one in await processes(redis)]


async def test_a_worker_tells_its_databases_and_its_group(place, redis):
    async def is_told():
        return [("stores", "slow")] == [(one.stores, one.group) for one in await processes(redis)]

    await until(is_told)


async def test_a_process_tells_its_rules_and_follows_the_file(place, redis):
    path, rules, taken, _ = place
    first = rules.config.version

    async def is_told(version, problem):
        return await told(redis) == [("worker", version, problem)]

    await until(lambda: is_told(first, False))
    path.write_text(HEAD + "  - { to: crm }\n")

    async def is_taken():
        return taken and await is_told(taken[0], False)

    await until(is_taken)
    assert taken == [rules.config.version] != [first]
    path.write_text("routes: [\n")
    await until(lambda: is_told(taken[0], True))


async def test_a_process_that_stops_is_gone_and_follows_no_more(place, redis):
    path, _, taken, made = place

    async def is_there():
        return bool(await processes(redis))

    await until(is_there)
    await made.stop()
    await made.stop()
    assert await processes(redis) == []
    path.write_text(HEAD + "  - { to: crm }\n")
    await asyncio.sleep(0.05)
    assert taken == []
