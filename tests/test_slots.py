"""slots.py: so many turns at once, and in the order in which their lanes have waited."""

from __future__ import annotations

import pytest

from eventrouter import slots as slots_module
from eventrouter.lane import Lane
from eventrouter.slots import CALL_SECONDS, LATE_SECONDS, LONGEST_SECONDS, TURNS, TURNS_PER_DESTINATION, Slots


class Time:
    """The time that slots see."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def time(monkeypatch):
    one = Time()
    monkeypatch.setattr(slots_module, "time", one)
    return one


def lanes(number, name="crm", first=0):
    return [Lane(shard, name) for shard in range(first, first + number)]


@pytest.fixture
def full():
    """All slots of crm are taken."""
    slots = Slots()
    assert [0.0] * TURNS_PER_DESTINATION == [slots.take(lane) for lane in lanes(TURNS_PER_DESTINATION)]
    return slots


def wait(slots, *waiting):
    """These lanes ask, find nothing, and are deferred."""
    for lane in waiting:
        assert slots.take(lane) > 0
        slots.deferred(lane, f"job {lane.shard}")


FIRST, SECOND, THIRD = lanes(3, first=50)


def test_a_destination_that_takes_its_slots_leaves_those_of_the_others(full):
    assert full.take(FIRST) > 0
    assert 0.0 == full.take(Lane(0, "erp"))
    assert [0.0] * 20 == [full.take(lane) for lane in lanes(20, "warehouse")]


def test_all_destinations_together_have_so_many_slots_and_router_and_warehouse_their_own():
    slots = Slots()
    taken = [slots.take(lane) for name in range(40) for lane in lanes(TURNS_PER_DESTINATION, f"to-{name}")]
    assert TURNS == taken.count(0.0)
    assert [0.0] * 20 == [slots.take(lane) for name in ("warehouse", "log") for lane in lanes(10, name)]


def test_a_slot_that_is_given_back_can_be_taken(full):
    assert full.give_back(Lane(0, "crm")) is None
    assert 0.0 == full.take(FIRST)
    assert full.take(SECOND) > 0


def test_the_lanes_of_a_destination_that_wait_ask_some_twenty_times_a_second_however_many_they_are(full, time):
    waiting = lanes(56, first=8)
    for _ in range(3):
        delays = [full.take(lane) for lane in waiting]
        assert 10 < sum(1 / delay for delay in delays) < 25
    assert max(delays) <= 1.2 * LONGEST_SECONDS


def test_who_has_waited_longest_is_the_next_and_asks_soonest(full):
    wait(full, FIRST, SECOND, THIRD)
    wait(full, FIRST)  # asking again costs nobody his place
    assert full.take(FIRST) < full.take(THIRD)
    full.deferred(FIRST, "again")
    assert (FIRST, "again") == full.give_back(Lane(0, "crm"))
    assert (SECOND, "job 51") == full.give_back(Lane(1, "crm"))


def test_a_slot_is_kept_for_the_lane_that_was_called(full):
    wait(full, FIRST, SECOND)
    full.give_back(Lane(0, "crm"))
    assert full.take(SECOND) > 0
    assert full.take(Lane(0, "crm")) > 0  # it has just had its turn
    assert 0.0 == full.take(FIRST)


def test_a_lane_that_is_gone_is_called_no_more_and_the_next_one_is_instead(full):
    wait(full, FIRST, SECOND)
    assert (FIRST, "job 50") == full.give_back(Lane(0, "crm"))
    assert (SECOND, "job 51") == full.gone(FIRST)
    assert full.gone(SECOND) is None
    assert 0.0 == full.take(THIRD)


def test_no_more_lanes_are_called_than_there_are_slots(full):
    wait(full, FIRST, SECOND)
    full.give_back(Lane(0, "crm"))
    assert 0.0 == full.take(Lane(0, "erp"))
    assert full.give_back(Lane(0, "erp")) is None


def test_who_comes_new_takes_what_those_who_wait_leave(full):
    wait(full, FIRST)
    full.give_back(Lane(0, "crm"))
    full.give_back(Lane(1, "crm"))
    assert 0.0 == full.take(SECOND)


def test_a_lane_that_does_not_come_again_is_not_waited_for(full, time):
    wait(full, FIRST)
    assert full.others_wait(Lane(0, "crm"))
    time.now += LONGEST_SECONDS + LATE_SECONDS
    assert not full.others_wait(Lane(0, "crm"))
    assert full.give_back(Lane(0, "crm")) is None
    assert 0.0 == full.take(SECOND)


def test_for_a_lane_that_was_called_and_does_not_come_a_slot_is_kept_no_longer_than_a_moment(full, time):
    wait(full, FIRST)
    assert (FIRST, "job 50") == full.give_back(Lane(0, "crm"))
    assert full.take(SECOND) > 0
    time.now += CALL_SECONDS
    assert 0.0 == full.take(THIRD)


def test_lanes_of_others_wait_for_a_slot_when_all_slots_are_taken():
    slots = Slots()
    names = [f"to-{number}" for number in range(TURNS // TURNS_PER_DESTINATION)]
    for name in names:
        assert {0.0} == {slots.take(lane) for lane in lanes(TURNS_PER_DESTINATION, name)}
    wait(slots, FIRST)
    assert slots.others_wait(Lane(0, names[0]))
    assert not slots.others_wait(Lane(0, "warehouse"))
    assert slots.give_back(Lane(0, "warehouse")) is None
    assert (FIRST, "job 50") == slots.give_back(Lane(0, names[0]))
    assert 0.0 == slots.take(FIRST)


def test_of_other_destinations_nobody_waits_while_there_are_slots(full):
    wait(full, FIRST)
    assert 0.0 == full.take(Lane(0, "erp"))
    assert not full.others_wait(Lane(0, "erp"))
    assert full.give_back(Lane(0, "erp")) is None
