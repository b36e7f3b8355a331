"""Looking on: rows of processes and outcomes in one stream, and which of them are wanted."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from eventrouter import tail as tail_module
from eventrouter.counters import read_snapshot
from eventrouter.health import Health
from eventrouter.onlookers import CHANNEL, KEY, Row, Shown
from eventrouter.outcome_log import Entry, Failed, key_of
from eventrouter.tail import Tail, Wanted

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(tail_module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(tail_module, "STATE_SECONDS", 0.0)


class Watch:
    """A tail of one shard, and what it has shown so far."""

    def __init__(self, lanes, since_ms=None):
        self.redis = lanes.redis
        self.written = 0
        self.tail = Tail(lanes.redis, 1, lambda: read_snapshot(lanes, 1, ["crm"]), since_ms)
        self.rows: list[Row] = []
        self._iterator = aiter(self.tail)

    async def until(self, number: int) -> list[Row]:
        """The rows, once there are so many."""
        while len(self.rows) < number:
            self.rows += await anext(self._iterator)
        return self.rows

    async def begin(self):
        self.rows += await anext(self._iterator)

    async def settle(self, at_ms: int, *, delivered=(), failed=(), lost=0):
        """An entry of the outcome log as the step `settle` writes it."""
        data = msgspec.msgpack.encode(Entry(1, at_ms, "crm", [("web", 1, list(delivered))], list(failed)))
        self.written += len(data) + 40 + lost
        await self.redis.xadd(key_of(0), {"d": data}, id=f"{self.written}-0")

    async def show(self, shown: int, skipped: int, *rows: Row):
        await self.redis.publish(CHANNEL, msgspec.json.encode(Shown("worker:here:7", shown, skipped, list(rows))))


async def test_rows_of_processes_and_outcomes_come_together(lanes):
    watch = Watch(lanes)
    await watch.begin()
    assert await lanes.redis.pttl(KEY) > 0
    await watch.show(1, 0, Row(1, "accepted", "web", "track", "E", "m1", event={"a": 1}))
    failed = [Failed("web", "m2", 1, "", "HTTP 503", 503), Failed("web", "m3", 2, "permanent", "HTTP 400", 400)]
    await watch.settle(2, delivered=["m1"], failed=failed)
    rows = await watch.until(4)
    assert [(row.what, row.message_id, row.destination, row.reason, row.class_) for row in rows] == [
        ("accepted", "m1", "", "", ""),
        ("delivered", "m1", "crm", "", ""),
        ("retried", "m2", "crm", "HTTP 503", ""),
        ("dead", "m3", "crm", "HTTP 400", "permanent"),
    ]
    assert (rows[0].event, watch.tail.processes) == ({"a": 1}, {"worker:here:7"})


async def test_outcomes_begin_now_or_at_the_time_that_is_given(lanes):
    now, then = Watch(lanes), Watch(lanes, since_ms=200)
    for at_ms in (100, 200, 300):
        await now.settle(at_ms, delivered=[f"m{at_ms}"])
    await now.begin()
    await now.settle(400, delivered=["m400"])
    assert [row.message_id for row in await now.until(1)] == ["m400"]
    assert [row.message_id for row in await then.until(3)] == ["m200", "m300", "m400"]


async def test_what_a_process_could_not_show_and_what_was_lost_is_counted(lanes):
    watch = Watch(lanes)
    await watch.begin()
    await watch.show(100, 50)
    await watch.show(103, 52, Row(1, "accepted"))  # of three rows two were lost
    await watch.until(1)
    assert watch.tail.skipped == 4


async def test_outcomes_that_were_gone_before_they_were_read_are_counted(lanes):
    watch = Watch(lanes)
    await watch.settle(1, delivered=["m1"])
    await watch.begin()
    await watch.settle(2, delivered=["m2"])
    await watch.until(1)
    assert watch.tail.skipped_bytes == 0
    await watch.settle(3, delivered=["m3"], lost=1000)
    await watch.until(2)
    assert watch.tail.skipped_bytes == 1000


async def test_a_destination_that_changes_its_state_is_told_once(lanes):
    watch = Watch(lanes)
    await watch.begin()
    health = Health(lanes, "crm", initial=60, max_interval=60)
    await health.failed("HTTP 503", 60)
    [row] = await watch.until(1)
    assert (row.what, row.destination, row.reason) == ("state", "crm", "backing off: HTTP 503")
    for _ in range(3):
        await watch.begin()
    await health.probe_soon()
    await health.gate()
    await health.succeeded()
    assert [row.reason for row in await watch.until(2)] == ["backing off: HTTP 503", "ok"]


async def test_it_goes_on_when_redis_is_back(lanes, monkeypatch):
    watch = Watch(lanes)
    await watch.begin()
    monkeypatch.setattr(asyncio, "sleep", lambda _, sleep=asyncio.sleep: sleep(0))
    await lanes.redis.execute_command("CLIENT", "PAUSE", "1", "ALL")
    original = watch.tail._outcomes

    async def fail():
        watch.tail._outcomes = original
        raise ConnectionError("away")

    watch.tail._outcomes = fail
    await watch.begin()
    assert watch.tail.problem == "away"
    await watch.settle(1, delivered=["m1"])
    assert [row.message_id for row in await watch.until(1)] == ["m1"]
    assert watch.tail.problem == ""


def accepted(message_id: str = "m1", what="accepted", **event) -> Row:
    return Row(1, what, "web", "track", "E", message_id, event={"messageId": message_id, **event})


def outcome(message_id: str = "m1", what="delivered", destination="crm") -> Row:
    return Row(2, what, "web", message_id=message_id, destination=destination)


def shown(wanted: Wanted, *rows: Row, now: float = 0.0) -> list[tuple[str, str]]:
    return [(row.what, row.message_id) for row in wanted.take(rows, now)]


def test_without_a_wish_all_is_shown_and_outcomes_learn_what_their_event_is():
    wanted = Wanted()
    [_, row] = wanted.take([accepted(), outcome()], 0.0)
    assert (row.type, row.name) == ("track", "E")
    assert shown(wanted, outcome("m9"), Row(3, "state", destination="crm")) == [("delivered", "m9"), ("state", "")]


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({"sources": ["app"]}, []),
        ({"sources": ["web"]}, ["accepted", "delivered"]),
        ({"destinations": ["crm"]}, ["delivered"]),
        ({"destinations": ["ads"]}, []),
        ({"whats": ["dead", "accepted"]}, ["accepted"]),
        ({"types": ["track"]}, ["accepted", "delivered"]),
        ({"types": ["page"]}, []),
        ({"names": ["E", "F"]}, ["accepted", "delivered"]),
        ({"names": ["F"]}, []),
        ({"condition": lambda one: one.event.get("total", 0) > 5}, ["accepted", "delivered"]),
        ({"condition": lambda one: one.source == "app"}, []),
    ],
)
def test_only_what_is_wanted_is_shown(wish, expected):
    assert [what for what, _ in shown(Wanted(**wish), accepted(total=9), outcome())] == expected


def test_an_outcome_that_overtakes_its_event_is_shown_after_it():
    wanted = Wanted(types=["track"])
    assert shown(wanted, outcome()) == []
    assert shown(wanted, accepted(), now=1.0) == [("accepted", "m1"), ("delivered", "m1")]


def test_an_outcome_whose_event_never_comes_is_left_out_and_counted():
    wanted = Wanted(types=["track"])
    assert shown(wanted, outcome(), now=0.0) == []
    assert shown(wanted, now=5.0) == []
    assert wanted.unknown == 1


def test_what_an_enrichment_adds_can_be_asked_for():
    wanted = Wanted(condition=lambda one: one.event.get("person_id") == "p")
    assert shown(wanted, accepted(), outcome()) == []
    assert shown(wanted, accepted(what="routed", person_id="p")) == [("routed", "m1"), ("delivered", "m1")]


def test_what_the_event_does_not_match_when_it_is_routed_is_not_held():
    wanted = Wanted(condition=lambda one: False)
    shown(wanted, accepted(), accepted(what="routed"))
    assert (shown(wanted, outcome()), wanted.unknown, len(wanted._held)) == ([], 0, 0)


def test_each_destination_that_does_not_get_an_event_has_a_row_with_the_reason():
    row = accepted(what="routed")
    row.filtered = {"ads": "consent", "crm": "no_route"}
    found = list(Wanted(whats=["filtered"]).take([row], 0.0))
    assert [(one.what, one.destination, one.reason, one.name, one.event) for one in found] == [
        ("filtered", "ads", "consent", "E", None),
        ("filtered", "crm", "no_route", "E", None),
    ]


def test_only_so_many_events_are_remembered(monkeypatch):
    monkeypatch.setattr(tail_module, "KNOWN", 2)
    wanted = Wanted(types=["track"])
    shown(wanted, *(accepted(f"m{number}") for number in range(5)))
    assert [key[1] for key in wanted._known] == ["m3", "m4"]
