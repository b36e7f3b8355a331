"""What is known of all shards, read in two round trips."""

from __future__ import annotations

import asyncio
import time

import pytest

from eventrouter import server_time
from eventrouter.counters import by_destination, failing, read_snapshot, reasons
from eventrouter.health import Health
from eventrouter.lane import Append, Lane, Park, Removal, Seen
from lane_kit import append, begin


async def test_an_empty_server_has_a_snapshot_too(lanes):
    snapshot = await read_snapshot(lanes, 4, ["crm"])
    assert {} == dict(snapshot.counts)
    assert {"log", "warehouse", "crm"} == set(snapshot.lanes)
    assert (0, 0, 0) == (
        snapshot.lanes["crm"].waiting,
        snapshot.lanes["crm"].parked_keys,
        snapshot.lanes["crm"].oldest_ms,
    )
    assert 0 == snapshot.dedup_since_ms


async def test_counters_and_lanes_are_added_up_over_the_shards(lanes):
    began = int(time.time() * 1000)
    for shard in range(3):
        await lanes.append(shard, [append(("k", "one"), ("l", "two")), Append("log", [("", 5, b"x")], "accepted")])
    snapshot = await read_snapshot(lanes, 3, ["crm"])
    assert {"to:crm": 6, "accepted": 15} == dict(snapshot.counts)
    assert (6, 15) == (snapshot.lanes["crm"].waiting, snapshot.lanes["log"].waiting)
    assert began - 1000 <= snapshot.lanes["crm"].oldest_ms <= snapshot.now_ms + 1000


async def test_the_oldest_item_is_found_among_the_parked_ones_too(lanes):
    turn = await begin(lanes, ("k", "old"))
    await asyncio.sleep(0.005)
    await lanes.append(0, [append(("l", "new"))])
    [old, new] = (await turn.read()).items
    began = int(old.id.split("-")[0])
    assert began < int(new.id.split("-")[0])
    await turn.settle(parks=[Park(old.key, 60_000, [old])])
    lane = (await read_snapshot(lanes, 1, ["crm"])).lanes["crm"]
    assert (2, 1, began) == (lane.waiting, lane.parked_keys, lane.oldest_ms)
    await turn.settle(parks=[Park(new.key, 30_000, [new])])
    lane = (await read_snapshot(lanes, 1, ["crm"])).lanes["crm"]
    assert (2, 2, began) == (lane.waiting, lane.parked_keys, lane.oldest_ms)


async def test_a_look_at_the_lanes_brings_no_items_along(lanes):
    await lanes.append(0, [append(("k", "x" * 500_000))])
    before = (await lanes.redis.info("stats"))["total_net_output_bytes"]
    assert 1 == (await read_snapshot(lanes, 1, ["crm"])).lanes["crm"].waiting
    assert (await lanes.redis.info("stats"))["total_net_output_bytes"] - before < 50_000


async def test_of_many_parked_keys_the_first_hundred_are_looked_at(lanes):
    turn = await begin(lanes, *((f"k{number}", "x") for number in range(150)))
    items = (await turn.read()).items
    await turn.settle(parks=[Park(item.key, 60_000, [item]) for item in items])
    lane = (await read_snapshot(lanes, 1, ["crm"])).lanes["crm"]
    assert 150 == lane.parked_keys
    ids = {int(item.id.split("-")[0]) for item in items}
    assert lane.oldest_ms in ids


async def test_a_destination_that_is_no_longer_configured_is_still_shown(lanes):
    await lanes.append(0, [append(("k", "one"), lane="old", count="to:old")])
    assert 1 == (await read_snapshot(lanes, 1, ["crm"])).lanes["old"].waiting


async def test_one_destinations_row_tells_where_its_deliveries_are(lanes):
    turn = await begin(lanes, ("k", "1"), ("l", "2"), ("m", "3"), ("n", "4"), ("o", "5"))
    items = (await turn.read()).items
    await turn.settle(
        [
            Removal(items[0], "delivered:crm"),
            Removal(items[1], "dead:crm:permanent"),
            Removal(items[2], "dead:crm:max_age"),
        ],
        [Park(items[3].key, 60_000, [items[3]])],
        counts={"filtered:crm:consent": 4, "retried:crm:503": 2, "retried:crm:none": 1, "retried:crm2:none": 9},
    )
    await Health(lanes, "crm", initial=1.0, max_interval=60.0).parked(1, "HTTP 503")
    row = by_destination(await read_snapshot(lanes, 1, ["crm"]), "crm")
    oldest = row.pop("oldest_seconds")
    assert 0 <= oldest < 10
    assert {
        "unit": "deliveries",
        "routed": 9,
        "waiting": 2,
        "parked_keys": 1,
        "parked_reason": "HTTP 503",
        "retried": {"503": 2, "none": 1},
        "delivered": 1,
        "filtered": {"consent": 4},
        "dead": {"max_age": 1, "permanent": 1},
        "died": {"max_age": 1, "permanent": 1},
        "replayed": {},
        "discarded": {},
        "forgotten": {},
        "state": "ok",
        "reason": "",
        "paused_at": None,
        "turns_failed": 0,
        "next_try_seconds": None,
    } == row


async def test_a_row_adds_up_whatever_became_of_dead_letters_that_were_sent_again(lanes):
    counts = {"to:crm": 10, "delivered:crm": 4, "filtered:crm:consent": 3, "filtered:crm:sample": 2}
    # Two letters were sent again: one was delivered, one died of another cause.
    await lanes.append(0, [], counts | {"dead:crm:permanent": 3, "dead:crm:attempts": 3, "replayed:crm:permanent": 2})
    row = by_destination(await read_snapshot(lanes, 1, ["crm"]), "crm")
    assert ({"permanent": 1, "attempts": 3}, {"permanent": 3, "attempts": 3}) == (row["dead"], row["died"])
    assert 13 == row["routed"] == sum((row["delivered"], *row["filtered"].values(), *row["dead"].values()))


async def test_a_row_adds_up_whatever_operators_gave_up_or_had_forgotten(lanes):
    counts = {"to:crm": 10, "delivered:crm": 3, "dead:crm:permanent": 4, "dead:crm:unreadable": 1}
    counts |= {"discarded:crm:permanent": 2, "forgotten:crm:permanent": 1}
    await lanes.append(0, [], counts | {"discarded:crm:waiting": 1, "forgotten:crm:waiting": 1})
    row = by_destination(await read_snapshot(lanes, 1, ["crm"]), "crm")
    assert {"permanent": 1, "unreadable": 1} == row["dead"]
    assert ({"permanent": 2, "waiting": 1}, {"permanent": 1, "waiting": 1}) == (row["discarded"], row["forgotten"])
    gone = sum(sum(row[what].values()) for what in ("dead", "discarded", "forgotten"))
    assert 10 == row["routed"] == row["delivered"] + gone


async def test_a_class_of_which_all_were_sent_again_is_not_dead(lanes):
    await lanes.append(0, [], {"to:crm": 2, "delivered:crm": 1, "dead:crm:permanent": 1, "replayed:crm:permanent": 1})
    row = by_destination(await read_snapshot(lanes, 1, ["crm"]), "crm")
    assert ({}, {"permanent": 1}, 1) == (row["dead"], row["replayed"], row["routed"])


async def test_the_warehouses_row_counts_records(lanes):
    assert "records" == by_destination(await read_snapshot(lanes, 1, []), "warehouse")["unit"]


@pytest.mark.parametrize(("refused", "state"), [(False, "backing off"), (True, "on hold")])
async def test_a_destination_that_waits_says_why_and_how_long(lanes, refused, state):
    health = Health(lanes, "crm", initial=1, max_interval=60)
    if refused:
        await health.refused("m1", "HTTP 401")
        await health.refused("m2", "HTTP 401")
    else:
        await health.failed("HTTP 503", 120)
    row = by_destination(await read_snapshot(lanes, 1, ["crm"]), "crm")
    assert (state, health.reason) == (row["state"], row["reason"])
    assert 5 < row["next_try_seconds"] <= 300


async def test_a_lane_whose_turns_come_to_nothing_is_failing_and_says_why(lanes):
    turns = [await begin(lanes, ("k", "1"), lane=Lane(shard, "crm")) for shard in range(2)]
    await turns[0].fail("the first reason", 5.0)
    await asyncio.sleep(0.01)
    await turns[1].fail("the last reason", 30.0)
    snapshot = await read_snapshot(lanes, 2, ["crm"])
    told = {"state": "failing", "reason": "the last reason", "turns_failed": 2}
    assert told == failing(snapshot, "crm")
    row = by_destination(snapshot, "crm")
    assert told == {name: row[name] for name in told}
    assert {"state": "ok", "reason": "", "turns_failed": 0} == failing(snapshot, "log")
    snapshot.now_ms += 89_000
    assert "failing" == by_destination(snapshot, "crm")["state"]
    snapshot.now_ms += 2_000
    assert ("ok", "", 2) == tuple(failing(snapshot, "crm").values())


async def test_the_health_of_a_destination_is_told_before_its_turns(lanes):
    await (await begin(lanes, ("k", "1"))).fail("a bug", 5.0)
    await Health(lanes, "crm", initial=1, max_interval=60).failed("HTTP 503", 120)
    row = by_destination(await read_snapshot(lanes, 1, ["crm"]), "crm")
    assert ("backing off", "HTTP 503", 1) == (row["state"], row["reason"], row["turns_failed"])


async def test_a_paused_destination_says_since_when_and_why(clock, lanes):
    await Health(lanes, "crm", initial=1, max_interval=60).failed("HTTP 503", 120)
    await lanes.run("health", ["er:{dest:crm}:health"], ["pause", "they move house"])
    row = by_destination(await read_snapshot(lanes, 1, ["crm"]), "crm")
    told = ("paused", "they move house", "2023-11-14T22:13:20.000Z", None)
    assert told == (row["state"], row["reason"], row["paused_at"], row["next_try_seconds"])


async def test_the_fullest_shard_is_known(lanes):
    await lanes.append(0, [append(("k", "one"))])
    await lanes.append(1, [append(("k", "one"), ("k", "two"))])
    lane = (await read_snapshot(lanes, 2, ["crm"])).lanes["crm"]
    assert (3, 2) == (lane.waiting, lane.fullest)


async def test_an_unknown_destination_has_a_row_of_nothing(lanes):
    row = by_destination(await read_snapshot(lanes, 1, []), "nobody")
    assert (0, 0, {}, "ok", None) == (
        row["waiting"],
        row["routed"],
        row["dead"],
        row["state"],
        row["oldest_seconds"],
    )


async def test_the_dedup_window_is_that_of_the_shard_that_forgets_first(clock, lanes):
    for shard in range(2):
        turn = await begin(lanes, ("k", "one"), lane=Lane(shard, "log"))
        await turn.settle(seen=Seen([b"digest"], 3_600_000, 100))
        await clock.tick(1000)
    assert clock.ms - 1000 == (await read_snapshot(lanes, 2, [])).dedup_since_ms


async def test_reasons_are_what_follows_a_prefix(lanes):
    await lanes.append(0, [], {"dead:crm:b": 2, "dead:crm:a:x": 1, "dead:crm2:a": 9})
    snapshot = await read_snapshot(lanes, 1, [])
    assert [("a:x", 1), ("b", 2)] == list(reasons(snapshot.counts, "dead:crm:").items())


async def test_ages_go_by_the_servers_clock(lanes, monkeypatch):
    monkeypatch.setattr(server_time, "_ahead_ms", -3_600_000.0)
    before = int(time.time() * 1000)
    snapshot = await read_snapshot(lanes, 1, [])
    assert -3_600_000 <= snapshot.now_ms - before < -3_500_000
