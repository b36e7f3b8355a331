"""Metrics: every counter has a name, a label for its reason, and Prometheus can read all of it."""

from __future__ import annotations

from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from eventrouter.config import Config
from eventrouter.counters import LaneState, Snapshot, read_snapshot
from eventrouter.metrics import STATE, WHY, render
from eventrouter.records import DEAD_LETTER_CLASSES
from eventrouter.spool import SpoolState
from eventrouter.status import status_of
from metrics_reference import PAGE, reference

NOW = 1_700_000_000_000


def snapshot(**changes) -> Snapshot:
    values = {
        "counts": Counter(
            {
                "accepted": 10,
                "routed": 7,
                "duplicates": 2,
                "accepted:web": 10,
                "routed:web": 6,
                "duplicates:web": 1,
                "unreadable": 2,
                "unreadable:web": 1,
                "events:crm": 7,
                "discarded:crm:waiting": 3,
                "forgotten:crm:permanent": 2,
                "rejected:web:event_not_defined": 3,
                "to:crm": 7,
                "delivered:crm": 4,
                "filtered:crm:no consent: marketing": 5,
                "dead:crm:permanent": 1,
                "replayed:crm:permanent": 1,
                "retried:crm:503": 8,
                "log_out": 9,
                "enrichment_failed:geo": 2,
                "warehouse:late_duplicates": 6,
                "turn_failed:log": 4,
                "lag:crm:0.5": 3,
                "lag:crm:60.0": 1,
                "lag_ms:crm": 21_500,
            }
        ),
        "lanes": {"log": LaneState(1, 0, NOW - 2500), "crm": LaneState(2, 1, 0)},
        "health": {"log": {}, "crm": {"state": "hold"}},
        "dedup_since_ms": NOW - 60_000,
        "now_ms": NOW,
        "memory_used": 300,
        "memory_max": 1000,
    }
    return Snapshot(**{**values, **changes})


def samples(data: bytes) -> dict[tuple[str, ...], float]:
    """Each sample of ours by its name and the values of its labels, in the order of their names."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(data.decode())
        for sample in family.samples
        if sample.name.startswith("eventrouter_")
    }


def test_what_the_shards_count_is_shown_with_its_reasons():
    expected = {
        ("eventrouter_up",): 1,
        ("eventrouter_events_accepted_total",): 10,
        ("eventrouter_events_routed_total",): 7,
        ("eventrouter_events_duplicates_total",): 2,
        ("eventrouter_source_events_accepted_total", "web"): 10,
        ("eventrouter_source_events_routed_total", "web"): 6,
        ("eventrouter_source_events_duplicates_total", "web"): 1,
        ("eventrouter_events_unreadable_total",): 2,
        ("eventrouter_source_events_unreadable_total", "web"): 1,
        ("eventrouter_destination_events_total", "crm"): 7,
        ("eventrouter_deliveries_discarded_total", "crm", "waiting"): 3,
        ("eventrouter_deliveries_forgotten_total", "crm", "permanent"): 2,
        ("eventrouter_events_rejected_total", "event_not_defined", "web"): 3,
        ("eventrouter_source_events_rejected_total", "web"): 3,
        ("eventrouter_deliveries_routed_total", "crm"): 7,
        ("eventrouter_deliveries_delivered_total", "crm"): 4,
        ("eventrouter_deliveries_filtered_total", "crm", "no consent: marketing"): 5,
        ("eventrouter_deliveries_dead_total", "permanent", "crm"): 1,
        ("eventrouter_deliveries_replayed_total", "permanent", "crm"): 1,
        ("eventrouter_failures_retried_total", "crm", "503"): 8,
        ("eventrouter_enrichments_failed_total", "geo"): 2,
        ("eventrouter_warehouse_total", "late_duplicates"): 6,
        ("eventrouter_waiting", "log"): 1,
        ("eventrouter_waiting", "crm"): 2,
        ("eventrouter_parked_keys", "crm"): 1,
        ("eventrouter_oldest_seconds", "log"): 2.5,
        ("eventrouter_oldest_seconds", "crm"): 0,
        ("eventrouter_dedup_window_seconds",): 60,
        ("eventrouter_server_memory_used_bytes",): 300,
        ("eventrouter_server_memory_max_bytes",): 1000,
        ("eventrouter_server_memory_budget_used",): 0.4,
        ("eventrouter_turns_failed_total", "log"): 4,
    }
    found = samples(render(snapshot()))
    assert expected == {name: found.get(name) for name in expected}


def test_for_how_long_deliveries_waited_is_a_histogram():
    found = samples(render(snapshot()))
    buckets = [found[("eventrouter_delivery_seconds_bucket", "crm", le)] for le in ("0.1", "0.5", "60.0", "+Inf")]
    assert [0, 3, 4, 4] == buckets
    assert 4 == found[("eventrouter_delivery_seconds_count", "crm")]
    assert 21.5 == found[("eventrouter_delivery_seconds_sum", "crm")]


def test_without_a_server_it_still_says_that_it_is_away_and_what_was_refused():
    assert {("eventrouter_up",): 0} == samples(render(None))
    refused = samples(render(None, {"collector_requests_refused": {("unavailable",): 2}}))
    assert {("eventrouter_up",): 0, ("eventrouter_collector_requests_refused_total", "unavailable"): 2} == refused


def test_what_this_collector_refused_and_mended_is_shown():
    counted = {
        "collector_requests_refused": {("too_large",): 3},
        "collector_values_mended": {("web", "not_a_number"): 4},
        "collector_webhooks_ignored": {("web",): 5},
        "collector_measurements_dropped": {(): 6},
    }
    found = samples(render(snapshot(), counted))
    assert 6 == found[("eventrouter_collector_measurements_dropped_total",)]
    assert 5 == found[("eventrouter_collector_webhooks_ignored_total", "web")]
    assert 3 == found[("eventrouter_collector_requests_refused_total", "too_large")]
    assert 4 == found[("eventrouter_collector_values_mended_total", "not_a_number", "web")]


def test_counters_that_alerts_watch_are_there_before_they_count():
    known = status() | {"sources": {"app": {}}, "enrichments": {"geo": {}}}
    found = samples(render(snapshot(counts=Counter()), status=known))
    for class_ in DEAD_LETTER_CLASSES:
        assert 0 == found[("eventrouter_deliveries_dead_total", class_, "crm")]
    for name in ("deliveries_routed", "deliveries_delivered", "turns_failed"):
        assert 0 == found[(f"eventrouter_{name}_total", "crm")]
    assert 0 == found[("eventrouter_turns_failed_total", "log")]
    for name in ("accepted", "rejected"):
        assert 0 == found[(f"eventrouter_source_events_{name}_total", "app")]
    assert 0 == found[("eventrouter_enrichments_failed_total", "geo")]


def test_every_metric_is_documented():
    assert reference() == PAGE.read_text("utf-8")


def test_the_process_itself_is_shown():
    assert b"process_resident_memory_bytes" in render(None) or b"python_info" in render(None)


def test_nothing_remembered_is_a_window_of_nothing():
    assert 0 == samples(render(snapshot(dedup_since_ms=0)))[("eventrouter_dedup_window_seconds",)]


def test_names_with_quotes_and_line_ends_are_escaped():
    counts = Counter({'filtered:crm:a "quoted"\nreason': 1})
    found = samples(render(snapshot(counts=counts)))
    assert 1 == found[("eventrouter_deliveries_filtered_total", "crm", 'a "quoted"\nreason')]


def test_a_spool_is_shown_with_and_without_a_server():
    spool = SpoolState(
        bytes=100, events=3, oldest_seconds=2.5, spooled=9, drained=6, unreadable=1, can_keep=True, max_bytes=1000
    )
    expected = {
        ("eventrouter_spool_bytes",): 100,
        ("eventrouter_spool_max_bytes",): 1000,
        ("eventrouter_spool_events",): 3,
        ("eventrouter_spool_oldest_seconds",): 2.5,
        ("eventrouter_spool_spooled_total",): 9,
        ("eventrouter_spool_drained_total",): 6,
        ("eventrouter_spool_unreadable_total",): 1,
    }
    for known in (None, snapshot()):
        found = samples(render(known, spool=spool))
        assert expected == {name: found.get(name) for name in expected}


def status(state: str = "ok", **changes) -> dict:
    row = {"state": state, "next_try_seconds": None, "limits_used": {}} | changes
    return {"destinations": {"crm": row}, "router": {"state": "ok"}}


@pytest.mark.parametrize(
    ("state", "number", "why"),
    [
        ("ok", 0, set()),
        ("failing", 0, {"failing"}),
        ("no worker", 0, {"no_worker"}),
        ("backing off", 1, {"backoff"}),
        ("on hold", 2, {"hold"}),
        ("paused, not in routes.yaml", 3, {"paused", "no_rules"}),
        ("switched off", 0, {"switched_off"}),
    ],
)
def test_a_destinations_state_is_a_number_and_why_nothing_is_sent_a_label(state, number, why):
    found = samples(render(snapshot(), status=status(state)))
    assert number == found[("eventrouter_destination_state", "crm")]
    stopped = {key[2]: value for key, value in found.items() if key[0] == "eventrouter_destination_stopped"}
    assert set(WHY.values()) == set(stopped)
    assert why == {name for name, value in stopped.items() if value}


def test_the_next_try_is_there_while_one_is_due():
    assert b"next_try_seconds{" not in render(snapshot(), status=status())
    found = samples(render(snapshot(), status=status("on hold", next_try_seconds=2.5)))
    assert 2.5 == found[("eventrouter_next_try_seconds", "crm")]


@pytest.mark.parametrize(("state", "value"), [("ok", 0), ("failing", 1)])
def test_a_router_that_fails_is_told(state, value):
    found = samples(render(snapshot(), status=status() | {"router": {"state": state}}))
    assert value == found[("eventrouter_routing_failing",)]


def test_what_is_used_of_limits_is_told():
    found = samples(render(snapshot(), status=status(limits_used={"backlog": 0.5, "max_age": 0.25})))
    assert 0.5 == found[("eventrouter_limit_used", "crm", "backlog")]
    assert 0.25 == found[("eventrouter_limit_used", "crm", "max_age")]


async def test_all_of_a_status_that_was_read_can_be_shown(lanes):
    read = await read_snapshot(lanes, 2, ["crm"])
    found = samples(render(read, status=status_of(Config("routes.yaml", "", {}), 2, read)))
    missing = {family.name for family in STATE} - {name.removeprefix("eventrouter_") for name, *_ in found}
    assert {"processes", "next_try_seconds"} == missing
    assert found[("eventrouter_server_memory_used_bytes",)] > 0
    assert found[("eventrouter_server_memory_max_bytes",)] == 256 * 1024 * 1024


def test_what_the_sums_of_the_audit_miss_is_told():
    found = samples(render(snapshot(counts=Counter({"accepted": 3, "accepted:app": 3, "log_out": 1, "routed": 1}))))
    assert 2 - 1 == found[("eventrouter_audit_difference", "event log")]
