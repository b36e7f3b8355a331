"""app.py: the parts together, in one process, on a real server."""

from __future__ import annotations

import ast
import asyncio
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import msgspec
import pytest
from redis.asyncio import Redis

from deliver_kit import delivery
from eventrouter import app as app_module
from eventrouter import hookimpl
from eventrouter.acceptance import AcceptedEvent
from eventrouter.app import EventRouter, make_worker_settings
from eventrouter.builtin import identity, warehouse
from eventrouter.config import loads
from eventrouter.delivery import encode
from eventrouter.destination import Destination, Message, Outcome
from eventrouter.enrich import PLACES
from eventrouter.errors import ConfigError, Reject
from eventrouter.events import StoredEvent
from eventrouter.kept_rules import KeptRules
from eventrouter.lane import Append, Claim, Lane
from eventrouter.plugins import Plugins
from eventrouter.queue import Turns
from eventrouter.settings import Settings

RULES = """
version: 1
sources: { website: { write_key: k } }
destinations: { crm: { plugin: memory } }
routes: [{ name: tracks, to: crm, when: type == "track", map: { name: "{{ event }}", who: "{{ person_id }}" } }]
"""


class Memory(Destination):
    """Keeps what it is told; refuses an event called Bad."""

    name = "memory"
    taken: Sequence[Any] = ()

    async def deliver(self, messages: Sequence[Message]) -> Mapping[str, Outcome] | None:
        if Memory.refusing and messages[0].payload["name"] == "Bad":
            raise Reject("no", status=422)
        Memory.taken = [*Memory.taken, *(message.payload for message in messages)]
        return None

    refusing = True


PLUGINS = Plugins(SimpleNamespace(register_destinations=hookimpl(lambda: [Memory])), identity, warehouse)


class InProcess:
    """Runs turns in this process instead of through arq."""

    def __init__(self, app: EventRouter, turns: Turns) -> None:
        self.turns = turns
        self.tasks: list[asyncio.Task[None]] = []
        app._queue = self  # type: ignore[assignment]

    async def enqueue(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            self.tasks.append(asyncio.create_task(self._run(claim)))

    async def _run(self, claim: Claim) -> None:
        await asyncio.sleep(claim.delay)
        await self.turns.run(claim.lane, claim.token, "job")

    def is_mine(self, lane: Lane) -> bool:
        return True

    async def clear(self, groups: Sequence[str] = ()) -> None:
        pass

    async def close(self) -> None:
        self.turns.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def app(valkey: str, redis: Redis, tmp_path: Path) -> AsyncIterator[EventRouter]:
    Memory.taken, Memory.refusing = (), True
    (tmp_path / "routes.yaml").write_text(RULES)
    settings = Settings(config=tmp_path / "routes.yaml", data_dir=tmp_path, redis_url=valkey)
    app = EventRouter.load(settings, plugins=PLUGINS, environ={})
    yield app
    await app.close()


async def _start(app: EventRouter) -> None:
    turns = await app.start_worker()
    queue = app._queue
    assert queue is not None
    await queue.close()
    turns._queue = InProcess(app, turns)  # type: ignore[assignment]


def _event(name: str, message_id: str = "m") -> AcceptedEvent:
    event = {"type": "track", "event": name, "messageId": message_id, "anonymousId": "a"}
    event |= {"timestamp": "2026-11-24T17:00:00.000Z", "receivedAt": "2026-11-24T17:00:00.000Z"}
    return AcceptedEvent("a", msgspec.json.encode(StoredEvent("website", event)))


async def _until(app: EventRouter, **counts: int) -> dict[str, Any]:
    """The status, once crm's numbers are these."""
    for _ in range(500):
        app._snapshot = None
        status = await app.status()
        row = status["destinations"]["crm"]
        sums = {name: sum(filter(None, value.values())) for name, value in row.items() if isinstance(value, dict)}
        if all((row | sums)[name] == number for name, number in counts.items()):
            return status
        await asyncio.sleep(0.02)
    raise AssertionError(await app.status())


def _count(app: EventRouter, table: str) -> int:
    """The rows of a table; none while it is not made yet."""
    with closing(sqlite3.connect(app.settings.data_dir / "warehouse.sqlite3")) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
            return 0
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def test_an_event_goes_from_the_log_to_its_destination_and_the_warehouse(app: EventRouter) -> None:
    await _start(app)
    await app.event_log.append([_event("Good")])
    status = await _until(app, delivered=1, waiting=0)
    assert [payload["name"] for payload in Memory.taken] == ["Good"]
    assert len(Memory.taken[0]["who"]) == 32
    assert status["events"] == {"accepted": 1, "in_log": 0, "duplicates": 0, "routed": 1}
    while _count(app, "good") < 1:
        await asyncio.sleep(0.02)
    assert (_count(app, "events"), _count(app, "identities")) == (1, 1)


async def test_so_many_shards_of_a_worker_are_routed_at_once_and_what_waits_goes_on(app: EventRouter) -> None:
    await _start(app)
    for _ in range(PLACES):
        await app._places.acquire()
    await app.event_log.append([_event("Good")])
    await asyncio.sleep(0.1)
    assert (await app.status())["events"]["routed"] == 0
    app._places.release()
    await _until(app, delivered=1)


async def test_a_dead_letter_can_be_found_and_sent_again(app: EventRouter) -> None:
    await _start(app)
    await app.event_log.append([_event("Bad")])
    status = await _until(app, dead=1)
    assert status["destinations"]["crm"]["dead"] == {"permanent": 1}
    while not (letters := await (await app.warehouse()).find_dead_letters(destination="crm")):
        await asyncio.sleep(0.02)
    assert [(letter["message_id"], letter["reason"], letter["status"]) for letter in letters] == [("m", "no", 422)]
    Memory.refusing = False
    assert await (await app.dead_letters()).replay(letters) == (1, [], [])
    status = await _until(app, delivered=1, replayed=1, died=1, dead=0)
    assert status["destinations"]["crm"]["routed"] == status["events"]["routed"] == 1
    assert [payload["name"] for payload in Memory.taken] == ["Bad"]


async def test_ready_says_whether_events_would_be_taken(app: EventRouter, tmp_path: Path) -> None:
    assert (await app.ready())["ready"] is True
    away = Settings(config=tmp_path / "routes.yaml", data_dir=tmp_path, redis_url="redis://127.0.0.1:1/0")
    other = EventRouter.load(away, plugins=PLUGINS, environ={})
    found = await other.ready()
    assert (found["ready"], found["event_log"]) == (False, "away")
    assert b"eventrouter_up 0.0" in await other.metrics()
    await other.close()


async def test_metrics_tell_of_all_workers(app: EventRouter) -> None:
    await _start(app)
    await app.event_log.append([_event("Good")])
    await _until(app, delivered=1)
    app._snapshot = None
    collector = app.collector()
    collector.refused["too_large"] += 1
    collector.mended["website", "not_a_number"] += 2
    text = await app.metrics(collector)
    assert b"eventrouter_up 1.0" in text
    assert b'eventrouter_collector_requests_refused_total{code="too_large"} 1.0' in text
    assert b'eventrouter_collector_values_mended_total{reason="not_a_number",source="website"} 2.0' in text
    assert b"eventrouter_events_accepted_total 1.0" in text
    assert b'eventrouter_deliveries_delivered_total{destination="crm"} 1.0' in text


async def test_deliveries_of_a_destination_that_is_gone_wait_and_are_shown(app: EventRouter) -> None:
    await _start(app)
    items = [("k", 1, encode(delivery(name, age=age))) for name, age in (("aged", 73 * 3600.0), ("new", 0.0))]
    claims = await app.lanes.append(0, [Append("old", items, "to:old")])
    turn = await app.lanes.begin(Lane(0, "old"), claims[0].token)
    assert turn is not None
    claim = await app._serve_turn(turn, asyncio.Event(), lambda: False)
    assert claim is not None
    assert claim.delay == 30.0
    app._snapshot = None
    old = (await app.status())["destinations"]["old"]
    assert (old["state"], old["waiting"], old["dead"]) == ("not in routes.yaml", 1, {"max_age": 1})


async def test_a_start_without_workers_takes_every_lane_up_at_once(app: EventRouter) -> None:
    await _start(app)
    claims = await app.lanes.append(0, [Append("crm", [("k", 1, b"{}")])])
    await app.lanes.begin(claims[0].lane, claims[0].token, "job of a dead worker")
    taken: list[Claim] = []

    class Queue:
        async def clear(self, groups: Sequence[str] = ()) -> None:
            pass

        async def close(self) -> None:
            pass

        async def enqueue(self, claims: Sequence[Claim]) -> None:
            taken.extend(claims)

    await app._queue.close()  # type: ignore[union-attr]
    app._queue = Queue()  # type: ignore[assignment]
    await app.expire_leases()
    assert [(claim.lane, claim.job) for claim in taken] == [(Lane(0, "crm"), "job of a dead worker")]
    assert taken[0].token != claims[0].token


async def test_a_start_probes_destinations_on_hold_at_once_a_replacement_does_not(app: EventRouter) -> None:
    await _start(app)
    key = "er:{dest:crm}:health"
    for probe, until in ((False, b"9999999999999"), (True, b"0")):
        await app.redis.hset(key, mapping={"state": "hold", "until": 9999999999999})
        await app.expire_leases(probe=probe)
        assert await app.redis.hget(key, "until") == until


async def test_a_plugin_that_does_not_close_holds_nobody_up(app: EventRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    await _start(app)
    monkeypatch.setattr(app_module, "CLOSE_SECONDS", 0.3)
    monkeypatch.setattr(app.targets, "close", lambda: asyncio.sleep(60))
    began = time.monotonic()
    await app.close()
    assert time.monotonic() - began < 5


def test_bad_rules_are_told_at_load(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        EventRouter.load(Settings(config=tmp_path / "routes.yaml"), plugins=PLUGINS, environ={})


def test_one_that_serves_goes_on_with_the_last_good_rules(tmp_path: Path) -> None:
    rules = tmp_path / "routes.yaml"
    rules.write_text("version: 1\nsources: { website: { write_key: k } }\n")
    settings = Settings(config=rules, data_dir=tmp_path / "data")
    good = EventRouter.open(settings)
    KeptRules(settings.data_dir, rules).keep(good.config.texts)
    rules.write_text("version: 2\n")
    later = EventRouter.open(settings)
    assert later.config.version == good.config.version
    assert "this version of the file's format is not known" in later.rules_file.problem
    with pytest.raises(ConfigError):
        EventRouter.load(settings)


def test_the_worker_settings_are_a_class_for_arq(app: EventRouter) -> None:
    settings = make_worker_settings(app.settings, lambda _: app)
    assert [function.name for function in vars(settings)["functions"]] == ["turn"]


async def test_a_worker_of_a_group_starts_nothing_that_only_the_default_group_serves(app: EventRouter) -> None:
    app.settings = app.settings.model_copy(update={"worker_group": "slow"})
    turns = await app.start_worker()
    assert (app._identity, app._own, app._beside, app.targets._targets) == ([], {}, [], {})
    assert turns is not None
    await app.use(app.config)
    assert app._own == {}


# rules that change


class Closing(Memory):
    """Notes which of it are open."""

    name = "closing"
    open: ClassVar[list[str]] = []

    class Options(Destination.Options):
        """What tells them apart."""

        tag: str = ""

    async def start(self) -> None:
        Closing.open = [*Closing.open, self.options.tag]

    async def close(self) -> None:
        await super().close()
        Closing.open = [tag for tag in Closing.open if tag != self.options.tag]

    async def deliver(self, messages: Sequence[Message]) -> Mapping[str, Outcome] | None:
        Memory.taken = [*Memory.taken, *((self.options.tag, message.payload["name"]) for message in messages)]
        return None


CLOSING = Plugins(SimpleNamespace(register_destinations=hookimpl(lambda: [Memory, Closing])), identity, warehouse)
CHANGING = """
version: 1
sources: {{ website: {{ write_key: k }} }}
destinations:
  crm: {{ plugin: closing, options: {{ tag: {tag} }} }}
  same: {{ plugin: closing, options: {{ tag: same }} }}
routes: [{{ name: tracks, to: [crm, same], when: type == "track", map: {{ name: "{{{{ event }}}}" }} }}]
"""


@pytest.fixture
async def changing(valkey: str, redis: Redis, tmp_path: Path) -> AsyncIterator[EventRouter]:
    Memory.taken, Closing.open = (), []
    (tmp_path / "routes.yaml").write_text(CHANGING.format(tag="one"))
    settings = Settings(config=tmp_path / "routes.yaml", data_dir=tmp_path, redis_url=valkey)
    app = EventRouter.load(settings, plugins=CLOSING, environ={})
    yield app
    await app.close()


async def _taken(number: int) -> list[Any]:
    async with asyncio.timeout(10):
        while len(Memory.taken) < number:
            await asyncio.sleep(0.01)
    return sorted(Memory.taken)


async def test_a_destination_that_changes_is_replaced_and_another_stays(changing: EventRouter) -> None:
    await _start(changing)
    await changing.event_log.append([_event("A", "m1")])
    assert await _taken(2) == [("one", "A"), ("same", "A")]
    same = await changing.targets.get("same")
    first = changing.config.version
    await changing.use(loads(CHANGING.format(tag="two"), CLOSING, {}))
    assert changing.config.version != first
    await changing.event_log.append([_event("B", "m2")])
    assert (await _taken(4))[-2:] == [("same", "B"), ("two", "B")]
    async with asyncio.timeout(5):
        while sorted(Closing.open) != ["same", "two"]:
            await asyncio.sleep(0.01)
    assert await changing.targets.get("same") is same


async def test_a_destination_that_is_taken_out_keeps_what_waits_until_it_is_back(changing: EventRouter) -> None:
    rules = CHANGING.format(tag="one")
    without = rules.replace("crm: { plugin: closing, options: { tag: one } }", "").replace("[crm, same]", "same")
    await _start(changing)
    claims = await changing.lanes.append(0, [Append("crm", [], "")])
    await changing.use(loads(without, CLOSING, {}))
    assert (changing.targets.names, claims) == ({"same", "warehouse"}, [])
    await changing.event_log.append([_event("A", "m1")])
    assert await _taken(1) == [("same", "A")]
    await changing.use(loads(rules, CLOSING, {}))
    await changing.event_log.append([_event("B", "m2")])
    assert await _taken(3) == [("one", "B"), ("same", "A"), ("same", "B")]


async def test_a_collectors_sources_change(changing: EventRouter) -> None:
    collector = changing.collector()
    assert set(collector.reception.sources) == {"k"}
    config = loads(CHANGING.format(tag="one").replace("write_key: k", "write_key: [k, new]"), CLOSING, {})
    await changing.use_sources(collector, config)
    assert set(collector.reception.sources) == {"k", "new"}
    assert (await changing.ready())["rules"] == config.version


async def test_a_collectors_metrics_tell_of_the_destinations_of_new_rules(changing: EventRouter) -> None:
    rules = CHANGING.format(tag="one").replace("\n  same:", "\n  new: { plugin: closing }\n  same:")
    rules = rules.replace("options: { tag: same }", "enabled: false").replace("[crm, same]", "[crm, new]")
    collector = changing.collector()
    await changing.use_sources(collector, loads(rules, CLOSING, {}))
    await changing.redis.hset("er:{dest:new}:health", mapping={"state": "hold", "reason": "401"})
    text = (await changing.metrics(collector)).decode()
    stopped = re.findall(r'destination_stopped\{destination="(\w+)",why="(\w+)"\} 1.0', text)
    assert sorted(stopped) == [("new", "hold"), ("same", "switched_off")]


def test_a_collector_loads_nothing_of_databases(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text("version: 1\nsources: { website: { write_key: k } }\n")
    code = (
        "import sys; from eventrouter.app import EventRouter; from eventrouter.settings import Settings;"
        "EventRouter.open(Settings()).collector(); print({name.split('.')[0] for name in sys.modules})"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = ast.literal_eval(result.stdout)
    assert {"eventrouter", "redis"} <= loaded
    assert loaded & {"sqlalchemy", "psycopg", "maxminddb", "ua_parser"} == set()


async def test_ids_are_remembered_in_a_quarter_of_the_embedded_server_at_most(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(RULES)
    for maxmemory, expected in ((64_000_000, 16_000_000), (2**32, 256 * 1024**2)):
        settings = Settings(config=tmp_path / "routes.yaml", data_dir=tmp_path, maxmemory=maxmemory)
        app = EventRouter.load(settings, plugins=PLUGINS, environ={})
        assert app._rules.dedup_bytes == expected
        await app.close()


async def test_who_looks_on_sees_what_a_collector_took(app: EventRouter, redis: Redis) -> None:
    taken: list[str] = []
    app.onlookers.accepted = lambda events, rejected: taken.extend(one.order_key for one in events)  # type: ignore[method-assign]
    append = app.collector()._append
    await append([_event("Unseen", "m1")], [])
    assert taken == []
    app.onlookers.present = True
    await append([_event("Seen", "m2")], [])
    assert taken == ["a"]
