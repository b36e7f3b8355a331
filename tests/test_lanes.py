"""Each step of a lane's turn against a real server: what it does, what it refuses, and what it must never lose."""

from __future__ import annotations

import asyncio
from importlib import resources

import pytest
from redis.exceptions import NoScriptError

from eventrouter import steps as steps_module
from eventrouter.errors import UnavailableError
from eventrouter.events import event_digest
from eventrouter.lane import (
    LEASE_MS,
    SHORT_LEASE_MS,
    Append,
    Claim,
    FencedError,
    Item,
    Lane,
    Memory,
    Park,
    Removal,
    Seen,
)
from eventrouter.lanes import STEPS, Lanes, source
from lane_kit import CRM, append, begin, counts, expire_lease, leftovers, make_due, take, texts

MINUTE = 60_000


def removal(item: Item, count: str = "delivered:crm") -> Removal:
    return Removal(item, count)


async def settle_all(turn) -> list[str]:
    """Delivers what the lane has, as a turn without failures would, until the claim is given back."""
    done = []
    while True:
        batch = await turn.read(give_back=True)
        if batch.status == "idle":
            return done
        done += texts(batch.items)
        await turn.settle([removal(item) for item in batch.items])


def test_there_is_one_script_for_each_step():
    files = {path.name for path in (resources.files("eventrouter") / "lua").iterdir()}
    assert {"prelude.lua", *(f"{step}.lua" for step in STEPS)} == files


def test_only_what_brings_something_new_asks_for_memory():
    assert {"append", "once"} == {step for step in STEPS if "allow-oom" not in source(step).splitlines()[0]}


# append


async def test_an_append_to_an_idle_lane_claims_it_and_the_next_one_does_not(lanes):
    [claim] = await lanes.append(0, [append(("k", "one"))])
    assert CRM == claim.lane
    assert [] == await lanes.append(0, [append(("k", "two"))])
    assert ["one", "two"] == await settle_all(await take(lanes, claim))


async def test_one_append_keeps_items_in_several_lanes_and_counts_each(lanes, redis):
    claims = await lanes.append(
        0,
        [append(("k", "one"), ("l", "two")), Append("log", [("", 5, b"entry")], "accepted")],
        {"rejected:web:bad": 2},
    )
    assert [CRM, Lane(0, "log")] == [claim.lane for claim in claims]
    assert {"to:crm": 2, "accepted": 5, "rejected:web:bad": 2} == await counts(redis)
    assert [5, 2] == (await lanes.look(0, [], ["log", "crm"]))[1]


async def test_an_append_without_items_claims_nothing(lanes, redis):
    assert [] == await lanes.append(0, [Append("crm", [])], {"rejected:web:bad": 1})
    assert {"rejected:web:bad": 1} == await counts(redis)
    assert {} == await leftovers(redis)


async def test_shards_are_written_in_one_round_trip_and_claimed_apart(lanes):
    work = {shard: ([append(("k", f"item {shard}"))], {}) for shard in range(3)}
    results = await lanes.append_all(work)
    assert [[Lane(shard, "crm")] for shard in range(3)] == [
        [claim.lane for claim in results[shard]] for shard in range(3)
    ]


async def test_a_server_that_forgot_the_scripts_is_taught_them_anew(lanes, redis):
    await lanes.append(0, [append(("k", "one"))])
    await redis.script_flush()
    await lanes.append(0, [append(("k", "two"))])
    await redis.script_flush()
    claims, _ = await lanes.sweep(0, everything=True)
    assert ["one", "two"] == await settle_all(await take(lanes, claims[0]))


async def test_text_of_any_kind_survives_a_lane(lanes):
    data = bytes(range(256)) * 300
    [claim] = await lanes.append(0, [Append("crm", [("k", 1, data), ("k", 1, b"")])])
    batch = await (await take(lanes, claim)).read()
    assert [data, b""] == [item.data for item in batch.items]


async def test_append_refuses_at_the_memory_budget_and_the_steps_that_drain_go_on(lanes, redis):
    turn = await begin(lanes, *(("k", f"{number:05}" + "x" * 10_000) for number in range(300)))
    used = (await redis.info("memory"))["used_memory"]
    await redis.config_set("maxmemory", int(used / 0.74))
    try:
        await lanes.append(0, [append(("k", "still room"))])
        await redis.config_set("maxmemory", int(used / 0.85))
        with pytest.raises(UnavailableError) as full:
            await lanes.append(0, [append(("k", "no room"))])
        assert full.value.retry_after is not None
        assert "full" in str(full.value)
        assert "maxmemory" in full.value.hint
        await redis.config_set("maxmemory", int(used * 0.9))  # beyond the limit itself
        with pytest.raises(UnavailableError):
            await lanes.append(0, [append(("k", "no room"))])
        batch = await turn.read(units=10)
        await turn.renew()
        await turn.pin("batch", batch.items)
        claims, _ = await turn.settle(
            [removal(item) for item in batch.items],
            [Park("l", 1000, [])],
            {"batch": []},
            appends=[Append("warehouse", [("", 1, b"record")], "to:warehouse")],
            seen=Seen([b"digest"], MINUTE, 100),
        )
        assert [Lane(0, "warehouse")] == [claim.lane for claim in claims]
        claim = await turn.give_up()
        assert 291 == len(await settle_all(await take(lanes, claim)))
        await lanes.append(0, [append(("k", "room again"))])
    finally:
        await redis.config_set("maxmemory", 256 * 1024 * 1024)
    assert {"to:crm": 302, "delivered:crm": 301, "to:warehouse": 1} == await counts(redis)


async def test_the_router_is_told_how_full_the_memory_is_and_what_the_lanes_have_of_it(lanes, redis):
    await lanes.append(
        0, [Append("log", [("", 1, b"x" * 2_000_000)]), Append("warehouse", [("", 1, b"x" * 1_000_000)])]
    )
    await lanes.append(0, [append(("k", "x" * 500_000), ("l", "x" * 7))])
    used = (await redis.info("memory"))["used_memory"]
    _, _, memory = await lanes.look(0, [], ["crm", "erp"])
    assert used == pytest.approx(memory.used, rel=0.05)
    assert Memory(memory.used, 256 * 1024 * 1024, 2_000_000, 1_000_000, (500_007, 0)) == memory
    _, _, memory = await lanes.look(1, [], [])
    assert (0, 0, ()) == memory[2:]


async def test_the_bytes_of_a_lane_follow_what_comes_is_parked_and_goes(lanes, redis):
    async def there():
        return (await lanes.look(0, [], ["crm"]))[2].ahead[0]

    turn = await begin(lanes, ("k", "12345"), ("l", "123"), ("m", "1"))
    five, three, one = (await turn.read()).items
    assert 9 == await there()
    await turn.settle([Removal(three, "delivered:crm")], [Park("k", 0, [five])])
    assert 6 == await there()
    await turn.settle([Removal(three, "delivered:crm")])  # it is gone
    assert 6 == await there()
    [parked] = (await turn.read(one.id)).items
    await turn.settle([Removal(parked, "delivered:crm")])
    assert 1 == await there()
    await turn.settle([Removal(one, "delivered:crm")])
    assert not await redis.hexists(f"{CRM.key}:turn", "bytes")


async def test_without_a_limit_of_the_server_nothing_is_refused(lanes, redis):
    await redis.config_set("maxmemory", 0)
    try:
        assert 1 == len(await lanes.append(0, [append(("k", "one"))]))
        assert 0 == (await lanes.look(0, [], []))[2].limit
    finally:
        await redis.config_set("maxmemory", 256 * 1024 * 1024)


async def test_a_full_shard_does_not_hide_the_claims_of_the_others(lanes, redis):
    work = {0: ([append(("k", "one"))], {}), 1: ([append(("k", "two"))], {})}
    await redis.set(CRM.key, "not a stream")
    results = await lanes.append_all(work)
    assert isinstance(results[0], Exception)
    assert [Lane(1, "crm")] == [claim.lane for claim in results[1]]


# begin


async def test_only_the_present_token_begins_a_turn_and_only_once(lanes):
    [claim] = await lanes.append(0, [append(("k", "one"))])
    assert await lanes.begin(CRM, "a stranger's") is None
    assert await lanes.begin(CRM, claim.token) is not None
    assert await lanes.begin(CRM, claim.token) is None  # a second copy of the same job


async def test_a_lane_that_nobody_claimed_can_not_be_begun(lanes):
    assert await lanes.begin(CRM, "") is None
    assert await lanes.begin(CRM, "token") is None


# read


async def test_reading_goes_on_after_a_cursor_and_stops_at_the_bounds(lanes):
    turn = await begin(lanes, *(("k", str(number)) for number in range(250)))
    first = await turn.read(units=3)
    assert ["0", "1", "2"] == texts(first.items)
    second = await turn.read(first.items[-1].id, units=120)
    assert [str(number) for number in range(3, 123)] == texts(second.items)
    assert ["0", "1"] == texts((await turn.read(size=2)).items)


async def test_units_count_what_the_items_hold(lanes):
    [claim] = await lanes.append(0, [Append("log", [("", 60, b"a"), ("", 60, b"b"), ("", 60, b"c")])])
    turn = await take(lanes, claim)
    assert ["a", "b"] == texts((await turn.read(units=100)).items)


async def test_an_empty_lane_gives_the_claim_back_only_when_asked(lanes, redis):
    turn = await begin(lanes, ("k", "one"))
    [item] = (await turn.read()).items
    await turn.settle([removal(item)])
    empty = await turn.read()
    assert ("empty", []) == (empty.status, empty.items)
    assert [] == await lanes.append(0, [append(("k", "two"))])  # still claimed
    assert "items" == (await turn.read(give_back=True)).status
    await turn.settle([removal(item) for item in (await turn.read()).items])
    assert "idle" == (await turn.read(give_back=True)).status
    assert {} == await leftovers(redis)
    assert 1 == len(await lanes.append(0, [append(("k", "three"))]))


async def test_the_id_of_an_empty_lane_is_where_new_items_come_after(lanes):
    turn = await begin(lanes, ("k", "one"))
    [item] = (await turn.read()).items
    await turn.settle([removal(item)])
    empty = await turn.read()
    assert item.id == empty.last_id
    assert not await turn.wait(empty.last_id, 0.02)
    await lanes.append(0, [append(("k", "two"))])
    assert await turn.wait(empty.last_id, 0.02)
    assert ["two"] == texts((await turn.read(empty.last_id)).items)


async def test_a_lane_that_never_had_items_can_be_waited_at(lanes):
    [claim] = await lanes.append(0, [append(("k", "one"))])
    await lanes.redis.delete(CRM.key)
    turn = await take(lanes, claim)
    empty = await turn.read()
    assert "0-0" == empty.last_id
    assert not await turn.wait(empty.last_id, 0.01)


async def test_a_wait_ends_when_an_item_comes(lanes):
    turn = await begin(lanes, ("k", "one"))
    last = (await turn.read()).items[-1].id
    waiting = asyncio.create_task(turn.wait(last, 10))
    await asyncio.sleep(0.05)
    await lanes.append(0, [append(("k", "two"))])
    assert await asyncio.wait_for(waiting, 2)


# fencing


async def test_a_turn_that_was_taken_over_can_do_nothing_more(lanes, redis):
    turn = await begin(lanes, ("k", "one"), ("l", "two"))
    items = (await turn.read()).items
    await expire_lease(redis, CRM)
    [claim], _ = await lanes.sweep(0)
    other = await take(lanes, claim)
    for step in (
        turn.read(),
        turn.read(give_back=True),
        turn.renew(),
        turn.settle([removal(items[0])], [Park("l", 0, [items[1]])], appends=[append(("k", "more"))]),
        turn.pin("batch", items),
        turn.give_up(),
    ):
        with pytest.raises(FencedError, match="lane crm in shard 0"):
            await step
    assert ["one", "two"] == texts((await other.read()).items)
    assert {"to:crm": 2} == await counts(redis)
    assert {} == (await take(lanes, await other.give_up())).pins


async def test_a_turn_that_gave_its_lane_up_can_do_nothing_more(lanes):
    turn = await begin(lanes, ("k", "one"))
    claim = await turn.give_up(2.5)
    assert (CRM, 2.5) == (claim.lane, claim.delay)
    with pytest.raises(FencedError):
        await turn.read()
    assert await lanes.begin(CRM, claim.token) is not None


# settle


async def test_what_is_settled_is_counted_once_and_by_what_was_really_there(lanes, redis):
    turn = await begin(lanes, ("k", "one"), ("l", "two"))
    one, two = (await turn.read()).items
    await turn.settle([removal(one)])
    await turn.settle([removal(one), removal(two), removal(two), removal(two, "dead:crm:permanent")])
    assert {"to:crm": 2, "delivered:crm": 2} == await counts(redis)
    assert [0] == (await lanes.look(0, [], ["crm"]))[1]


async def test_items_of_several_units_parked_or_not_are_counted_by_their_units(lanes, redis):
    turn = await begin(lanes, ("", "a"), ("k", "b"), ("k", "c"))
    a, b, c = (await turn.read()).items
    await turn.settle(parks=[Park("k", 0, [b])])
    parked, moved = (await turn.read(c.id)).items[:1], c
    await turn.settle([removal(a), *(removal(one, "dead:crm:permanent") for one in parked), removal(moved)])
    assert {"to:crm": 3, "delivered:crm": 2, "dead:crm:permanent": 1} == await counts(redis)
    assert [0] == (await lanes.look(0, [], ["crm"]))[1]


async def test_settling_moves_items_on_to_other_lanes_in_the_same_step(lanes, redis):
    turn = await begin(lanes, ("", "entry"), lane=Lane(2, "log"))
    [entry] = (await turn.read()).items
    claims, parked = await turn.settle(
        [removal(entry, "log_out")],
        appends=[append(("k", "delivery")), Append("warehouse", [("", 3, b"records")], "to:warehouse")],
        counts={"routed": 1, "filtered:crm:no_route": 0},
        seen=Seen([b"digest"], MINUTE, 100),
    )
    assert [Lane(2, "crm"), Lane(2, "warehouse")] == [claim.lane for claim in claims]
    assert 0 == parked
    assert {"to:log": 1, "log_out": 1, "to:crm": 1, "to:warehouse": 3, "routed": 1} == await counts(redis, 2)
    seen, waiting, _ = await lanes.look(2, [b"digest", b"other"], ["crm", "warehouse"])
    assert ([True, False], [1, 3]) == (seen, waiting)


async def test_an_unknown_script_error_is_not_hidden(lanes):
    with pytest.raises(KeyError):
        await lanes.run("nonsense", [], [])
    assert issubclass(NoScriptError, Exception)


# parking


async def park(turn, key: str, items: list[Item], delay_ms: int = MINUTE) -> None:
    await turn.settle(parks=[Park(key, delay_ms, items)])


async def test_a_parked_key_waits_with_all_that_follows_and_no_other_key_does(lanes, redis):
    turn = await begin(lanes, ("k", "k1"), ("l", "l1"), ("k", "k2"), ("k", "k3"))
    items = (await turn.read(units=3)).items
    await park(turn, "k", [items[0], items[2]])
    await lanes.append(0, [append(("l", "l2"), ("k", "k4"))])
    assert ["l1", "l2"] == texts((await turn.read()).items)
    await make_due(redis, CRM, "k")
    assert ["k1", "k2", "k3", "k4", "l1", "l2"] == texts((await turn.read()).items)


async def test_what_was_noted_of_each_item_comes_back_with_it(lanes, redis):
    turn = await begin(lanes, ("k", "k1"), ("k", "k2"), ("k", "k3"))
    items = (await turn.read()).items
    items[0].tries, items[2].tries = b'{"attempts":3}', b'{"attempts":1}'
    await park(turn, "k", items)
    await make_due(redis, CRM, "k")
    items = (await turn.read()).items
    assert [(True, b'{"attempts":3}'), (True, b""), (True, b'{"attempts":1}')] == [
        (item.parked, item.tries) for item in items
    ]
    await turn.settle([removal(item) for item in items])
    assert "idle" == (await turn.read(give_back=True)).status
    assert {} == await leftovers(redis)


async def test_a_key_whose_parked_items_are_settled_is_parked_no_more(lanes, redis):
    turn = await begin(lanes, ("k", "k1"))
    await park(turn, "k", (await turn.read()).items)
    await make_due(redis, CRM, "k")
    await turn.settle([removal(item) for item in (await turn.read()).items])
    await lanes.append(0, [append(("k", "k2"))])
    [item] = (await turn.read()).items
    assert ("k2", False) == (item.data.decode(), item.parked)


async def test_the_rest_of_a_parked_key_is_due_as_soon_as_a_turn_has_nothing_of_it_in_hand(lanes, redis):
    turn = await begin(lanes, ("k", "k1"), ("k", "k2"))
    await park(turn, "k", (await turn.read()).items)
    await make_due(redis, CRM, "k")
    first, _ = (await turn.read()).items
    assert [] == (await turn.read()).items  # taken
    await turn.settle([removal(first)])
    assert [] == (await turn.read()).items  # the second is still in hand
    await turn.settle(due=["k"])
    assert ["k2"] == texts((await turn.read()).items)


async def test_a_key_that_is_not_parked_does_not_become_so_by_being_due(lanes, redis):
    turn = await begin(lanes, ("k", "k1"))
    await turn.settle(due=["k", "stranger"])
    assert not await redis.exists(f"{CRM.key}:parked")


async def test_a_parked_key_is_not_read_anew_for_each_item_that_is_settled(lanes, redis):
    turn = await begin(lanes, *(("k", str(number)) for number in range(200)))
    await park(turn, "k", (await turn.read()).items)
    await make_due(redis, CRM, "k")
    items = (await turn.read(per_key=200)).items
    for item in items[:100]:
        await turn.settle([removal(item)])
        assert [] == (await turn.read(per_key=200)).items


async def test_a_failure_of_a_due_key_parks_it_again_and_leaves_its_items_where_they_are(lanes, redis):
    turn = await begin(lanes, ("k", "k1"), ("k", "k2"))
    await park(turn, "k", (await turn.read()).items)
    await make_due(redis, CRM, "k")
    items = (await turn.read()).items
    items[1].tries = b"2"
    await park(turn, "k", items)
    batch = await turn.read()
    assert [] == batch.items
    assert MINUTE - 5000 < batch.next_due_ms - batch.now_ms <= MINUTE
    await make_due(redis, CRM, "k")
    items = (await turn.read()).items
    assert (["k1", "k2"], [b"", b"2"]) == (texts(items), [item.tries for item in items])


@pytest.mark.parametrize("dies", [False, True])
async def test_parked_keys_that_a_turn_took_are_due_for_the_next_one_and_no_others(lanes, redis, dies):
    turn = await begin(lanes, ("k", "k1"), ("l", "l1"), ("m", "m1"))
    k1, l1, m1 = (await turn.read()).items
    await turn.settle(parks=[Park("k", 0, [k1]), Park("l", 0, [l1]), Park("m", 1000, [m1])])
    k1, l1 = (await turn.read()).items
    await turn.settle(parks=[Park("l", MINUTE, [l1])])
    if dies:
        [claim], _ = await lanes.sweep(0, everything=True)
    else:
        claim = await turn.give_up()
    turn = await take(lanes, claim)
    assert ["k1"] == texts((await turn.read()).items)
    assert [] == (await turn.read()).items


async def test_an_idle_lane_with_parked_keys_is_woken_when_they_are_due(lanes, redis):
    turn = await begin(lanes, ("k", "k1"))
    await park(turn, "k", (await turn.read()).items)
    assert "idle" == (await turn.read(give_back=True)).status
    claims, soonest = await lanes.sweep(0)
    assert [] == claims
    assert 55 < soonest <= 60
    await make_due(redis, CRM, "k")
    [claim], _ = await lanes.sweep(0)
    assert ["k1"] == await settle_all(await take(lanes, claim))
    assert {} == await leftovers(redis)


async def test_an_append_wakes_a_lane_with_parked_keys_at_once(lanes, redis):
    turn = await begin(lanes, ("k", "k1"))
    await park(turn, "k", (await turn.read()).items)
    assert "idle" == (await turn.read(give_back=True)).status
    [claim] = await lanes.append(0, [append(("l", "l1"))])
    turn = await take(lanes, claim)
    assert ["l1"] == texts((await turn.read()).items)
    assert 0 == await redis.zcard("er:{0}:due")


async def test_the_number_of_parked_keys_is_told(lanes):
    turn = await begin(lanes, ("k", "k1"), ("l", "l1"))
    k1, l1 = (await turn.read()).items
    assert 2 == (await turn.settle(parks=[Park("k", 0, [k1]), Park("l", 0, [l1])]))[1]


async def test_parking_a_key_without_items_leaves_nothing_behind(lanes, redis):
    turn = await begin(lanes, ("k", "k1"))
    [item] = (await turn.read()).items
    item.tries = b"tries"
    await turn.settle([removal(item)], [Park("k", MINUTE, [item])])
    assert "idle" == (await turn.read(give_back=True)).status
    assert {} == await leftovers(redis)


async def test_a_long_backlog_of_a_parked_key_does_not_hide_the_others(lanes):
    turn = await begin(lanes, ("k", "first"))
    await park(turn, "k", (await turn.read()).items)
    await lanes.append(0, [append(*(("k", str(number)) for number in range(30_000)))])
    await lanes.append(0, [append(("l", "other"))])
    assert [] == (await turn.read()).items  # one step doesn't take for ever
    assert ["other"] == texts((await turn.read()).items)


async def test_a_due_key_gives_no_more_than_asked_for_at_once(lanes, redis):
    turn = await begin(lanes, *(("k", str(number)) for number in range(20)))
    await park(turn, "k", (await turn.read()).items)
    await make_due(redis, CRM, "k")
    assert [str(number) for number in range(7)] == texts((await turn.read(per_key=7)).items)


# pins


async def test_a_pinned_batch_is_handed_to_the_next_turn_until_it_is_unpinned(lanes, redis):
    turn = await begin(lanes, ("k", "k1"), ("l", "l1"), ("m", "m1"))
    items = (await turn.read()).items
    await turn.pin("batch", items[:2])
    turn = await take(lanes, await turn.give_up())
    assert {"batch": [[item.id for item in items[:2]]]} == turn.pins
    assert ["k1", "l1"] == texts(await turn.fetch(turn.pins["batch"][0]))
    await turn.settle([removal(item) for item in items], pins={"batch": []})
    assert {} == turn.pins
    assert {} == (await take(lanes, await turn.give_up())).pins


async def test_what_is_left_of_a_pinned_batch_is_pinned_in_its_parts(lanes, redis):
    turn = await begin(lanes, ("k", "k1"), ("l", "l1"), ("m", "m1"))
    k, l1, m = (await turn.read()).items
    await turn.pin("batch", [k, l1, m])
    left = {"batch": [[l1.id], [m.id]]}
    await turn.settle([removal(k)], pins=left)
    assert left == turn.pins
    turn = await take(lanes, await turn.give_up())
    assert left == turn.pins
    await turn.settle([removal(l1), removal(m)], pins={"batch": []})
    assert [] == await turn.fetch([item.id for item in (k, l1, m)])
    assert "idle" == (await turn.read(give_back=True)).status
    assert {} == await leftovers(redis)


async def test_what_is_noted_of_an_item_goes_with_it_wherever_it_is_until_it_is_settled(lanes, redis):
    turn = await begin(lanes, ("k", "k1"), ("l", "l1"))
    items = (await turn.read()).items
    for item in items:
        item.tries = b"noted " + item.data
    await turn.settle(notes=items)
    turn = await take(lanes, await turn.give_up())
    assert [b"noted k1", b"noted l1"] == [item.tries for item in (await turn.read()).items]
    assert [b"noted k1"] == [item.tries for item in await turn.fetch([items[0].id])]
    await turn.settle(parks=[Park("k", 0, items[:1])])
    assert [(True, b"noted k1")] == [(item.parked, item.tries) for item in (await turn.read(items[1].id)).items]
    items[0].parked = True
    await turn.settle([removal(item) for item in items])
    assert "idle" == (await turn.read(give_back=True)).status
    assert {} == await leftovers(redis)


# sweep


async def test_a_turn_that_died_is_replaced_under_a_new_token_and_its_job_named(lanes, redis):
    [claim] = await lanes.append(0, [append(("k", "one"))])
    turn = await lanes.begin(CRM, claim.token, "arq job 7")
    assert turn is not None
    assert ([], True) == ((await lanes.sweep(0))[0], 5 < (await lanes.sweep(0))[1] <= 6)
    await expire_lease(redis, CRM)
    [found], _ = await lanes.sweep(0)
    assert found.token not in (claim.token, turn.token)
    assert "arq job 7" == found.job
    assert ["one"] == await settle_all(await take(lanes, found))


async def test_a_turn_that_still_waits_in_arq_keeps_its_token_however_often_its_lease_ends(lanes, redis):
    [claim] = await lanes.append(0, [append(("k", "one"))])
    for _ in range(3):
        await expire_lease(redis, CRM)
        [found], _ = await lanes.sweep(0)
        assert claim.token == found.token
    assert ["one"] == await settle_all(await take(lanes, claim))


async def test_a_renewed_lease_is_not_swept(lanes, redis):
    turn = await begin(lanes, ("k", "one"))
    await expire_lease(redis, CRM)
    await turn.renew()
    assert [] == (await lanes.sweep(0))[0]
    await expire_lease(redis, CRM)
    await turn.settle()
    assert [] == (await lanes.sweep(0))[0]


async def test_a_turn_that_backs_off_is_swept_only_after_its_delay(lanes):
    turn = await begin(lanes, ("k", "one"))
    claim = await turn.give_up(100)
    claims, soonest = await lanes.sweep(0)
    assert [] == claims
    assert 100 < soonest <= 105
    assert await lanes.begin(CRM, claim.token) is not None


async def test_a_start_may_take_every_lease_for_over(lanes):
    await begin(lanes, ("k", "one"))
    [waiting] = await lanes.append(0, [append(("k", "two"), lane="erp")])
    claims, _ = await lanes.sweep(0, everything=True)
    tokens = {claim.lane.name: claim.token for claim in claims}
    assert {"crm", "erp"} == set(tokens)
    assert waiting.token == tokens["erp"]


async def test_a_sweep_of_many_lanes_takes_as_many_as_it_has_tokens_for(lanes, redis):
    for number in range(5):
        await begin(lanes, ("k", "one"), lane=Lane(0, f"lane{number}"))
    claims, soonest = await lanes.sweep(0, everything=True, most=3)
    assert (3, True) == (len(claims), soonest >= 0)
    turn = await begin(lanes, ("k", "one"))
    await park(turn, "k", (await turn.read()).items)
    await turn.read(give_back=True)
    await make_due(redis, CRM, "k")
    claims, _ = await lanes.sweep(0, everything=True, most=6)
    assert 6 == len({claim.lane for claim in claims})


async def test_an_empty_shard_has_nothing_to_sweep(lanes):
    assert ([], -1.0) == await lanes.sweep(0)


async def test_two_sweeps_at_once_do_not_give_one_lane_to_two(lanes, redis):
    await begin(lanes, ("k", "one"))
    await expire_lease(redis, CRM)
    results = await asyncio.gather(*(lanes.sweep(0) for _ in range(10)))
    assert 1 == sum(len(claims) for claims, _ in results)


async def test_a_claim_is_a_plain_value():
    assert Claim(CRM, "token") == Claim(CRM, "token", 0.0, "")


# wake


async def wake(lanes, *names):
    await lanes.run("wake", [Lane(0, name).key for name in names], [])


async def test_a_lane_that_backs_off_is_woken_with_the_token_it_has(lanes):
    claims = [await (await begin(lanes, ("k", "one"), lane=Lane(0, name))).give_up(300) for name in ("crm", "erp")]
    await wake(lanes, "crm")
    [found], soonest = await lanes.sweep(0)
    assert (found.lane, found.token, found.job) == (CRM, claims[0].token, "")
    assert soonest > 0
    await wake(lanes, "crm", "erp")
    assert ["crm", "erp"] == sorted(claim.lane.name for claim in (await lanes.sweep(0))[0])


async def test_parked_keys_of_a_woken_lane_are_due_at_once_whether_or_not_it_is_claimed(lanes, redis):
    for claimed in (False, True):
        turn = await begin(lanes, ("k", "one"))
        await park(turn, "k", (await turn.read()).items)
        await (turn.give_up(300) if claimed else turn.read(give_back=True))
        assert [] == (await lanes.sweep(0))[0]
        await wake(lanes, "crm")
        [found], _ = await lanes.sweep(0)
        assert ["one"] == await settle_all(await take(lanes, found))
        assert {} == await leftovers(redis)


async def test_a_turn_that_has_begun_is_not_woken(lanes):
    turn = await begin(lanes, ("k", "one"), ("l", "two"))
    items = (await turn.read()).items
    await park(turn, "k", items[:1])
    await wake(lanes, "crm")
    assert [] == (await lanes.sweep(0))[0]
    assert ["two"] == texts((await turn.read()).items)


async def test_a_turn_that_is_woken_after_it_has_begun_is_followed_by_the_next_one_without_a_delay(lanes, redis):
    turn = await begin(lanes, ("k", "one"), ("l", "two"))
    await park(turn, "k", (await turn.read()).items[:1])
    await wake(lanes, "crm")
    claim = await turn.give_up(300)
    assert 0.0 == claim.delay
    following = await take(lanes, claim)
    assert ["one", "two"] == await settle_all(following)  # what was parked is due, too
    assert {} == await leftovers(redis)


async def test_a_lane_is_woken_for_one_turn_alone(lanes):
    turn = await begin(lanes, ("k", "one"))
    await wake(lanes, "crm")
    following = await take(lanes, await turn.give_up(300))
    assert 300 == (await following.give_up(300)).delay
    assert [] == (await lanes.sweep(0))[0]


async def test_the_lease_of_a_woken_turns_successor_is_as_short_as_without_a_delay(lanes, redis):
    turn = await begin(lanes, ("k", "one"))
    await wake(lanes, "crm")
    await turn.give_up(300)
    assert 5 >= (await lanes.sweep(0))[1]


async def test_parked_keys_of_a_turn_that_was_woken_are_due_when_it_leaves_the_lane_idle(lanes, redis):
    turn = await begin(lanes, ("k", "one"))
    await park(turn, "k", (await turn.read()).items)
    await wake(lanes, "crm")
    assert "idle" == (await turn.read(give_back=True)).status
    [found], _ = await lanes.sweep(0)
    assert ["one"] == await settle_all(await take(lanes, found))
    assert {} == await leftovers(redis)


async def test_a_woken_lane_whose_turn_died_has_its_parked_keys_due(lanes, redis):
    turn = await begin(lanes, ("k", "one"))
    await park(turn, "k", (await turn.read()).items)
    await wake(lanes, "crm")
    await expire_lease(redis, CRM)
    [found], _ = await lanes.sweep(0)
    assert ["one"] == await settle_all(await take(lanes, found))
    assert {} == await leftovers(redis)


async def test_where_nothing_waits_nothing_is_woken(lanes, redis):
    await wake(lanes, "crm", "erp")
    assert ([], -1.0) == await lanes.sweep(0)
    assert {} == await leftovers(redis)


# dedup


def digests(*names: str) -> list[bytes]:
    return [event_digest("web", name) for name in names]


async def remember(turn, *names: str, window_ms: int = MINUTE, most: int = 1000) -> None:
    await turn.settle(seen=Seen(digests(*names), window_ms, most))


async def known(lanes, *names: str) -> list[str]:
    flags, _, _ = await lanes.look(0, digests(*names), [])
    return [name for name, flag in zip(names, flags, strict=True) if flag]


async def test_ids_are_remembered_for_the_whole_window_and_forgotten_after_it(clock, lanes):
    turn = await begin(lanes, ("k", "one"))
    await remember(turn, "a")
    await clock.tick(MINUTE // 2)
    await remember(turn, "b")
    await clock.tick(MINUTE // 2 - 1)
    await remember(turn, "c")
    assert ["a", "b", "c"] == await known(lanes, "a", "b", "c", "d")
    await clock.tick(MINUTE)
    await remember(turn, "d")
    assert ["c", "d"] == await known(lanes, "a", "b", "c", "d")


async def test_ids_beyond_the_limit_are_forgotten_oldest_first(lanes, redis):
    turn = await begin(lanes, ("k", "one"))
    names = [str(number) for number in range(200)]
    for first in range(0, 200, 5):
        await remember(turn, *names[first : first + 5], most=40)
    left = await known(lanes, *names)
    assert names[-len(left) :] == left
    assert 30 <= len(left) <= 40
    kept = sum([await redis.scard(key) for key in await redis.keys("er:{0}:seen:*")])
    assert len(left) == kept


async def test_a_batch_of_many_thousand_ids_is_remembered(lanes):
    turn = await begin(lanes, ("k", "one"))
    names = [str(number) for number in range(12_001)]
    await remember(turn, *names, most=100_000)
    assert names == await known(lanes, *names)


async def test_an_id_of_another_source_is_another_event(lanes):
    turn = await begin(lanes, ("k", "one"))
    await turn.settle(seen=Seen([event_digest("web", "1")], MINUTE, 100))
    assert [True, False] == (await lanes.look(0, [event_digest("web", "1"), event_digest("app", "1")], []))[0]


# rate


async def rate(lanes, messages: int, interval: int = 100_000, burst: int = 10) -> int:
    return int(await lanes.run("rate", ["er:{dest:crm}:rate"], [messages, interval, burst]))


async def test_a_rate_lets_a_burst_through_and_then_names_a_time(clock, lanes):
    assert 0 == await rate(lanes, 10)
    assert 100 == await rate(lanes, 1)
    await clock.tick(99)
    assert 1 == await rate(lanes, 1)
    await clock.tick(1)
    assert 0 == await rate(lanes, 1)
    await clock.tick(60_000)
    assert [0, 100] == [await rate(lanes, 10), await rate(lanes, 1)]


async def test_a_bucket_that_is_not_used_costs_no_memory_for_long(lanes, redis):
    await rate(lanes, 1)
    assert 0 < await redis.pttl("er:{dest:crm}:rate") <= 1200


async def test_a_batch_larger_than_the_burst_waits_for_a_full_bucket_and_is_paid_for_afterwards(clock, lanes):
    assert 0 == await rate(lanes, 25)
    assert 1600 == await rate(lanes, 1)
    assert 2500 == await rate(lanes, 25)


async def test_a_rate_owes_nothing_more_when_the_clock_is_set_back(clock, lanes):
    assert 0 == await rate(lanes, 100, interval=100_000, burst=10)  # a debt of 9 s beyond the burst
    await clock.tick(-60 * MINUTE)
    assert 9100 == await rate(lanes, 1, interval=100_000, burst=10)
    await clock.tick(9100)
    assert 0 == await rate(lanes, 1, interval=100_000, burst=10)


async def test_when_the_clock_is_set_back_a_dead_turns_lane_is_found_in_its_time(clock, lanes):
    await begin(lanes, ("k", "one"))
    assert [] == (await lanes.sweep(0))[0]
    await clock.tick(-60 * MINUTE)
    assert [] == (await lanes.sweep(0))[0]
    await clock.tick(LEASE_MS)
    assert [CRM] == [claim.lane for claim in (await lanes.sweep(0))[0]]


async def test_when_the_clock_is_set_back_a_turn_that_lives_keeps_its_lane(clock, lanes):
    turn = await begin(lanes, ("k", "one"))
    await lanes.sweep(0)
    await clock.tick(-60 * MINUTE)
    for _ in range(10):
        await turn.renew()
        assert [] == (await lanes.sweep(0))[0]
        await clock.tick(LEASE_MS // 3)
    assert ["one"] == texts((await turn.read()).items)


async def test_when_the_clock_is_set_back_a_delayed_turn_comes_in_its_time(clock, lanes):
    turn = await begin(lanes, ("k", "one"))
    await turn.give_up(60.0)
    await lanes.sweep(0)
    await clock.tick(-60 * MINUTE)
    assert [] == (await lanes.sweep(0))[0]
    await clock.tick(MINUTE - 1)
    assert [] == (await lanes.sweep(0))[0]
    await clock.tick(SHORT_LEASE_MS + 1)
    assert [CRM] == [claim.lane for claim in (await lanes.sweep(0))[0]]


@pytest.mark.parametrize("served", [True, False])
async def test_when_the_clock_is_set_back_parked_keys_are_due_in_their_time(clock, lanes, served):
    turn = await begin(lanes, ("k", "one"))
    [item] = (await turn.read()).items
    await turn.settle(parks=[Park("k", MINUTE, [item])])
    if not served:
        assert "idle" == (await turn.read(give_back=True)).status
    await lanes.sweep(0)
    await clock.tick(-60 * MINUTE)
    await lanes.sweep(0)
    if served:
        await turn.renew()
        await clock.tick(MINUTE)
        assert ["one"] == texts((await turn.read()).items)
    else:
        await clock.tick(MINUTE)
        [claim] = (await lanes.sweep(0))[0]
        assert ["one"] == texts((await (await take(lanes, claim)).read()).items)


async def test_a_clock_that_goes_on_changes_nothing(clock, lanes, redis):
    turn = await begin(lanes, ("k", "one"))
    await turn.give_up(3 * 60.0)
    lease = await redis.zrange("er:{0}:leases", 0, -1, withscores=True)
    for _ in range(10):
        assert [] == (await lanes.sweep(0))[0]
        await clock.tick(15_000)
    assert lease == await redis.zrange("er:{0}:leases", 0, -1, withscores=True)


# Replicas


@pytest.fixture
def replicated(redis, monkeypatch):
    monkeypatch.setattr(steps_module, "WAIT_SECONDS", 0.01)
    return Lanes(redis, replicas=1)


async def test_what_too_few_replicas_have_is_not_appended_as_far_as_the_caller_knows(replicated, redis):
    with pytest.raises(UnavailableError, match="fewer than 1 replicas"):
        await replicated.append(0, [append(("a", "1"))])
    assert {"to:crm": 1} == await counts(redis)
    with pytest.raises(UnavailableError, match="fewer than 1 replicas"):
        await replicated.reach(4)


async def test_a_turn_knows_whether_replicas_have_what_it_settled(replicated, lanes):
    turn = await begin(lanes, ("a", "1"))
    turn = await take(replicated, await turn.give_up())
    await turn.settle(counts={"x": 1}, keep=True)
    assert not turn.kept
    await turn.settle(counts={"x": 1})
    assert turn.kept


async def test_without_replicas_to_ask_for_all_is_kept(lanes):
    turn = await begin(lanes, ("a", "1"))
    await turn.settle(counts={"x": 1}, keep=True)
    assert turn.kept
    await lanes.reach(4)
