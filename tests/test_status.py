from collections import Counter

from eventrouter.config import Config
from eventrouter.counters import LaneState, Snapshot
from eventrouter.presence import Process
from eventrouter.rates import Sample
from eventrouter.status import row_of, status_of
from routes_kit import HEAD, load


def test_everything_is_there_ready_for_json():
    counts = Counter(
        {"accepted": 5, "routed": 3, "duplicates": 1, "rejected:website:too_large": 2, "to:crm": 3, "delivered:crm": 3}
        | {"enrichment_failed:geo": 2}
    )
    lanes = {"log": LaneState(waiting=1), "crm": LaneState(), "off": LaneState(), "gone": LaneState(waiting=4)}
    process = Process("worker", "here", 7, "abc", "", 900)
    config = load(HEAD)
    found = status_of(config, 4, Snapshot(counts, lanes, {}, 1000, 61_000, [process]))
    assert (found["rules"], found["shards"], found["dedup_window_seconds"]) == (config.version, 4, 60.0)
    assert found["events"] == {"accepted": 5, "in_log": 1, "duplicates": 1, "routed": 3}
    assert found["sources"] == {"website": {"rejected": {"too_large": 2}}, "app": {"rejected": {}}}
    assert found["enrichments"] == {"geo": {"failed": 2}}
    assert [(name, row["state"]) for name, row in found["destinations"].items()] == [
        ("crm", "ok"),
        ("off", "switched off"),
        ("gone", "not in routes.yaml"),
    ]
    [told] = found["processes"]
    expected = {"kind": "worker", "host": "here", "pid": 7, "rules": "abc", "problem": "", "seen_ms": 900, "group": ""}
    assert told.items() >= expected.items()


def test_without_rules_nothing_is_said_of_what_is_switched_on():
    lanes = {"log": LaneState(), "crm": LaneState(waiting=2)}
    found = status_of(Config("routes.yaml", "", {}), 4, Snapshot(Counter(), lanes, {}, 0, 1000))
    assert (found["rules"], found["destinations"]["crm"]["state"]) == ("", "ok")


def test_a_paused_destination_that_is_gone_says_both():
    lanes = {name: LaneState() for name in ("log", "crm", "gone")}
    health = {name: {"paused": "1000", "pause_reason": "why"} for name in ("crm", "gone")}
    found = status_of(load(HEAD), 4, Snapshot(Counter(), lanes, health, 0, 61_000))["destinations"]
    assert ["paused", "paused, not in routes.yaml"] == [found[name]["state"] for name in ("crm", "gone")]


def test_what_is_used_of_the_limits_is_told():
    lanes = {"log": LaneState(), "warehouse": LaneState(), "crm": LaneState(fullest=50_000)}
    found = status_of(load(HEAD), 4, Snapshot(Counter(), lanes, {}, 0, 61_000))["destinations"]
    assert {"backlog": 1.0, "max_age": 0.0} == found["crm"]["limits_used"]
    assert {} == found["warehouse"]["limits_used"]


def test_rates_are_those_since_an_earlier_sample():
    lanes = {name: LaneState(oldest_ms=60_000 if name == "log" else 0) for name in ("log", "crm")}
    now = Snapshot(Counter({"accepted": 30, "delivered:crm": 8, "retried:crm:503": 2}), lanes, {}, 0, 61_000)
    earlier = Sample(57_000, {"accepted": 10, "routed": 0, "rejected": 0}, {}, {})
    found = status_of(load(HEAD), 4, now, earlier)
    assert (found["at"], found["rates_over_seconds"]) == ("1970-01-01T00:01:01.000Z", 4.0)
    assert found["per_second"] == {"accepted": 5.0, "routed": 0.0, "rejected": 0.0}
    assert found["destinations"]["crm"]["per_second"] == {"delivered": 2.0, "failed": 0.5}
    assert found["router"]["oldest_seconds"] == 1.0


def test_without_an_earlier_sample_rates_are_unknown():
    found = status_of(load(HEAD), 4, Snapshot(Counter(), {"log": LaneState(), "crm": LaneState()}, {}, 0, 1))
    assert (found["per_second"]["accepted"], found["rates_over_seconds"]) == (None, None)
    assert found["destinations"]["crm"]["per_second"] == {"delivered": None, "failed": None}


def test_a_destination_whose_group_has_no_worker_says_what_to_do():
    config = load(HEAD.replace("crm: {", "crm: { worker_group: slow,", 1))
    lanes = {"log": LaneState(), "crm": LaneState(waiting=2), "alerts": LaneState()}

    def found(*groups, **health):
        processes = [Process("worker", "here", 7, config.version, group=group) for group in groups]
        snapshot = Snapshot(Counter(), lanes, {"crm": health} if health else {}, 0, 1000, processes)
        rows = status_of(config, 4, snapshot)["destinations"]
        return {name: row["state"] for name, row in rows.items()}, rows["crm"]["reason"]

    states, reason = found("", "other")
    assert states == {"crm": "no worker", "alerts": "ok"}
    assert "`eventrouter work --group slow`" in reason
    assert found("", "slow")[0] == {"crm": "ok", "alerts": "ok"}
    assert found(paused="1000", pause_reason="why")[0]["crm"] == "paused"


def test_what_the_rules_do_not_serve_is_neither_on_hold_nor_tried_again():
    lanes = {name: LaneState(waiting=1) for name in ("log", "crm", "off", "gone")}
    hold = {"state": "hold", "until": "62000", "reason": "401"}
    snapshot = Snapshot(Counter(), lanes, dict.fromkeys(lanes, hold), 0, 61_000)
    rows = {name: row_of(load(HEAD), snapshot, name) for name in ("crm", "off", "gone")}
    assert {name: (row["state"], row["reason"], row["next_try_seconds"]) for name, row in rows.items()} == {
        "crm": ("on hold", "401", 1.0),
        "off": ("switched off", "", None),
        "gone": ("not in routes.yaml", "", None),
    }
