"""The words of lanes: addresses go to Redis keys and back."""

from __future__ import annotations

import pytest

from eventrouter.errors import EventRouterError
from eventrouter.lane import BUDGET_PERCENT, LEASE_MS, SHORT_LEASE_MS, FencedError, Lane


@pytest.mark.parametrize("name", ["log", "warehouse", "crm", "crm-eu_2", "a:b", "lane:x", "}:lane:"])
def test_a_lane_is_found_again_by_its_key(name):
    lane = Lane(3, name)
    assert lane == Lane.parse(lane.key)


def test_the_lanes_of_a_shard_lie_on_one_node_of_a_cluster():
    tags = {Lane(7, name).key.split("{")[1].split("}")[0] for name in ("log", "warehouse", "crm")}
    assert {"7"} == tags


def test_an_append_may_fill_no_more_of_the_memory_than_the_steps_that_drain_leave():
    assert 0 < BUDGET_PERCENT <= 80


def test_a_lease_outlives_the_renewals_that_a_busy_worker_misses():
    assert LEASE_MS / 3 < SHORT_LEASE_MS <= LEASE_MS


def test_being_fenced_off_is_an_error_of_our_own():
    assert issubclass(FencedError, EventRouterError)
