"""What a routed batch leads to, as it goes into one atomic step."""

from __future__ import annotations

import msgspec
import pytest

from enrich_kit import event, everything_to
from eventrouter import moves as moves_module
from eventrouter.delivery import decode
from eventrouter.events import StoredEvent, lane_key
from eventrouter.log_entry import encode_entry
from eventrouter.moves import Moves
from eventrouter.records import DeadLetter, EventRecord, unpack


def events(*numbers: int, source: str = "web", **fields: object) -> list[StoredEvent]:
    return [StoredEvent(source, event(number, **fields)) for number in numbers]


def made(some: list[StoredEvent], *destinations: str, room: int = 100) -> Moves:
    moves = Moves("abc", dict.fromkeys(destinations, room))
    moves.add(some, everything_to(*destinations)(some))
    return moves


def test_each_event_goes_to_the_warehouse_and_by_the_rules_to_destinations():
    moves = made(events(1, 2), "crm", "erp")
    appends = {append.lane: append for append in moves.appends()}
    assert {"crm", "erp", "warehouse"} == set(appends)
    [(key, units, data), _] = appends["crm"].items
    assert (lane_key("anonymous"), 1, "m1", "to:crm") == (key, units, decode(data).message_id, appends["crm"].count)
    [(_, units, data)] = appends["warehouse"].items
    assert 2 == units == len(unpack(data))


def test_what_a_destination_has_no_room_for_is_a_dead_letter_and_counted():
    moves = made(events(1, 2, 3), "crm", room=1)
    [crm, warehouse] = moves.appends()
    assert 1 == len(crm.items)
    records = [record for _, _, data in warehouse.items for record in unpack(data)]
    assert ["m1", "m2", "m3"] == [one.event["messageId"] for one in records if isinstance(one, EventRecord)]
    assert ["m2", "m3"] == [one.message_id for one in records if isinstance(one, DeadLetter)]
    assert {"to:crm": 2, "dead:crm:backlog_full": 2} == moves.counts


def test_the_bytes_of_deliveries_and_about_those_of_dead_letters_are_known():
    moves = made(events(1, 2, 3), "crm", "erp")
    assert sum(len(data) for append in moves.appends()[:2] for _, _, data in append.items) == moves.bytes
    assert 300 < made(events(1), "crm", room=0).bytes < 1000


def test_want_of_room_and_want_of_memory_are_told_apart():
    moves = Moves("abc", {"crm": 0, "erp": 100}, frozenset({"erp"}))
    moves.add(events(1), everything_to("crm", "erp")(events(1)))
    assert {"crm": moves_module.BACKLOG_FULL, "erp": moves_module.MEMORY_SHORT} == {
        letter.destination: letter.reason for letter in moves.letters
    }
    assert {"backlog_full"} == {letter.class_ for letter in moves.letters}


def test_events_are_counted_by_source_and_for_each_destination_that_there_is():
    moves = Moves("abc", {})
    moves.count([*events(1, 1, 2), *events(1, 1, source="app")], [*events(1, 2), *events(1, source="app")], ["crm"])
    totals = {"routed": 3, "duplicates": 2, "events:crm": 3}
    by_source = {"routed:web": 2, "duplicates:web": 1, "routed:app": 1, "duplicates:app": 1}
    assert totals | by_source == moves.counts


def test_a_batch_of_duplicates_alone_is_counted_too():
    moves = Moves("abc", {})
    moves.count(events(1, 1), [], ["crm"])
    assert {"duplicates": 2, "duplicates:web": 2} == +moves.counts


def test_nothing_leads_to_nothing():
    assert [] == made([], "crm").appends()


def test_records_are_packed_by_number_and_by_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(moves_module, "PACK_BYTES", 2000)
    moves = made([*events(*range(20), pad="x" * 300), *events(99, pad="x" * 5000)])
    [append] = moves.appends()
    assert all(len(data) <= 2000 for _, _, data in append.items[:-1])
    assert 21 == sum(units for _, units, _ in append.items)
    assert 21 == sum(len(unpack(data)) for _, _, data in append.items)


def test_what_nobody_can_read_is_counted_by_source_where_that_stands_in_front():
    good = [msgspec.json.encode(["web", event(1)]), msgspec.json.encode(["app", event(2)])]
    lost = [b'["web",5]', b'["we b",{}]']
    moves = Moves("abc", {})
    moves.count_unreadable(4, encode_entry([*good, *lost]), [*events(1), *events(2, source="app")])
    moves.count_unreadable(2, encode_entry(good)[:-9], [])
    moves.count_unreadable(3, b"nonsense", [])
    assert {"unreadable": 7, "unreadable:web": 2, "unreadable:app": 1} == moves.counts


def test_of_an_entry_that_says_less_events_than_it_has_nobody_can_tell_the_sources():
    moves = Moves("abc", {})
    moves.count_unreadable(1, encode_entry([b'["web",5]', b'["web",5]']), [])
    assert {"unreadable": 1} == moves.counts
