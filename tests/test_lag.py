"""lag.py: for how long deliveries lay in their lane."""

from __future__ import annotations

from eventrouter.lag import BOUNDS, histogram, lag_counts
from eventrouter.lane import Item

NOW = 1_700_000_000_000


def item(age_ms: int, units: int = 1) -> Item:
    return Item(f"{NOW - age_ms}-3", False, "k", units, b"")


def test_deliveries_of_about_one_age_are_one_counter():
    found = lag_counts("crm", [item(700), item(900), item(1000)], NOW)
    assert {"lag:crm:1.0": 3, "lag_ms:crm": 2600} == found


def test_of_several_ages_each_counts_at_its_own():
    found = lag_counts("crm", [item(20), item(1_200_000), item(10**9), item(30)], NOW)
    assert {"lag:crm:0.1": 2, "lag:crm:3600.0": 1, "lag:crm:+Inf": 1, "lag_ms:crm": 1_001_200_050} == found


def test_units_count_and_a_clock_that_is_behind_is_no_lag():
    assert {"lag:warehouse:0.1": 200, "lag_ms:warehouse": 0} == lag_counts("warehouse", [item(-50, 200)], NOW)


def test_nothing_delivered_is_nothing():
    assert {} == lag_counts("crm", [], NOW)


def test_a_histogram_counts_up_to_each_bound():
    buckets, total = histogram({"lag:crm:0.1": 2, "lag:crm:5.0": 3, "lag:crm:+Inf": 1, "lag_ms:crm": 4500}, "crm")
    assert [*BOUNDS, "+Inf"] == [bound for bound, _ in buckets]
    assert [2, 2, 2, 5, 5, 5, 5, 5, 5, 5, 6] == [number for _, number in buckets]
    assert 4.5 == total
