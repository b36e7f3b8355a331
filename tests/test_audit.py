"""The audit: it adds up whatever happens, and notices what should not have."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from enrich_kit import LOG, Router, event, everything_to
from eventrouter import enrich
from eventrouter.audit import LaneCount, ShardCounts, differences, faults_of, read_counts, report_of
from eventrouter.lane import Append, Claim, Lane, Park, Removal
from eventrouter.lanes import Lanes
from eventrouter.log_entry import encode_entry
from lane_kit import append, begin, take


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(enrich, "LINGER_SECONDS", 0.02)


def entry(*sources: str) -> tuple[str, int, bytes]:
    """An entry of the log with an event of each of these."""
    events = [msgspec.json.encode([source, event(number)]) for number, source in enumerate(sources)]
    return "", len(events), encode_entry(events)


async def accept(lanes: Lanes, *entries: tuple[str, int, bytes], shard: int = 0, **accepted: int) -> list[Claim]:
    """Appends to the log, of each source as many events as are `accepted`."""
    return await lanes.append(
        shard, [Append("log", list(entries), "accepted")], {f"accepted:{name}": n for name, n in accepted.items()}
    )


async def told(lanes: Lanes, **options: bool) -> list[str]:
    """What is off."""
    return [str(fault) for one in await read_counts(lanes, 2, **options) for fault in faults_of(one)]


async def routed(lanes: Lanes, *numbers: int, **changes: object) -> Router:
    """A router that has routed these events, and a duplicate."""
    router = Router(lanes, **changes)
    router.claims += await lanes.append(0, [], {"accepted:web": len(numbers) + 1})
    await router.accept(*(event(number, f"k{number}") for number in numbers), event(numbers[0]))
    await router.run()
    return router


async def test_an_empty_server_adds_up(lanes):
    report = report_of(await read_counts(lanes, 2))
    assert (True, [], 0) == (report["adds_up"], report["faults"], report["events"]["accepted"])
    assert {} == report["sources"]
    assert ["warehouse"] == list(report["destinations"])


async def test_events_that_were_routed_add_up_while_their_deliveries_wait(lanes):
    await routed(lanes, 1, 2, 3)
    assert [] == await told(lanes)
    report = report_of(await read_counts(lanes, 2))
    assert {"accepted": 4, "in_log": 0, "duplicates": 1, "routed": 3, "unreadable": 0} == report["events"]
    parts = {"accepted": 4, "in_log": 0, "duplicates": 1, "routed": 3, "unreadable": 0, "rejected": {}}
    assert {"web": {**parts, "in_log_counted": True}} == report["sources"]
    crm = {"unit": "events", "routed": 3, "delivered": 0, "waiting": 3, "again": 0}
    nothing: dict[str, object] = {"filtered": {}, "dead": {}, "discarded": {}, "forgotten": {}}
    assert crm | nothing == report["destinations"]["crm"]
    assert {"unit": "records", "routed": 3, "waiting": 3}.items() <= report["destinations"]["warehouse"].items()


async def test_events_in_the_log_are_counted_there_by_source(lanes):
    await accept(lanes, entry("web", "app", "web"), entry("web"), web=3, app=1)
    await accept(lanes, entry("app"), shard=1, app=1)
    report = report_of(await read_counts(lanes, 2))
    assert (True, 5) == (report["adds_up"], report["events"]["in_log"])
    assert {"app": 2, "web": 3} == {name: row["in_log"] for name, row in report["sources"].items()}
    assert {"in_log": 0, "unreadable": 0} == report["unknown_source"]


async def test_an_event_that_vanished_from_the_log_is_missed_by_its_source(lanes):
    await accept(lanes, entry("web", "app"), entry("app", "app"), entry("web"), web=2, app=3)
    [_, (item, _), _] = await lanes.redis.xrange(LOG.key)
    await lanes.redis.xdel(LOG.key, item)
    assert "source app, shard 0: 2 missing: accepted 3, but in the log 1" in await told(lanes)
    assert not any(fault.startswith("source web") for fault in await told(lanes))
    assert {"app": 1, "web": 2} == {
        name: row["in_log"] for name, row in report_of(await read_counts(lanes, 2))["sources"].items()
    }
    await lanes.append(0, [], {"accepted": -2, "accepted:app": -2})  # what operators are told to do about it
    assert ["event log, shard 0: 2 missing: waiting by the lane's counter 5, but there 3"] == await told(lanes)


async def test_an_event_that_vanished_while_it_was_routed_is_missed_by_its_source(lanes):
    await routed(lanes, 1, 2, 3)
    await lanes.redis.hincrby("er:{0}:counts", "routed:web", -1)
    await accept(lanes, entry("app"), app=1)
    assert "source web, shard 0: 1 missing: accepted 4, but duplicates 1 + routed 2 = 3" in await told(lanes)


async def test_what_is_damaged_in_the_log_is_no_fault_wherever_it_is(lanes):
    key, units, data = entry("web", "app", "web", "app")
    torn = data.replace(b'"track"', b"5", 1).replace(b'["app"', b"[7", 1)
    router = Router(lanes)
    router.claims += await accept(lanes, (key, units, torn), ("", 2, b"nonsense"), web=3, app=3)
    found = report_of(await read_counts(lanes, 2))
    assert (True, {"in_log": 3, "unreadable": 0}) == (found["adds_up"], found["unknown_source"])
    assert {"app": 1, "web": 2} == {name: row["in_log"] for name, row in found["sources"].items()}
    await router.run()
    found = report_of(await read_counts(lanes, 2))
    assert (True, {"in_log": 0, "unreadable": 3}) == (found["adds_up"], found["unknown_source"])
    assert {"app": (0, 1), "web": (1, 1)} == {
        name: (row["unreadable"], row["routed"]) for name, row in found["sources"].items()
    }


async def test_beyond_what_nobody_can_tell_the_source_of_a_source_misses_its_events(lanes):
    await accept(lanes, entry("web"), ("", 2, b"nonsense"), web=4)
    await lanes.append(0, [], {"accepted": 1, "log_out": 1, "unreadable": 1})
    parts = "in the log 1 + in the log of unknown sources 2 + unreadable of unknown sources 1 = 4"
    assert [] == await told(lanes)
    await lanes.append(0, [], {"accepted:web": 1})
    assert f"source web, shard 0: 1 missing: accepted 5, but {parts}" in await told(lanes)


async def test_a_name_that_nothing_was_accepted_of_is_no_source(lanes):
    router = Router(lanes)
    _, units, data = entry("web", "wab")
    router.claims += await accept(lanes, ("", units, data.replace(b'"events"', b'"evens"')), web=2)
    assert [] == await told(lanes)
    await router.run()
    found = report_of(await read_counts(lanes, 2))
    assert (True, ["web"], 1) == (found["adds_up"], list(found["sources"]), found["unknown_source"]["unreadable"])


async def test_what_the_version_before_counted_and_wrote_is_no_fault(lanes):
    router = await routed(lanes, 1, 2, 3)
    old = b'{"v":1,"events":[%b]}' % msgspec.json.encode(["web", event(9)])
    await lanes.append(0, [], {"accepted": 2, "log_out": 2, "accepted:web": 2, "unreadable": 2})
    await accept(lanes, ("", 1, old), entry("web"), web=2)
    found = report_of(await read_counts(lanes, 2))
    assert (True, {"in_log": 1, "unreadable": 2}) == (found["adds_up"], found["unknown_source"])
    router.claims = [claim for claim in (await lanes.sweep(0, everything=True))[0] if claim.lane == LOG]
    await router.run()
    assert [] == await told(lanes)


async def test_whatever_becomes_of_deliveries_adds_up(lanes):
    router = await routed(lanes, *range(1, 8))
    [claim] = [claim for claim in router.ahead if claim.lane.name == "crm"]
    turn = await take(lanes, claim)
    one, two, three, four, five, six, _ = (await turn.read()).items
    await turn.settle(
        [Removal(one, "delivered:crm"), Removal(two, "dead:crm:permanent"), Removal(three, "dead:crm:max_age")],
        [Park(four.key, 60_000, [four])],
    )
    await turn.settle([Removal(five, "discarded:crm:waiting"), Removal(six, "forgotten:crm:waiting")])
    assert [] == await told(lanes)
    # A dead letter is sent again, one is given up, and an event that was delivered is sent again.
    again = {"replayed:crm:permanent": 1, "discarded:crm:max_age": 1, "replayed:crm:again": 1}
    await lanes.append(0, [append(("k", "again"), ("k", "and again"))], again)
    assert [] == await told(lanes)
    row = report_of(await read_counts(lanes, 2))["destinations"]["crm"]
    assert {"routed": 7, "delivered": 1, "waiting": 4, "again": 1, "dead": {}}.items() <= row.items()
    assert ({"waiting": 1, "max_age": 1}, {"waiting": 1}) == (row["discarded"], row["forgotten"])
    assert row["routed"] + row["again"] == row["delivered"] + row["waiting"] + 3


async def test_events_that_are_filtered_or_dead_at_once_add_up(lanes):
    def route(events):
        found = everything_to("crm")(events)
        found.failed, found.filtered = [("erp", 0, "all", "it failed")], {("erp", "no_route"): len(events) - 1}
        return found

    await routed(lanes, 1, 2, 3, route=route, backlogs={"crm": 1, "erp": 5})
    assert [] == await told(lanes)
    rows = report_of(await read_counts(lanes, 2))["destinations"]
    assert (1, {"backlog_full": 2}) == (rows["crm"]["waiting"], rows["crm"]["dead"])
    assert ({"no_route": 2}, {"template": 1}) == (rows["erp"]["filtered"], rows["erp"]["dead"])


async def test_a_destination_counts_what_was_routed_while_it_was_there(lanes):
    await routed(lanes, 1, 2)
    router = Router(lanes, route=everything_to("crm", "new"), backlogs={"crm": 9, "new": 9})
    await router.lanes.append(0, [], {"accepted:web": 1})
    await router.accept(event(3))
    router.claims += (await lanes.sweep(0, everything=True))[0]
    router.claims = [claim for claim in router.claims if claim.lane == LOG]
    await router.run()
    assert [] == await told(lanes)
    rows = report_of(await read_counts(lanes, 2))["destinations"]
    assert (3, 1) == (rows["crm"]["routed"], rows["new"]["routed"])


async def test_shards_add_up_each_by_itself_and_together(lanes):
    for shard in range(2):
        await lanes.append(shard, [append(("k", "x"))], {"events:crm": 1})
    assert [] == await told(lanes)
    assert 2 == report_of(await read_counts(lanes, 2))["destinations"]["crm"]["waiting"]
    await lanes.redis.hincrby("er:{0}:counts", "delivered:crm", 1)
    await lanes.redis.hincrby("er:{1}:counts", "delivered:crm", -1)
    assert [
        "destination crm, shard 0: 1 too many: deliveries 1, but delivered 1 + waiting 1 = 2",
        "destination crm, shard 1: 1 missing: deliveries 1, but delivered -1 + waiting 1 = 0",
    ] == await told(lanes)


async def test_a_delivery_that_vanished_is_missed(lanes):
    await routed(lanes, 1, 2, 3)
    [(item, _)] = await lanes.redis.xrange(Lane(0, "crm").key, count=1)
    await lanes.redis.xdel(Lane(0, "crm").key, item)
    assert [
        "destination crm, shard 0: 1 missing: deliveries 3, but waiting 2",
        "destination crm, shard 0: 1 missing: waiting by the lane's counter 3, but there 2",
    ] == await told(lanes)
    report = report_of(await read_counts(lanes, 2))
    assert not report["adds_up"]
    assert (1, 0, "destination crm") == tuple(report["faults"][0][name] for name in ("difference", "shard", "what"))
    assert "`eventrouter replay crm --since" in report["faults"][0]["hint"]


async def test_a_lanes_counter_is_right_again_once_the_lane_was_found_empty(lanes):
    turn = await begin(lanes, ("k", "1"), ("l", "2"))
    await lanes.redis.xtrim(Lane(0, "crm").key, maxlen=0)
    off = "destination crm, shard 0: 2 missing: waiting by the lane's counter 2, but nothing"
    assert off == (await told(lanes))[-1]
    assert "idle" == (await turn.read(give_back=True)).status
    assert off not in await told(lanes)


async def test_a_parked_delivery_that_vanished_is_missed(lanes):
    turn = await begin(lanes, ("k", "1"), ("l", "2"))
    items = (await turn.read()).items
    await turn.settle([], [Park(item.key, 60_000, [item]) for item in items], counts={"events:crm": 2})
    assert [] == await told(lanes)
    await lanes.redis.delete(f"{Lane(0, 'crm').key}:park:l")
    assert 2 == len(await told(lanes))


async def test_an_entry_of_the_log_that_vanished_is_missed(lanes):
    await accept(lanes, ("", 5, b"x"), web=5)
    await lanes.redis.delete(LOG.key)
    assert "event log, shard 0: 5 missing: accepted 5, but nothing" in await told(lanes)
    fault, *_ = faults_of((await read_counts(lanes, 1))[0])
    assert "audit --deep" in fault.hint


async def test_records_that_vanished_on_the_way_to_the_warehouse_are_missed(lanes):
    await lanes.append(0, [Append("warehouse", [("", 5, b"x"), ("", 1, b"x")], "to:warehouse")])
    assert [] == await told(lanes)
    [(item, _)] = await lanes.redis.xrange(Lane(0, "warehouse").key, count=1)
    await lanes.redis.xdel(Lane(0, "warehouse").key, item)
    assert "destination warehouse, shard 0: 5 missing: records 6, but waiting 1" in await told(lanes)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("accepted", "event log, shard 0: 1 missing: accepted 5, but taken out 4"),
        ("routed", "event log, shard 0: 1 too many: taken out 4, but duplicates 1 + routed 4 = 5"),
        ("duplicates", "sources, shard 0: 1 missing: duplicates in all 2, but web 1"),
        ("duplicates:web", "source web, shard 0: 1 too many: accepted 4, but duplicates 2 + routed 3 = 5"),
        ("accepted:app", "sources, shard 0: 1 too many: accepted in all 4, but app 1 + web 4 = 5"),
        ("accepted:web", "source web, shard 0: 1 missing: accepted 5, but duplicates 1 + routed 3 = 4"),
        ("unreadable", "event log, shard 0: 1 too many: taken out 4, but duplicates 1 + routed 3 + unreadable 1 = 5"),
        ("unreadable:web", "sources, shard 0: 1 too many: unreadable in all 0, but web 1"),
        ("events:crm", "destination crm, shard 0: 1 missing: routed 4, but deliveries 3"),
        ("filtered:crm:sample", "destination crm, shard 0: 1 too many: routed 3, but deliveries 3 + sample 1 = 4"),
        ("to:crm", "destination crm, shard 0: 1 missing: deliveries 4, but waiting 3"),
        ("dead:crm:permanent", "destination crm, shard 0: 1 too many: deliveries 3, but waiting 3 + died 1 = 4"),
        (
            "delivered:warehouse",
            "destination warehouse, shard 0: 1 too many: records 3, but delivered 1 + waiting 3 = 4",
        ),
    ],
)
async def test_a_counter_that_was_changed_by_hand_is_noticed(lanes, field, expected):
    await routed(lanes, 1, 2, 3)
    await lanes.redis.hincrby("er:{0}:counts", field, 1)
    assert expected in await told(lanes)


@pytest.mark.parametrize("kind", ["accepted", "duplicates", "routed", "unreadable"])
async def test_a_sources_counter_that_was_lowered_by_hand_is_noticed(lanes, kind):
    await routed(lanes, 1, 2, 3)
    await lanes.redis.hincrby("er:{0}:counts", f"{kind}:web", -1)
    assert [True] * 2 == [any(one.startswith(what) for one in await told(lanes)) for what in ("sources", "source web")]


async def test_where_very_much_waits_the_lanes_counter_has_to_do_unless_it_is_to_be_counted(lanes, monkeypatch):
    monkeypatch.setattr("eventrouter.audit.READ_BYTES", 10_000)
    await lanes.append(0, [Append("log", [("", 50, b"x" * 20_000)], "accepted")], {"accepted:web": 50})
    await lanes.append(1, [Append("log", [("", 1, b"x")] * 6, "accepted")], {"accepted:web": 6})
    await lanes.redis.xtrim(LOG.key, maxlen=0)
    await lanes.append(0, [Append("log", [("", 1, b"x")], "accepted")], {"accepted:web": 1})
    found = await read_counts(lanes, 2)
    assert [LaneCount(51, 51, False), LaneCount(6, 6, False)] == [one.lanes["log"] for one in found]
    assert ["log"] == report_of(found)["not_counted"]
    assert [] == await told(lanes)
    assert "event log, shard 0: 50 missing: accepted 51, but in the log 1" in await told(lanes, recount=True)
    assert [] == report_of(await read_counts(lanes, 2, recount=True))["not_counted"]


async def test_where_very_much_waits_what_a_source_has_there_is_what_is_left_unless_it_is_to_be_counted(
    lanes, monkeypatch
):
    monkeypatch.setattr("eventrouter.audit.READ_BYTES", 5_000)
    await accept(lanes, *[entry("web", "app")] * 9, web=9, app=9)
    await accept(lanes, entry("app"), shard=1, app=1)
    [(item, _)] = await lanes.redis.xrange(LOG.key, count=1)
    await lanes.redis.xdel(LOG.key, item)
    report = report_of(await read_counts(lanes, 2))
    rows = {name: (row["in_log"], row["in_log_counted"]) for name, row in report["sources"].items()}
    assert (True, {"app": (10, False), "web": (9, False)}) == (report["adds_up"], rows)
    assert {"in_log": 0, "unreadable": 0} == report["unknown_source"]
    report = report_of(await read_counts(lanes, 2, recount=True))
    rows = {name: (row["in_log"], row["in_log_counted"]) for name, row in report["sources"].items()}
    assert (False, {"app": (9, True), "web": (8, True)}) == (report["adds_up"], rows)
    assert "source app, shard 0: 1 missing: accepted 9, but in the log 8" in await told(lanes, recount=True)


@pytest.mark.parametrize(("recount", "most"), [(False, 3), (True, 1)])
async def test_a_recount_asks_one_shard_after_the_other_since_each_may_take_long(lanes, monkeypatch, recount, most):
    asked, under_way = lanes.run, []

    async def run(*arguments):
        under_way.append(len(under_way) + 1)
        try:
            return await asked(*arguments)
        finally:
            counts.append(len(under_way))
            under_way.pop()

    counts = []
    monkeypatch.setattr(lanes, "run", run)
    await read_counts(lanes, 3, recount=recount)
    assert max(counts) == most


async def test_many_entries_are_counted_one_by_one(lanes):
    await lanes.append(0, [Append("log", [("", n, b"x") for n in range(1, 101)], "accepted")], {"accepted:web": 5050})
    assert LaneCount(5050, 5050) == (await read_counts(lanes, 1))[0].lanes["log"]


async def test_the_audit_changes_nothing(lanes):
    await routed(lanes, 1, 2)
    before = {key: await lanes.redis.dump(key) for key in await lanes.redis.keys("*")}
    await read_counts(lanes, 2)
    assert before == {key: await lanes.redis.dump(key) for key in await lanes.redis.keys("*")}


def test_a_sum_that_is_off_by_nothing_is_no_fault():
    counts = Counter({"to:crm": 2, "events:crm": 3, "filtered:crm:consent": 1, "delivered:crm": 2})
    assert [] == faults_of(ShardCounts(0, counts))


def test_refused_events_are_told_by_source():
    counts = Counter({"rejected:web:userId_missing": 2, "to:warehouse": 2})
    report = report_of([ShardCounts(0, counts, {"warehouse": LaneCount(2, 2)})])
    assert ({"userId_missing": 2}, True) == (report["sources"]["web"]["rejected"], report["adds_up"])


def test_the_sums_of_all_shards_tell_of_each_thing_by_how_much_it_is_off():
    counts = Counter({"accepted": 5, "accepted:website": 5, "log_out": 4, "routed": 4, "routed:website": 4})
    counts |= Counter({"to:warehouse": 4, "delivered:warehouse": 3, "events:crm": 4, "to:crm": 4, "delivered:crm": 2})
    off = differences(counts, {"log": 1, "warehouse": 1, "crm": 5})
    assert {"event log": 0, "sources": 0, "destination crm": -3, "destination warehouse": 0} == off


def test_by_the_counters_alone_a_source_has_no_more_left_than_is_in_the_log_or_unreadable():
    counts = Counter({"accepted": 9, "accepted:web": 9, "log_out": 5, "routed": 3, "routed:web": 3, "unreadable": 2})
    counts |= Counter({"unreadable:web": 1, "to:warehouse": 3, "delivered:warehouse": 3})
    assert 0 == sum(map(abs, differences(counts, {"log": 4}).values()))
    assert 2 == differences(counts + Counter({"accepted:web": 2}), {"log": 4})["source web"]
    assert -1 == differences(counts + Counter({"routed:web": 6}), {"log": 4})["source web"]
