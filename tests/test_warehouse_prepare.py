"""Messages become items to load."""

from __future__ import annotations

from typing import Any

import msgspec

from eventrouter.builtin.warehouse.prepare import prepare, refusal
from eventrouter.records import MAX_PAYLOAD, EventRecord, RejectedEvent
from warehouse_kit import NOW, letter, messages, record


def test_a_clean_record_goes_on_as_it_is() -> None:
    records = [record("m1", properties={"a": 1}), letter()]
    items = prepare(messages(*records), NOW)
    assert records == [item.record for item in items]
    assert items[0].record is records[0]
    assert records[0].event == msgspec.json.decode(items[0].payload)
    assert items[0].typed


def test_what_no_database_takes_is_replaced_in_record_and_payload() -> None:
    [item, other] = prepare(messages(record("m\0", properties={"a\0": "\ud800"}), letter(response="a\0b")), NOW)
    assert isinstance(item.record, EventRecord)
    assert {"a\ufffd": "\ufffd"} == item.record.event["properties"]
    assert ("website", "person-1", "r1") == (item.record.source, item.record.person_id, item.record.rules)
    assert item.record.event == msgspec.json.decode(item.payload)
    assert "a\ufffdb" == other.record.response  # type: ignore[union-attr]


def deep() -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(5000):
        value = {"a": value}
    return value


def test_what_is_no_event_becomes_a_note_and_costs_no_neighbour() -> None:
    nameless = EventRecord(source="website", event={"type": "track"})
    typeless = EventRecord(source="website", event={"messageId": "m3", "type": None})
    records = [
        record("m1"),
        nameless,
        record("m2", properties=deep()),
        typeless,
        record("m4", properties={"a": 10**5000}),
    ]
    items = prepare(messages(*records, record("m5")), NOW)
    notes = [item.record for item in items[1:5]]
    assert all(isinstance(note, RejectedEvent) for note in notes)
    assert ["warehouse_refused"] * 4 == [note.code for note in notes]  # type: ignore[union-attr]
    assert [None, "m2", "m3", "m4"] == [note.message_id for note in notes]  # type: ignore[union-attr]
    assert [records[0], record("m5")] == [items[0].record, items[5].record]


def test_a_note_is_the_same_at_every_try_and_bounded() -> None:
    one = record("m1", properties={"a": "x" * 100_000})
    note = refusal(one, "msg_1", ValueError("first line\nsecond"), NOW)
    assert "refused_msg_1" == note.id
    assert "ValueError: first line; of its payload the first 32768 bytes are kept" == note.message
    assert MAX_PAYLOAD == len(note.payload)
    assert ("website", "m1", NOW) == (note.source, note.message_id, note.received_at)


def test_a_note_about_an_event_that_is_kept_says_so_and_repeats_nothing() -> None:
    note = refusal(record("m1"), "msg_1", ValueError("no"), NOW, kept=True)
    assert "" == note.payload
    assert "kept in events, but not in the typed tables: ValueError: no" == note.message
