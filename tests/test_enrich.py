"""The router's turn, on a real server: each event moves on once, whole, in order, or waits."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import ClassVar

import msgspec
import pytest

from enrich_kit import LOG, Router, event, everything_to
from eventrouter import enrich
from eventrouter import steps as steps_module
from eventrouter.counters import failing, read_snapshot
from eventrouter.enrichment import Enrichment
from eventrouter.errors import Retry
from eventrouter.events import lane_key
from eventrouter.lane import Append, Lane
from eventrouter.lanes import Lanes, Turn
from eventrouter.log_entry import encode_entry
from eventrouter.moves import MEMORY_SHORT
from eventrouter.records import DeadLetter, EventRecord, Identity, RejectedEvent
from lane_kit import counts, expire_lease, leftovers, shares


@pytest.fixture
def make(lanes, monkeypatch):
    monkeypatch.setattr(enrich, "LINGER_SECONDS", 0.02)
    return lambda **changes: Router(lanes, **changes)


async def test_events_move_on_to_the_warehouse_and_by_the_rules_to_destinations(make, redis):
    router = make()
    await router.accept(event(1), event(2, "other"))
    assert await router.run() is None
    assert ["m1", "m2"] == await router.ids("crm") == await router.ids("warehouse")
    [first, _] = await router.lane("crm")
    assert ("web", "track", "Order Completed", "all", "abc", b'{"of":"m1"}', False) == (
        first.source,
        first.type,
        first.name,
        first.route,
        first.rules,
        bytes(first.payload),
        first.replay,
    )
    assert {Lane(0, "crm"), Lane(0, "warehouse")} == {claim.lane for claim in router.ahead}
    assert {
        "accepted": 2,
        "log_out": 2,
        "routed": 2,
        "to:crm": 2,
        "to:warehouse": 2,
    } == await counts(redis)
    assert 0 == await redis.xlen(LOG.key)


async def test_deliveries_lie_under_the_lane_key_of_their_order_key(make, redis):
    router = make()
    await router.accept(event(1, "anna"))
    await router.run()
    [(_, fields)] = await redis.xrange(Lane(0, "crm").key)
    assert lane_key("anna").encode() == fields[b"k"]


async def test_a_repeated_event_is_dropped_and_counted_within_a_batch_and_later(make, redis):
    router = make()
    await router.accept(event(1), event(1), event(2))
    await router.run()
    await router.accept(event(2), event(3))
    await router.run()
    assert ["m1", "m2", "m3"] == await router.ids("crm") == await router.ids("warehouse")
    found = await counts(redis)
    assert (5, 3, 2) == (found["accepted"], found["routed"], found["duplicates"])


async def test_events_are_counted_by_source_and_for_each_destination_that_is_there(make, redis):
    router = make(backlogs={"crm": 1000, "off": 1000})
    await router.accept(event(1), event(1), event(2))
    await router.accept(event(1), source="app")
    await router.run()
    by_source = {"routed:web": 2, "duplicates:web": 1, "routed:app": 1}
    assert by_source | {"events:crm": 3, "events:off": 3} == await shares(redis)


async def test_the_same_id_from_another_source_is_another_event(make):
    router = make()
    await router.accept(event(1))
    await router.accept(event(1), source="app")
    await router.run()
    assert ["m1", "m1"] == await router.ids("crm")


async def test_events_of_many_requests_go_on_in_their_order(make):
    router = make()
    for number in range(30):
        await router.accept(event(3 * number), event(3 * number + 1), event(3 * number + 2))
    await router.run()
    assert [f"m{number}" for number in range(90)] == await router.ids("crm") == await router.ids("warehouse")


async def test_what_is_filtered_is_counted_with_its_reason(make, redis):
    def route(events):
        filtered = {("crm", "no_route"): 2, ("erp", "consent"): 1, ("ads", "sample"): 0}
        return SimpleNamespace(deliveries=[], failed=[], filtered=filtered)

    router = make(route=route)
    await router.accept(event(1), event(2))
    await router.run()
    found = await counts(redis)
    assert (2, 1) == (found["filtered:crm:no_route"], found["filtered:erp:consent"])
    assert "filtered:ads:sample" not in found


async def test_a_template_that_fails_makes_a_dead_letter_and_costs_no_event(make, redis):
    def route(events):
        return SimpleNamespace(deliveries=[], failed=[("crm", 0, "orders", "x is no number")], filtered={})

    router = make(route=route)
    await router.accept(event(1), event(2))
    await router.run()
    [letter] = [record for record in await router.lane("warehouse") if isinstance(record, DeadLetter)]
    assert ("m1", "crm", "orders", "template", "x is no number", 0, None) == (
        letter.message_id,
        letter.destination,
        letter.route,
        letter.class_,
        letter.reason,
        letter.attempts,
        letter.payload,
    )
    found = await counts(redis)
    assert (1, 1, 3) == (found["to:crm"], found["dead:crm:template"], found["to:warehouse"])
    assert [("web", "m1", "crm", "x is no number")] == [
        (one.source, one.message_id, one.destination, one.reason) for one in router.dropped
    ]


async def test_beyond_its_backlog_a_destinations_deliveries_are_dead_letters_and_the_others_go_on(make, redis):
    router = make(route=everything_to("crm", "erp"), backlogs={"crm": 3, "erp": 100})
    await router.accept(*(event(number) for number in range(5)))
    await router.run()
    await router.accept(event(5))
    await router.run()
    assert ["m0", "m1", "m2"] == await router.ids("crm")
    assert 6 == len(await router.ids("erp"))
    letters = [record for record in await router.lane("warehouse") if isinstance(record, DeadLetter)]
    assert [("m3", "backlog_full"), ("m4", "backlog_full"), ("m5", "backlog_full")] == [
        (letter.message_id, letter.class_) for letter in letters
    ]
    found = await counts(redis)
    assert (6, 3) == (found["to:crm"], found["dead:crm:backlog_full"])


async def test_a_backlog_smaller_than_the_number_of_shards_still_lets_one_in(make):
    router = make(backlogs={"crm": 2})
    router.shards = 4
    await router.accept(event(1), event(2))
    await router.run()
    assert ["m1"] == await router.ids("crm")


def with_memory(monkeypatch, router, **changes: int) -> None:
    """Lets the server's memory seem so, of 100,000 bytes."""
    look = router.lanes.look

    async def full(*args):
        seen, waiting, memory = await look(*args)
        return seen, waiting, memory._replace(limit=100_000, **changes)

    monkeypatch.setattr(router.lanes, "look", full)


async def test_while_memory_is_short_a_destination_with_a_backlog_gets_no_more_and_others_do(make, redis, monkeypatch):
    router = make(route=everything_to("crm", "erp"), backlogs={"crm": 1000, "erp": 1000})
    await router.lanes.append(0, [Append("crm", [("k", 2, b"x" * 3000)], "to:crm")])
    with_memory(monkeypatch, router, used=61_000)
    await router.accept(event(1))
    await router.run()
    found = await counts(redis)
    assert (1, 1) == (found["dead:crm:backlog_full"], found["to:erp"])
    letters = [record for record in await router.lane("warehouse") if isinstance(record, DeadLetter)]
    assert [("crm", MEMORY_SHORT)] == [(letter.destination, letter.reason) for letter in letters]
    assert ["m1"] == await router.ids("erp")
    with_memory(monkeypatch, router, used=50_000)
    await router.accept(event(2))
    await router.run()
    assert ["m1", "m2"] == await router.ids("erp")
    assert 1 == (await counts(redis))["dead:crm:backlog_full"]


async def test_while_memory_is_nearly_full_routing_waits_for_the_warehouse(make, redis, monkeypatch):
    router = make()
    with_memory(monkeypatch, router, used=85_000, warehouse=20_000)
    await router.accept(event(1))
    claim = await router.run()
    assert (LOG, 1.0) == (claim.lane, claim.delay)
    assert {"accepted": 1, "turn_failed:log": 1} == await counts(redis)
    monkeypatch.undo()
    router.claims = [claim]
    await router.run()
    assert ["m1"] == await router.ids("crm")


async def test_while_memory_is_short_fewer_entries_are_routed_at_once(make, redis, monkeypatch):
    router = make()
    steps, reads = [], []
    settle, read = Turn.settle, Turn.read

    async def noted(turn, removals, **more):
        steps.append(len(removals))
        return await settle(turn, removals, **more)

    async def noted_read(turn, *args, size, **more):
        reads.append(size)
        return await read(turn, *args, size=size, **more)

    monkeypatch.setattr(Turn, "settle", noted)
    monkeypatch.setattr(Turn, "read", noted_read)
    with_memory(monkeypatch, router, used=75_000)
    for number in range(10):
        await router.accept(event(number, pad="x" * 3000))
    await router.run()
    assert [f"m{number}" for number in range(10)] == await router.ids("crm") == await router.ids("warehouse")
    assert [2, 2, 2, 2, 2] == steps
    assert enrich.READ_BYTES == reads[0]
    assert all(size < 15_000 for size in reads[1:5])
    assert {"accepted": 10, "log_out": 10, "routed": 10} == {
        name: number for name, number in (await counts(redis)).items() if not name.startswith("to:")
    }


# what is in hand


@pytest.fixture
def settled(monkeypatch):
    """The bytes that each settlement appended."""
    sizes: list[int] = []
    settle = Turn.settle

    async def noted(turn, *args, appends=(), **more):
        appends = list(appends)
        sizes.append(sum(len(data) for append in appends for _, _, data in append.items))
        return await settle(turn, *args, appends=appends, **more)

    monkeypatch.setattr(Turn, "settle", noted)
    return sizes


MANY = [f"to-{number}" for number in range(10)]


def padded_to(*destinations: str):
    """As `everything_to`, with payloads as large as the events."""

    def route(events):
        routed = everything_to(*destinations)(events)
        for one in routed.deliveries:
            one.data = msgspec.Raw(msgspec.json.encode(events[one.index].event))
        return routed

    return route


async def test_a_batch_for_many_lanes_is_settled_in_parts_and_moves_on_once_and_in_order(
    make, redis, settled, monkeypatch
):
    monkeypatch.setattr(enrich, "SETTLED_BYTES", 30_000)
    router = make(route=padded_to(*MANY), backlogs=dict.fromkeys(MANY, 1000))
    stamp = Stamp()
    router.enrichments = [stamp]
    for number in range(40):
        await router.accept(event(number, pad="x" * 500), event(number, pad="again"))
    await put(router, b"nonsense")
    await router.run()
    expected = [f"m{number}" for number in range(40)]
    assert ([expected], [0]) == (stamp.got, stamp.settled_shards)
    for name in MANY:
        assert expected == await router.ids(name)
    stored = await router.lane("warehouse")
    assert expected == [one.event["messageId"] for one in stored if isinstance(one, EventRecord)]
    assert 40 == sum(isinstance(one, Identity) for one in stored)
    found = await counts(redis)
    assert (81, 81, 40, 40, 1) == tuple(
        found[one] for one in ("accepted", "log_out", "routed", "duplicates", "unreadable")
    )
    assert 5 < len(settled) < 15
    assert max(settled) < 60_000


async def test_all_of_a_batch_goes_to_few_lanes_at_once_however_many_there_are(make, settled, monkeypatch):
    monkeypatch.setattr(enrich, "SETTLED_BYTES", 100_000)
    router = make(route=padded_to("to-0"), backlogs=dict.fromkeys(MANY, 1000))
    for number in range(60):
        await router.accept(event(number, pad="x" * 500))
    await router.run()
    assert 60 == len(await router.ids("to-0"))
    assert 1 == len(settled)


async def test_one_entry_of_the_log_is_settled_at_once_however_much_comes_of_it(make, settled, monkeypatch):
    monkeypatch.setattr(enrich, "SETTLED_BYTES", 1000)
    router = make(route=everything_to(*MANY), backlogs=dict.fromkeys(MANY, 1000))
    for first in (0, 10):
        await router.accept(*(event(number) for number in range(first, first + 10)))
    await router.run()
    assert [f"m{number}" for number in range(20)] == await router.ids("to-9")
    assert 2 == len(settled)


async def test_payloads_that_are_larger_than_their_events_are_reckoned_with(make, settled, monkeypatch):
    def route(events):
        routed = everything_to("crm")(events)
        for one in routed.deliveries:
            one.data = msgspec.Raw(msgspec.json.encode({"of": "x" * 5000}))
        return routed

    monkeypatch.setattr(enrich, "SETTLED_BYTES", 30_000)
    router = make(route=route)
    for number in range(100):
        await router.accept(event(number))
    await router.run()
    assert max(settled[1:]) < 60_000


async def test_less_is_read_where_an_event_goes_to_many_lanes(make, monkeypatch):
    monkeypatch.setattr(enrich, "ROUTED_BYTES", 60_000)
    reads: list[int] = []
    read = Turn.read

    async def noted(turn, *args, size, **more):
        reads.append(size)
        return await read(turn, *args, size=size, **more)

    monkeypatch.setattr(Turn, "read", noted)
    router = make(route=padded_to("to-0"), backlogs=dict.fromkeys(MANY, 1000))
    for number in range(60):
        await router.accept(event(number, pad="x" * 500))
    await router.run()
    assert 60_000 // 11 == reads[0]  # nothing is known yet
    assert 60_000 / 3 < reads[1] < 60_000 / 2


async def test_a_turn_has_nothing_in_hand_before_it_has_a_place(make):
    router = make()
    await router.accept(event(1))
    async with router.places:
        turn = asyncio.create_task(router.run())
        await asyncio.sleep(0.05)
        assert [] == await router.ids("crm")
    await turn
    assert ["m1"] == await router.ids("crm")


async def test_many_shards_take_turns_at_the_places_and_all_of_them_get_on(make):
    at_work, most = 0, 0

    class Slow(Stamp):
        async def enrich(self, shard, events):
            nonlocal at_work, most
            at_work += 1
            most = max(most, at_work)
            await asyncio.sleep(0.01)
            at_work -= 1
            return []

    routers = [make(shard=shard) for shard in range(16)]
    for router in routers:
        router.places, router.enrichments = routers[0].places, [Slow()]
        await router.accept(event(1))
    await asyncio.gather(*(router.run() for router in routers))
    assert [["m1"]] * 16 == [await router.ids("crm") for router in routers]
    assert 1 == most


async def test_a_turn_that_waits_for_events_has_no_place(make, monkeypatch):
    monkeypatch.setattr(enrich, "LINGER_SECONDS", 5.0)
    router = make()
    await router.accept(event(1))
    turn = asyncio.create_task(router.run())
    async with asyncio.timeout(3):
        while not await router.ids("crm"):
            await asyncio.sleep(0.01)
        async with router.places:
            await router.accept(event(2))
            await asyncio.sleep(0.05)
            assert ["m1"] == await router.ids("crm")
        while len(await router.ids("crm")) < 2:
            await asyncio.sleep(0.01)
    router.stopping.set()
    turn.cancel()
    await asyncio.gather(turn, return_exceptions=True)


async def test_a_turn_lets_others_in_sooner_while_turns_wait_for_a_place(make, monkeypatch):
    monkeypatch.setattr(enrich, "SHARED_SECONDS", 0.0)
    router = make()
    await router.accept(event(1))
    async with router.places:
        claim = await router.run()
    assert LOG == claim.lane


async def test_a_turn_that_waits_for_a_place_when_the_worker_stops_hands_its_lane_over(make):
    router = make()
    await router.accept(event(1))
    async with router.places:
        turn = asyncio.create_task(router.run())
        await asyncio.sleep(0.05)
        router.stopping.set()
    claim = await turn
    assert LOG == claim.lane
    assert [] == await router.ids("crm")


async def test_the_dedup_limit_is_shared_by_the_shards(make, redis):
    router = make(dedup_bytes=54 * 40)
    router.shards = 4
    for number in range(30):
        await router.accept(event(number))
        await router.run()
    remembered = sum([await redis.scard(key) for key in await redis.keys("er:{0}:seen:*")])
    assert 7 <= remembered <= 10


# enrichments


class Stamp(Enrichment):
    """Adds a person, and a record for each event."""

    name = "stamp"
    required: ClassVar[bool] = True

    def __init__(self, fails: list[BaseException] | None = None, *, required: bool = True) -> None:
        super().__init__(self.Options())
        self.fails = fails or []
        self.required = required  # type: ignore[misc]
        self.settled_shards: list[int] = []
        self.got: list[list[str]] = []

    async def enrich(self, shard, events):
        self.got.append([one.message_id for one in events])
        if self.fails:
            raise self.fails.pop(0)
        for one in events:
            one.event["person_id"] = "p1"
        return [
            Identity(type="anonymous_id", value=one.event["anonymousId"], person_id="p1", seq=1, seen_at="now")
            for one in events
        ]

    async def settled(self, shard):
        self.settled_shards.append(shard)


async def test_what_enrichments_add_is_routed_and_stored(make):
    seen = []
    router = make(route=lambda events: seen.extend(dict(one.event) for one in events) or everything_to()(events))
    stamp = Stamp()
    router.enrichments = [stamp]
    await router.accept(event(1), event(1))
    await router.run()
    assert ["p1"] == [one["person_id"] for one in seen]
    records = await router.lane("warehouse")
    assert [("p1", "abc")] == [(one.person_id, one.rules) for one in records if isinstance(one, EventRecord)]
    assert 1 == sum(isinstance(one, Identity) for one in records)
    assert ([["m1"]], [0]) == (stamp.got, stamp.settled_shards)


async def test_records_that_a_failover_could_lose_are_not_settled(make, redis, monkeypatch):
    monkeypatch.setattr(steps_module, "WAIT_SECONDS", 0.01)
    router = make()
    await router.accept(event(1))
    router.lanes = Lanes(redis, replicas=1)
    stamp = Stamp()
    router.enrichments = [stamp]
    await router.run()
    assert ([["m1"]], []) == (stamp.got, stamp.settled_shards)
    assert 2 == len(await router.lane("warehouse"))


async def test_a_person_that_is_no_text_is_not_stored_as_one(make):
    class Number(Stamp):
        async def enrich(self, shard, events):
            for one in events:
                one.event["person_id"] = 5
            return []

    router = make()
    router.enrichments = [Number()]
    await router.accept(event(1))
    await router.run()
    [stored] = await router.lane("warehouse")
    assert (None, 5) == (stored.person_id, stored.event["person_id"])


@pytest.mark.parametrize(
    ("error", "delay"), [(Retry("away", after=7), 7.0), (Retry("away"), 1.0), (ZeroDivisionError(), 5.0)]
)
async def test_while_a_required_enrichment_fails_routing_waits_and_nothing_moves(make, redis, error, delay):
    router = make()
    router.enrichments = [Stamp([error])]
    await router.accept(event(1))
    claim = await router.run()
    assert (LOG, delay) == (claim.lane, claim.delay)
    assert {"accepted": 1, "turn_failed:log": 1} == await counts(redis)
    router.claims = [claim]
    await router.run()
    assert ["m1"] == await router.ids("crm")


@pytest.mark.parametrize("error", [Retry("away"), ZeroDivisionError()])
async def test_without_an_enrichment_that_is_not_required_events_go_on_and_that_is_counted(make, redis, error):
    router = make()
    router.enrichments = [Stamp([error], required=False)]
    await router.accept(event(1))
    assert await router.run() is None
    assert ["m1"] == await router.ids("crm")
    found = await counts(redis)
    assert (1, 1) == (found["enrichment_failed:stamp"], found["routed"])


# turns


async def test_a_lingering_turn_routes_what_comes(make):
    router = make()
    await router.accept(event(1))
    turn = asyncio.create_task(router.run())
    await asyncio.sleep(0.02)
    await router.accept(event(2))
    await turn
    assert ["m1", "m2"] == await router.ids("crm")


async def test_a_turn_lets_others_in_after_its_time_and_stops_when_told(make, monkeypatch):
    monkeypatch.setattr(enrich, "TURN_SECONDS", 0.0)
    router = make()
    await router.accept(event(1))
    router.claims = [await router.run()]
    assert [] == await router.ids("crm")
    monkeypatch.undo()
    router.stopping.set()
    claim = await router.run()
    assert await router.lanes.begin(LOG, claim.token) is not None


async def test_a_turn_that_was_taken_over_moves_nothing(make, redis):
    gate = asyncio.Event()

    class Slow(Stamp):
        async def enrich(self, shard, events):
            await gate.wait()
            return []

    router = make()
    slow = Slow()
    router.enrichments = [slow]
    await router.accept(event(1))
    turn = asyncio.create_task(router.run())
    await asyncio.sleep(0.05)
    await expire_lease(redis, LOG)
    router.claims, _ = await router.lanes.sweep(0)
    gate.set()
    await asyncio.sleep(0.05)
    router.claims = [claim for claim in router.claims if claim.lane == LOG]
    await router.run()
    assert await turn is None
    assert ["m1"] == await router.ids("crm")
    assert 1 == (await counts(redis))["routed"]


async def put(router, data, units=1):
    router.claims += await router.lanes.append(0, [Append("log", [("", units, data)], "accepted")])


async def test_an_entry_that_nobody_can_read_is_set_aside_and_what_follows_goes_on(make, redis):
    router = make()
    await put(router, b"nonsense", 3)
    await router.accept(event(1))
    assert await router.run() is None
    assert ["m1"] == await router.ids("crm")
    [refused] = [record for record in await router.lane("warehouse") if isinstance(record, RejectedEvent)]
    assert ("unreadable", "nonsense") == (refused.code, refused.payload)
    found = Counter(await counts(redis))
    assert (4, 4, 3, 1) == (found["accepted"], found["log_out"], found["unreadable"], found["routed"])


async def test_a_log_with_nothing_but_nonsense_is_emptied(make, redis):
    router = make()
    await put(router, b"\xff")
    assert await router.run() is None
    assert 0 == await redis.xlen(LOG.key)
    assert ["base64:/w=="] == [record.payload for record in await router.lane("warehouse")]


async def test_an_event_that_nobody_can_read_costs_no_other_of_its_entry(make, redis):
    router = make()
    good = [msgspec.json.encode(["web", event(number)]) for number in (1, 2)]
    await put(router, encode_entry([good[0], b'["web",{"messageId":"torn"}]', good[1]]), 3)
    await router.run()
    assert ["m1", "m2"] == await router.ids("crm")
    [refused] = [record for record in await router.lane("warehouse") if isinstance(record, RejectedEvent)]
    assert ("web", '["web",{"messageId":"torn"}]') == (refused.source, refused.payload)
    found = Counter(await counts(redis))
    assert (3, 1, 2) == (found["accepted"], found["unreadable"], found["routed"])
    assert {"routed:web": 2, "unreadable:web": 1, "events:crm": 2} == await shares(redis)


async def test_of_an_entry_that_nobody_can_read_its_lines_tell_the_sources(make, redis):
    router = make()
    events = [msgspec.json.encode([source, event(number)]) for number, source in enumerate(["web", "app", "web"])]
    await put(router, encode_entry(events).replace(b'"events"', b'"evens"'), 3)
    await put(router, b"nonsense", 2)
    await router.run()
    assert [] == await router.ids("crm")
    assert 5 == (await counts(redis))["unreadable"]
    assert {"unreadable:web": 2, "unreadable:app": 1} == await shares(redis)


async def test_an_entry_for_a_newer_version_waits_behind_what_came_before_it_and_says_so(make, lanes):
    router = make()
    await router.accept(event(1))
    await put(router, b'{"v":9,"events":[]}')
    await router.accept(event(2))
    claim = await router.run()
    assert 30.0 == claim.delay
    assert ["m1"] == await router.ids("crm")
    state = failing(await read_snapshot(lanes, 1, ["crm"]), "log")
    assert ("failing", 1) == (state["state"], state["turns_failed"])
    assert "an entry of the log of format 9: this version reads 0 to 2" == state["reason"]


async def test_while_routing_waits_status_says_why(make, lanes):
    router = make()
    router.enrichments = [Stamp([Retry("the state is away")])]
    await router.accept(event(1))
    await router.run()
    assert "the state is away" == failing(await read_snapshot(lanes, 1, ["crm"]), "log")["reason"]


async def test_nothing_is_left_when_all_is_routed_and_the_counters_add_up(make, redis):
    router = make()
    await router.accept(*(event(number % 7) for number in range(20)))
    await router.run()
    found = Counter(await counts(redis))
    assert found["accepted"] == found["log_out"] == found["routed"] + found["duplicates"]
    assert {"crm", "warehouse"} == {key.split(":")[3] for key in await leftovers(redis) if ":lane:" in key}


async def test_who_looks_on_is_shown_what_was_routed_and_what_came_again(make):
    router = make()
    shown: list[tuple[str, ...]] = []
    router.onlookers.routed = lambda came, kept, route: shown.append((*ids(came), "kept", *ids(kept)))

    def ids(events):
        return [one.message_id for one in events]

    await router.accept(event(1))
    await router.run()
    assert shown == []
    router.onlookers.present = True
    await router.accept(event(1), event(2))
    await router.run()
    assert shown == [("m1", "m2", "kept", "m2")]
