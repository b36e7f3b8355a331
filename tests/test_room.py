"""How much of the log is routed at once, and for whom, when the server's memory is short."""

from __future__ import annotations

import pytest

from eventrouter.lane import Item, Memory
from eventrouter.room import CUT_PERCENT, FULL_PERCENT, OVERHEAD, SPARE_PERCENT, Room, room

MB = 1_000_000
LIMIT = 100 * MB
NAMES = ["crm", "erp"]


def items(number: int = 10, size: int = 100_000, units: int = 1) -> list[Item]:
    return [Item(f"{one}-0", False, "", units, b"x" * size) for one in range(number)]


def memory(used: float, log: float = 0, warehouse: float = 0, crm: float = 0, erp: float = 0) -> Memory:
    """In percent of 100 MB."""
    return Memory(int(used * MB), LIMIT, int(log * MB), int(warehouse * MB), (int(crm * MB), int(erp * MB)))


def test_a_server_without_a_limit_has_room_for_all():
    assert Room(10) == room(memory(500)._replace(limit=0), 1, NAMES, items())


def test_with_much_room_all_is_routed_for_all():
    assert Room(10) == room(memory(50, crm=20), 1, NAMES, items())


def test_as_many_entries_are_taken_as_fit_when_each_event_goes_to_every_destination():
    assert Room(MB // int(2 * OVERHEAD * 100_000 + 100)) == room(memory(FULL_PERCENT - 1), 1, NAMES, items(100))
    assert Room(2) == room(memory(FULL_PERCENT - 1), 2, NAMES, items(100))


def test_without_destinations_the_log_moves_on_at_any_rate():
    assert Room(100) == room(memory(FULL_PERCENT - 1)._replace(ahead=()), 1, [], items(100))
    assert Room(1) == room(memory(120, log=90)._replace(ahead=()), 1, [], items(100))


def test_the_first_entry_may_have_what_is_left_and_not_only_this_shards_share():
    assert Room(1) == room(memory(FULL_PERCENT - 10, log=70), 64, NAMES, items(size=3 * MB))


@pytest.mark.parametrize(
    ("used", "log", "warehouse", "shards", "cut"),
    [
        (CUT_PERCENT - 1, 0, 0, 1, False),
        (CUT_PERCENT, 0, 0, 1, True),
        (CUT_PERCENT + 9, 5 / OVERHEAD, 5 / OVERHEAD, 1, False),
        (CUT_PERCENT + 10, 4.9 / OVERHEAD, 5 / OVERHEAD, 1, True),
        (CUT_PERCENT + 9, 2 / OVERHEAD, 1 / OVERHEAD, 4, False),
    ],
)
def test_when_destinations_have_much_those_with_a_backlog_get_no_more(used, log, warehouse, shards, cut):
    found = room(memory(used, log, warehouse, crm=10), shards, NAMES, items(size=1000))
    assert Room(10, frozenset({"crm"} if cut else ())) == found


def test_what_a_destination_may_have_in_any_case_is_shared_by_all_lanes():
    most = SPARE_PERCENT / 2 / 4 / OVERHEAD
    few = items(size=10)
    assert frozenset({"crm"}) == room(memory(70, crm=most + 0.01, erp=most - 0.01), 4, NAMES, few).cut


def test_what_a_dead_letter_costs_is_counted():
    assert 10 > room(memory(FULL_PERCENT - 0.01, crm=50, erp=50), 1, NAMES, items(100, size=10)).items
    assert 100 == room(memory(FULL_PERCENT - 0.2, crm=50, erp=50), 1, NAMES, items(100, size=10)).items


def test_a_full_server_waits_for_a_warehouse_that_has_much():
    assert 0 == room(memory(FULL_PERCENT, warehouse=5, log=30), 1, NAMES, items()).items
    assert 0 == room(memory(130, warehouse=2, log=10), 4, NAMES, items()).items


def test_when_destinations_fill_the_server_the_log_goes_on_without_them():
    full = memory(FULL_PERCENT, log=55, crm=30, erp=1)
    assert Room(1, frozenset({"crm"})) == room(full, 1, NAMES, items())
    full = memory(115, log=55, crm=30, erp=30)
    assert Room(1, frozenset(NAMES)) == room(full, 4, NAMES, items())
