"""A collector's way to the event log: starts with the server there or away, and says whether it takes events."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from redis.asyncio import Redis

from eventrouter import intake as intake_module
from eventrouter.config_model import CollectConfig, Config
from eventrouter.connections import META, wait_for_server
from eventrouter.errors import StartError
from eventrouter.intake import Intake
from eventrouter.lanes import Lanes
from eventrouter.log import EventLog
from eventrouter.settings import Settings
from spool_kit import event


class Place:
    """A collector's intake on a real server, to which the way can be cut."""

    def __init__(self, redis, directory, max_bytes, shards=4):
        self.settings = Settings(data_dir=directory, shards=shards, redis_url="redis://user:s3cret@127.0.0.1:1/0")
        self.here, self.away = redis, Redis.from_url("unix:///nowhere/valkey.sock")
        self.is_away = False
        self.connects = 0
        config = Config("", "abc", {}, collect=CollectConfig(spool_max_bytes=max_bytes))
        self.log = EventLog(Lanes(redis), shards, self.enqueue)
        lanes = SimpleNamespace(redis=SimpleNamespace(ping=self.ping), reach=lambda shards: self.ping())
        self.intake = Intake(self.log, lanes, self.connect, self.settings, config)

    async def enqueue(self, claims):
        pass

    async def ping(self):
        await (self.away if self.is_away else self.here).ping()

    async def connect(self, seconds):
        self.connects += 1
        await wait_for_server(self.away if self.is_away else self.here, self.settings, min(seconds, 0.1))


@pytest.fixture
async def place(redis, tmp_path):
    made = []

    def make(max_bytes=10**7, **more):
        made.append(Place(redis, tmp_path, max_bytes, **more))
        return made[-1]

    yield make
    for one in made:
        await one.log.close()
        await one.away.aclose()


async def is_drained(log):
    async with asyncio.timeout(20):
        while log.reason:
            await asyncio.sleep(0.01)


async def test_with_the_server_there_nothing_is_spooled(place, tmp_path):
    one = place()
    await one.intake.start()
    await one.log.append([event(1)])
    expected = {"ready": True, "event_log": "ok", "spooling": False, "rules": "abc"}
    assert (expected, 0) == (await one.intake.ready(), one.intake.state().spooled)
    assert (tmp_path / "spool").is_dir()


async def test_with_the_server_away_it_starts_and_is_ready_and_drains_later(place, redis):
    one = place()
    one.is_away = True
    await one.intake.start()
    await one.log.append([event(1)])
    found = await one.intake.ready()
    spool = found.pop("spool")
    assert (one.intake.state().bytes, 1) == (spool["bytes"], spool["events"])
    assert 0 <= spool["oldest_seconds"] < 20
    assert {"ready": True, "event_log": "away", "spooling": True, "rules": "abc"} == found
    one.is_away = False
    await is_drained(one.log)
    assert b"4" == await redis.hget(META, "shards")
    assert (True, "ok") == ((await one.intake.ready())["ready"], (await one.intake.ready())["event_log"])


async def test_why_events_are_spooled_is_told_without_a_password(place, capsys):
    one = place()
    one.is_away = True
    await one.intake.start()
    out = capsys.readouterr()
    told = out.out + out.err
    assert "redis://**********@127.0.0.1:1/0 is not reachable (" in told
    assert "; start it, or correct EVENTROUTER_REDIS_URL" in told
    assert "s3cret" not in told


async def test_a_server_that_says_nothing_does_not_stop_a_start(place, monkeypatch):
    monkeypatch.setattr(intake_module, "SERVER_SECONDS", -0.9)
    one = place()

    async def connect(seconds):
        await asyncio.sleep(60)

    one.intake._connect = connect
    await one.intake.start()
    await one.log.append([event(1)])
    assert "does not answer" in one.log.reason


async def test_a_server_that_went_away_is_no_reason_to_send_clients_elsewhere(place):
    one = place()
    await one.intake.start()
    one.is_away = True
    found = await one.intake.ready()
    assert (True, "away", False) == (found["ready"], found["event_log"], found["spooling"])


async def test_it_is_not_ready_when_it_can_keep_nothing(place):
    one = place(max_bytes=10)
    one.is_away = True
    await one.intake.start()
    assert (await one.intake.ready())["ready"]
    one.log.spool._max_bytes = 0
    assert not (await one.intake.ready())["ready"]


async def test_without_a_spool_the_server_has_to_be_there(place, tmp_path):
    one = place(max_bytes=0)
    one.is_away = True
    with pytest.raises(StartError, match="is not reachable"):
        await one.intake.start()
    one.is_away = False
    await one.intake.start()
    assert one.intake.state() is None
    one.is_away = True
    assert {"ready": False, "event_log": "away", "spooling": False, "rules": "abc"} == await one.intake.ready()
    assert not (tmp_path / "spool").exists()


async def test_where_no_spool_can_be_it_goes_on_without_and_says_so(place, tmp_path, capsys):
    (tmp_path / "spool").write_text("")
    one = place()
    await one.intake.start()
    await one.log.append([event(1)])
    assert one.intake.state() is None
    out = capsys.readouterr()
    assert "there is no spool" in out.out + out.err


async def test_a_server_that_does_not_fit_stops_the_start(place, redis):
    await wait_for_server(redis, place().settings, 1)
    other = place(shards=8)
    with pytest.raises(StartError, match="has 4 shards, not 8"):
        await other.intake.start()


async def test_a_server_that_turns_out_not_to_fit_gets_nothing(place, redis):
    await wait_for_server(redis, place().settings, 1)
    other = place(shards=8)
    other.is_away = True
    await other.intake.start()
    await other.log.append([event(1)])
    other.is_away = False
    while "not 8" not in other.log.reason:
        await asyncio.sleep(0.01)
    await other.log.append([event(2)])
    assert [META.encode()] == await redis.keys("*")
    assert 2 == other.intake.state().events


async def test_it_is_checked_once(place):
    one = place()
    one.is_away = True
    await one.intake.start()
    one.is_away = False
    await is_drained(one.log)
    connects = one.connects
    one.log.spool_from_now("a test")
    await is_drained(one.log)
    assert connects == one.connects
