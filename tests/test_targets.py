"""targets.py: the destinations of a worker, made from routes.yaml and started at their first turn."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import Field, SecretStr
from redis.exceptions import ConnectionError as RedisConnectionError

from eventrouter import config, hookimpl
from eventrouter import targets as targets_module
from eventrouter.destination import Destination, Message, Outcome
from eventrouter.errors import EventRouterError
from eventrouter.lane import Claim, Item
from eventrouter.lanes import Lanes, Turn
from eventrouter.plugins import Plugins
from eventrouter.records import DeadLetter, EventRecord, Identity, pack
from eventrouter.settings import Settings
from eventrouter.targets import IDLE_SECONDS, Targets, records_in_hand
from eventrouter.warehouse import Warehouse
from lane_kit import begin, take

RULES = """
version: 1
sources: { website: { write_key: k } }
warehouse: { url: "memory://here" }
destinations:
  crm:
    plugin: crm
    options: { token: "${TOKEN}" }
    batch: { size: 7, wait: 2s }
    retry: { initial: 3s, max_age: 1h, max_attempts: 4 }
    concurrency: 5
    rate_limit: { count: 9, per_seconds: 2 }
routes: [{ name: all, to: crm }]
"""


class Crm(Destination):
    """Keeps what it is told."""

    name = "crm"
    batch_size = 10
    pin_batches = True

    class Options(Destination.Options):
        token: SecretStr = Field(description="A secret.")

    made: Sequence[Crm] = []
    fails = False

    async def start(self) -> None:
        Crm.made = [*Crm.made, self]
        if Crm.fails:
            raise OSError(f"no way in with {self.options.token.get_secret_value()}")

    async def deliver(self, messages: Sequence[Message]) -> Mapping[str, Outcome] | None:
        return None


class Memory(Warehouse):
    """A warehouse that keeps nothing."""

    name = "memory"
    schemes = ("memory",)
    closed = False

    async def deliver(self, messages: Sequence[Message]) -> Mapping[str, Outcome] | None:
        return None

    async def close(self) -> None:
        await super().close()
        Memory.closed = True


@pytest.fixture
def targets(lanes: Lanes, tmp_path: Path) -> Targets:
    Crm.made, Crm.fails, Memory.closed = [], False, False
    hooks = SimpleNamespace(
        register_destinations=hookimpl(lambda: [Crm]), register_warehouses=hookimpl(lambda: [Memory])
    )
    plugins = Plugins(hooks)
    return _targets(RULES, plugins, lanes, tmp_path)


def _targets(rules: str, plugins: Plugins, lanes: Lanes, tmp_path: Path) -> Targets:
    path = tmp_path / "routes.yaml"
    path.write_text(rules)
    loaded = config.load(path, plugins, {"TOKEN": "s3cret"})

    async def enqueue(claims: Sequence[Claim]) -> None:
        pass

    return Targets(loaded, Settings(data_dir=tmp_path), plugins, lanes, enqueue)


async def test_a_destination_is_served_as_routes_yaml_says(targets: Targets) -> None:
    target = await targets.get("crm")
    assert target is not None
    policy = target.policy
    assert (policy.batch_size, policy.batch_wait, policy.concurrency) == (7, 2.0, 5)
    assert (policy.max_age, policy.max_attempts, policy.pin) == (3600.0, 4, True)
    assert target.throttle is not None
    assert target.calls is not None


async def test_a_bound_for_calls_that_routes_yaml_does_not_have_costs_nothing(
    targets: Targets, lanes: Lanes, tmp_path: Path
) -> None:
    unbounded = _targets(RULES.replace("    concurrency: 5\n", ""), targets._plugins, lanes, tmp_path)
    target = await unbounded.get("crm")
    assert target is not None
    assert (Crm.concurrency, None) == (target.policy.concurrency, target.calls)


async def test_the_places_of_calls_are_given_back_before_a_worker_ends(targets: Targets, lanes: Lanes) -> None:
    target = await targets.get("crm")
    assert target is not None and target.calls is not None
    target.calls.give_back(await target.calls.take(0.0, lambda: False))
    await targets.close()
    assert not await lanes.redis.exists("er:{dest:crm}:calls")


async def test_a_batch_holds_one_of_each_key_unless_the_plugin_keeps_their_order(
    targets: Targets, lanes: Lanes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = await targets.get("crm")
    assert target is not None and target.policy.apart
    monkeypatch.setattr(Crm, "keeps_order", True)
    hooks = SimpleNamespace(
        register_destinations=hookimpl(lambda: [Crm]), register_warehouses=hookimpl(lambda: [Memory])
    )
    target = await _targets(RULES, Plugins(hooks), lanes, tmp_path).get("crm")
    assert target is not None and not target.policy.apart


async def test_a_destination_is_made_and_started_once(targets: Targets) -> None:
    assert await targets.get("crm") is await targets.get("crm")
    assert [destination.destination for destination in Crm.made] == ["crm"]


async def test_the_warehouse_is_a_destination_that_never_gives_up(targets: Targets) -> None:
    target = await targets.get("warehouse")
    assert target is not None
    assert (target.policy.max_age, target.attempts.lenient, target.policy.batch_size) == (None, False, 1000)
    assert await targets.warehouse() is target.attempts.destination


@pytest.mark.parametrize(("shards", "megabytes"), [(1, 16), (4, 16), (64, 1)])
async def test_the_warehouse_has_no_more_in_hand_where_there_are_many_shards(
    targets: Targets, tmp_path: Path, shards: int, megabytes: int
) -> None:
    targets._settings = Settings(data_dir=tmp_path, shards=shards)
    target = await targets.get("warehouse")
    assert target is not None
    assert target.policy.read_bytes == megabytes * 1024 * 1024


async def test_there_is_no_target_of_an_unknown_name(targets: Targets) -> None:
    assert await targets.get("nonsense") is None
    assert targets.names == {"crm", "warehouse"}


async def test_a_destination_that_cannot_start_backs_off_and_shows_no_secret(targets: Targets, lanes: Lanes) -> None:
    Crm.fails = True
    assert await targets.get("crm") is None
    health = await lanes.redis.hgetall("er:{dest:crm}:health")
    assert health[b"state"] == b"backoff"
    assert health[b"reason"] == b"it can't start: OSError: no way in with **********"
    Crm.fails = False
    assert await targets.get("crm") is None
    assert 0 < targets.wait("crm") <= 3.0
    await targets.probe_soon()
    assert await targets.get("crm") is not None


async def test_a_start_that_is_the_probe_keeps_it_as_long_as_it_takes_and_backs_off_further_when_it_fails(
    targets: Targets, lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("lease", "health"):
        monkeypatch.setattr(f"eventrouter.{module}.LEASE_MS", 300)
    health = targets._make_health("crm")
    await health.failed("away")
    await health.probe_soon()

    async def fail_late(_self: object) -> None:
        for _ in range(12):
            await asyncio.sleep(0.04)
            assert (await targets._make_health("crm").gate()).wait > 0
        raise OSError("no way in")

    monkeypatch.setattr(Crm, "start", fail_late)
    assert await targets.get("crm") is None
    failures, reason = await lanes.redis.hmget("er:{dest:crm}:health", "failures", "reason")
    assert (b"2", b"it can't start: OSError: no way in") == (failures, reason)


async def test_a_destination_that_hangs_at_its_start_backs_off(
    targets: Targets, lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(self: Crm) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(Crm, "start", hang)
    monkeypatch.setattr(targets_module, "START_SECONDS", 0.05)
    assert await targets.get("crm") is None
    assert await lanes.redis.hget("er:{dest:crm}:health", "reason") == b"it can't start: TimeoutError: "


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError()])
async def test_a_destination_that_would_end_the_worker_at_its_start_backs_off(
    targets: Targets, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    async def end(self: Crm) -> None:
        raise error

    monkeypatch.setattr(Crm, "start", end)
    monkeypatch.setattr(Crm, "close", end)
    assert await targets.get("crm") is None
    assert 0 < targets.wait("crm") <= 3.0


async def test_a_destination_that_could_not_start_is_closed(targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Crm] = []

    async def close(self: Crm) -> None:
        closed.append(self)
        raise RuntimeError("a bug of the plugin")

    monkeypatch.setattr(Crm, "close", close)
    Crm.fails = True
    assert await targets.get("crm") is None
    assert closed == list(Crm.made)


async def test_a_destination_that_is_switched_off_gets_no_target_and_is_looked_at_seldom(
    lanes: Lanes, tmp_path: Path
) -> None:
    hooks = SimpleNamespace(
        register_destinations=hookimpl(lambda: [Crm]), register_warehouses=hookimpl(lambda: [Memory])
    )
    targets = _targets(
        RULES.replace("plugin: crm\n", "plugin: crm\n    enabled: false\n"), Plugins(hooks), lanes, tmp_path
    )
    Crm.made = []
    assert await targets.get("crm") is None
    assert (targets.wait("crm"), targets.wait("nonsense")) == (IDLE_SECONDS, IDLE_SECONDS)
    assert (targets.names, targets.served) == ({"crm", "warehouse"}, {"warehouse"})
    assert Crm.made == []


async def _wait(targets: Targets, lanes: Lanes) -> None:
    """The destination is on hold, and its lane waits for that."""
    health = targets._make_health("crm")
    await health.refused("m1", "401")
    await health.refused("m2", "401")
    turn = await begin(lanes, ("k", "one"))
    await turn.give_up(300)


async def _woken(lanes: Lanes) -> Turn:
    """The next turn of the lane, once the sweep finds it."""
    async with asyncio.timeout(10):
        while not (claims := (await lanes.sweep(0))[0]):
            await asyncio.sleep(0.01)
    return await take(lanes, claims[0])


def _changed(tmp_path: Path, targets: Targets, old: str, new: str) -> config.Config:
    path = tmp_path / "routes.yaml"
    path.write_text(path.read_text().replace(old, new))
    return config.load(path, targets._plugins, {"TOKEN": "s3cret"})


async def test_a_destination_that_changes_is_tried_at_once_and_so_is_one_that_is_back(
    targets: Targets, lanes: Lanes, tmp_path: Path
) -> None:
    await _wait(targets, lanes)
    targets.use(_changed(tmp_path, targets, "initial: 3s", "initial: 4s"))
    turn = await _woken(lanes)
    assert await targets.get("crm") is not None
    targets.use(_changed(tmp_path, targets, "plugin: crm\n", "plugin: crm\n    enabled: false\n"))
    async with targets.serving("crm") as target:
        assert target is None
        await turn.give_up(targets.wait("crm"))
    targets.use(_changed(tmp_path, targets, "    enabled: false\n", ""))
    await _woken(lanes)
    assert await targets.get("crm") is not None


async def test_calls_under_way_end_before_others_begin_at_a_smaller_number(targets: Targets, tmp_path: Path) -> None:
    async with targets.serving("crm") as before:
        assert before is not None and before.calls is not None
        places = [await before.calls.take(0.0, lambda: False) for _ in range(2)]
        targets.use(_changed(tmp_path, targets, "concurrency: 5", "concurrency: 1"))
        after = await targets.get("crm")
        assert after is not None and after.calls is not None
        before.calls.give_back(places[0])
        assert not await after.calls.take(0.1, lambda: False)
        before.calls.give_back(places[1])
        assert await after.calls.take(5.0, lambda: False)
    await targets.close()


async def test_one_that_does_not_change_waits_on(targets: Targets, lanes: Lanes, tmp_path: Path) -> None:
    await _wait(targets, lanes)
    targets.use(_changed(tmp_path, targets, "name: all", "name: every"))
    await asyncio.gather(*targets._waking)
    assert (await lanes.sweep(0))[0] == []
    assert await lanes.redis.hget("er:{dest:crm}:health", "state") == b"hold"
    assert await targets.get("crm") is None


async def test_what_a_turn_met_with_the_old_rules_is_forgotten_when_it_ends(
    targets: Targets, lanes: Lanes, tmp_path: Path
) -> None:
    async with targets.serving("crm") as target:
        assert target is not None
        targets.use(_changed(tmp_path, targets, "initial: 3s", "initial: 4s"))
        await asyncio.gather(*targets._waking)
        await _wait(targets, lanes)
    await _woken(lanes)
    assert await targets.get("crm") is not None


async def test_what_changes_while_redis_is_away_is_tried_when_it_is_back(
    targets: Targets, lanes: Lanes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _wait(targets, lanes)
    run, answers = lanes.run, [False, True, False]

    async def away(step: str, *arguments: Any) -> Any:
        if answers and not answers.pop():
            raise RedisConnectionError("away")
        return await run(step, *arguments)

    monkeypatch.setattr(lanes, "run", away)
    monkeypatch.setattr(targets_module, "WAKE_SECONDS", 0.01)
    targets.use(_changed(tmp_path, targets, "initial: 3s", "initial: 4s"))
    await asyncio.gather(*targets._waking)
    assert answers == []
    await _woken(lanes)


async def test_a_close_does_not_wait_for_redis(
    targets: Targets, lanes: Lanes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> Any:
        raise RedisConnectionError("away")

    monkeypatch.setattr(lanes, "run", away)
    targets.use(_changed(tmp_path, targets, "initial: 3s", "initial: 4s"))
    await asyncio.sleep(0)
    await targets.close()
    await asyncio.wait(targets._waking, timeout=10)
    assert not targets._waking


async def test_the_warehouses_counts_are_told_once(targets: Targets) -> None:
    target = await targets.get("warehouse")
    assert target is not None
    warehouse = await targets.warehouse()
    warehouse.late_duplicates, warehouse.refused = 3, 1
    with target.counts.taken() as first:
        warehouse.late_duplicates = 5
    with target.counts.taken() as second, target.counts.taken() as third:
        pass
    assert [{"warehouse:late_duplicates": 3, "warehouse:refused": 1}, {"warehouse:late_duplicates": 2}, {}] == [
        first,
        second,
        third,
    ]


async def test_close_closes_what_was_started(targets: Targets) -> None:
    await targets.warehouse()
    await targets.close()
    assert Memory.closed


async def test_a_warehouse_that_nobody_serves_is_named_with_those_that_are(lanes: Lanes, tmp_path: Path) -> None:
    rules = 'version: 1\nsources: { website: { write_key: k } }\nwarehouse: { url: "memory://here" }\n'
    hooks = SimpleNamespace(register_warehouses=hookimpl(lambda: [Memory]))
    targets = _targets(rules, Plugins(hooks), lanes, tmp_path)
    targets._plugins = Plugins()
    with pytest.raises(EventRouterError, match="no warehouse back end serves memory:"):
        await targets.warehouse()


@pytest.mark.parametrize("error", [RuntimeError("a bug of the plugin"), SystemExit(3), asyncio.CancelledError()])
async def test_a_hook_that_fails_breaks_nothing(lanes: Lanes, tmp_path: Path, error: BaseException) -> None:
    def dropped(source: str, message_id: str, destination: str, reason: str) -> None:
        raise error

    hooks = SimpleNamespace(
        register_destinations=hookimpl(lambda: [Crm]),
        register_warehouses=hookimpl(lambda: [Memory]),
        event_dropped=hookimpl(dropped),
    )
    targets = _targets(RULES, Plugins(hooks), lanes, tmp_path)
    assert targets.finished is None
    at = "2026-11-24T17:00:00.000Z"
    letter = DeadLetter(
        source="website",
        message_id="m",
        destination="crm",
        route="",
        class_="permanent",
        reason="r",
        attempts=1,
        first_at=at,
        last_at=at,
    )
    targets.dropped(letter)
    await targets.close()


def test_the_warehouses_items_hold_records() -> None:
    records: list[Any] = [
        EventRecord(source="website", event={"messageId": "m", "type": "track"}),
        Identity(type="user_id", value="u", person_id="p", seq=1, seen_at=""),
    ]
    hand = records_in_hand(Item("1-1", False, "", 2, pack(records)), "warehouse")
    assert [(message.id, message.message_id, message.type) for message in hand.messages] == [
        ("1-1:0", "m", "track"),
        ("1-1:1", "", ""),
    ]
    assert [message.payload for message in hand.messages] == records


def test_a_record_that_cannot_be_read_is_stored_as_refused_beside_the_others() -> None:
    good = EventRecord(source="web", event={"messageId": "m1", "type": "track"})
    data = pack([good, good]).replace(b'"event":{', b'"person_id":5,"event":{', 1)
    hand = records_in_hand(Item("1795539600123-0", False, "", 2, data), "warehouse")
    refused, other = (message.payload for message in hand.messages)
    assert ("unreadable", good, 1) == (refused.code, other, hand.unreadable)


def test_an_event_without_an_id_stops_nothing() -> None:
    [message] = records_in_hand(
        Item("1-0", False, "", 1, pack([EventRecord(source="web", event={})])), "warehouse"
    ).messages
    assert "" == message.message_id
