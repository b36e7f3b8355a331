"""What the rest of eventrouter asks of the warehouse."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from eventrouter.builtin.warehouse.dead_letters import load_dead_letters
from eventrouter.builtin.warehouse.load import Loader
from eventrouter.builtin.warehouse.merges import load_merges
from eventrouter.builtin.warehouse.prepare import prepare
from eventrouter.builtin.warehouse.queries import (
    count_dead_letters,
    count_events,
    find_dead_letters,
    find_events,
    find_rejected,
    find_stored,
    scan_events,
    scan_ids,
)
from eventrouter.builtin.warehouse.store import Store
from eventrouter.builtin.warehouse.typed import Names
from eventrouter.events import StoredEvent
from eventrouter.records import DeadLetterReplayed, IdentityMerge, RejectedEvent
from eventrouter.warehouse import EventId
from warehouse_kit import NOW, RECEIVED, at, event, letter, messages, opened, record, transaction

MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture
def store(warehouse_url: str) -> Iterator[Store]:
    with opened(warehouse_url) as store:
        yield store


def test_events_come_back_exactly_as_they_were(store: Store) -> None:
    properties = {"big": 10**30, "small": 1e-300, "float": 10.0, "text": "ü\n\"'\\", "null": None, "nested": {"a": [1]}}
    loader = Loader(store, Names(), max_tables=9, max_columns=99)
    records = [record("m1", properties=properties), record("m2"), record("m1", source="app")]
    loader.load(prepare(messages(*records), NOW), NOW)
    found = find_events(store, [("app", "m1"), ("website", "m1"), ("website", "gone"), ("website", "m1")])
    assert [StoredEvent("app", event("m1")), StoredEvent("website", event("m1", properties=properties))] == found
    assert type(found[1].event["properties"]["float"]) is float
    assert [] == find_events(store, [])


def test_more_events_than_fit_into_one_question(store: Store) -> None:
    loader = Loader(store, Names(), max_tables=9, max_columns=99)
    loader.load(prepare(messages(*(record(f"m{number}") for number in range(1100))), NOW), NOW)
    assert 1100 == len(find_events(store, [("website", f"m{number}") for number in range(1100)]))


def scan(store: Store, **asked: Any) -> list[StoredEvent]:
    defaults: dict[str, Any] = {"since": None, "until": None, "newest_first": False, "limit": 100, "after": None}
    return scan_events(store, **defaults | asked)


def test_events_are_read_in_the_order_of_their_arrival_page_by_page(store: Store) -> None:
    loader = Loader(store, Names(), max_tables=9, max_columns=99)
    arrivals = [("m3", 30), ("m1", 10), ("m2", 20), ("m4", 20), ("m0", 20)]
    records = [record(name, receivedAt=at(seconds)) for name, seconds in arrivals]
    loader.load(prepare(messages(*records, record("m2", source="app", receivedAt=at(20))), NOW), NOW)

    def pages(**asked: Any) -> list[tuple[str, str]]:
        found: list[StoredEvent] = []
        while page := scan(store, limit=2, after=found[-1] if found else None, **asked):
            found += page
        return [(event.source, event.message_id) for event in found]

    web = "website"
    expected = [(web, "m1"), ("app", "m2"), (web, "m0"), (web, "m2"), (web, "m4"), (web, "m3")]
    assert expected == pages()
    assert expected[::-1] == pages(newest_first=True)
    middle = {"since": MIDNIGHT + timedelta(seconds=20), "until": MIDNIGHT + timedelta(seconds=30)}
    assert expected[1:5] == pages(**middle)
    assert expected[4:0:-1] == pages(newest_first=True, **middle)


def test_identities_are_read_newest_first_page_by_page(store: Store) -> None:
    loader = Loader(store, Names(), max_tables=9, max_columns=99)
    arrivals = [("m3", 30), ("m1", 10), ("m2", 20), ("m4", 20), ("m0", 20)]
    records = [record(name, receivedAt=at(seconds)) for name, seconds in arrivals]
    loader.load(prepare(messages(*records, record("m2", source="app", receivedAt=at(20))), NOW), NOW)

    def pages(since: datetime | None = None, until: datetime | None = None) -> list[tuple[str, str, str]]:
        found: list[EventId] = []
        while page := scan_ids(store, since=since, until=until, limit=2, after=found[-1] if found else None):
            found += page
        return [(one.source, one.message_id, one.received_at) for one in found]

    web, twenty = "website", at(20)
    middle = [(web, "m4", twenty), (web, "m2", twenty), (web, "m0", twenty), ("app", "m2", twenty)]
    assert [(web, "m3", at(30)), *middle, (web, "m1", at(10))] == pages()
    assert middle == pages(MIDNIGHT + timedelta(seconds=20), MIDNIGHT + timedelta(seconds=30))


def test_an_event_is_found_by_its_id_with_the_person_of_today(store: Store) -> None:
    loader = Loader(store, Names(), max_tables=9, max_columns=99)
    loader.load(prepare(messages(record("m1"), record("m1", source="app"), record("m2")), NOW), NOW)
    merge = IdentityMerge(person_id="person-1", into_person_id="person-2", seq=1, merged_at=at(5))
    with transaction(store):
        load_merges(store, [merge])
    [app, website] = find_stored(store, "m1")
    assert ("app", "website") == (app["source"], website["source"])
    assert {"id": "m1", "person_id": "person-1", "person_today": "person-2", "rules": "r1"}.items() <= website.items()
    assert (RECEIVED, event("m1")) == (website["received_at"], msgspec.json.decode(website["payload"]))
    assert [] == find_stored(store, "gone")


def test_refused_events_are_found_by_their_id_or_their_code(store: Store) -> None:
    def refused(id_: str, code: str, message_id: str | None) -> RejectedEvent:
        return RejectedEvent(
            id=id_, source="web", received_at=at(1), code=code, message="no", message_id=message_id, payload="{}"
        )

    records = [refused("r1", "bad", "m1"), refused("r2", "worse", "m1"), refused("r3", "bad", None)]
    Loader(store, Names(), max_tables=9, max_columns=99).load(prepare(messages(*records), NOW), NOW)

    def ids(message_id: str | None = None, code: str | None = None, limit: int = 9, after: str = "") -> list[str]:
        return [row["id"] for row in find_rejected(store, message_id=message_id, code=code, limit=limit, after=after)]

    assert (["r1", "r2"], ["r1", "r3"], ["r1"]) == (ids("m1"), ids(code="bad"), ids("m1", "bad"))
    assert (["r1", "r2"], ["r3"]) == (ids(limit=2), ids(limit=2, after="r2"))
    [row] = find_rejected(store, message_id="m1", code="bad", limit=9, after="")
    told = {"id": "r1", "source": "web", "received_at": at(1), "code": "bad", "message": "no", "message_id": "m1"}
    assert told == row


def find(store: Store, **asked: Any) -> list[str]:
    return [row["message_id"] for row in find_dead_letters(store, **asked)]


@pytest.fixture
def letters(store: Store) -> Store:
    with transaction(store):
        load_dead_letters(
            store,
            [
                letter("m3", last_at=at(30), class_="attempts"),
                letter("m1", last_at=at(10), event_name="Order Completed"),
                letter("m2", last_at=at(20), destination="mail"),
                letter("m4", last_at=at(20)),
                letter("m5", last_at=at(5)),
            ],
            [
                DeadLetterReplayed(source="website", message_id="m5", destination="crm", replayed_at=at(40)),
                DeadLetterReplayed(source="website", message_id="m6", destination="crm", replayed_at=at(40)),
            ],
        )
    return store


def test_dead_letters_come_oldest_first_without_those_sent_again(letters: Store) -> None:
    assert ["m1", "m2", "m4", "m3"] == find(letters)
    assert ["m5", "m1", "m2", "m4", "m3"] == find(letters, replayed=True)


def test_dead_letters_are_filtered(letters: Store) -> None:
    assert ["m2"] == find(letters, destination="mail")
    assert ["m3"] == find(letters, class_="attempts")
    assert ["m1"] == find(letters, event="Order Completed")
    assert ["m2"] == find(letters, message_id="m2")
    assert ["m1", "m2", "m4", "m3"] == find(letters, destination=None)
    assert [] == find(letters, destination="'; DROP TABLE dead_letters; --")


def test_dead_letters_are_found_by_a_part_of_their_reason(store: Store) -> None:
    with transaction(store):
        load_dead_letters(store, [letter("m1", reason="HTTP 400: 100% wrong"), letter("m2", reason="HTTP 500_0")], [])
    assert (["m1", "m2"], ["m1"], ["m2"]) == tuple(find(store, reason=part) for part in ("http", "0% WRONG", "500_"))
    assert [] == find(store, reason="HTTP%0") == find(store, reason="4_0")
    assert {("crm", "permanent"): 1} == count_dead_letters(store, reason="wrong", destination="crm")


def test_dead_letters_are_counted_without_those_sent_again(letters: Store) -> None:
    assert {("crm", "permanent"): 2, ("crm", "attempts"): 1, ("mail", "permanent"): 1} == count_dead_letters(letters)


def test_since_counts_and_until_does_not(letters: Store) -> None:
    assert ["m2", "m4"] == find(letters, since=MIDNIGHT + timedelta(seconds=20), until=MIDNIGHT + timedelta(seconds=30))
    rome = timezone(timedelta(hours=1))
    assert ["m3"] == find(letters, since=(MIDNIGHT + timedelta(seconds=21)).astimezone(rome))
    assert ["m3"] == find(letters, since=(MIDNIGHT + timedelta(seconds=21)).replace(tzinfo=None))


def test_pages_follow_one_another_without_gap_or_repeat(letters: Store) -> None:
    seen: list[str] = []
    after = None
    while True:
        page = find_dead_letters(letters, replayed=True, limit=2, after=after)
        if not page:
            break
        seen.extend(row["message_id"] for row in page)
        after = tuple(page[-1][name] for name in ("last_at", "source", "message_id", "destination"))
    assert ["m5", "m1", "m2", "m4", "m3"] == seen


def test_a_dead_letter_has_the_tables_columns(letters: Store) -> None:
    [row] = find_dead_letters(letters, event="Order Completed")
    assert {
        "source": "website",
        "message_id": "m1",
        "destination": "crm",
        "route": "all",
        "class": "permanent",
        "reason": "HTTP 400",
        "attempts": 1,
        "first_at": at(10),
        "last_at": at(10),
        "status": None,
        "response": "",
        "traceback": "",
        "payload": None,
        "event_type": "",
        "event_name": "Order Completed",
        "rules": "",
        "replayed_at": None,
        "outcome": None,
        "again": "",
    } == row


def test_events_of_todays_person_are_found_and_counted(store: Store) -> None:
    records: list[Any] = [record(f"m{number}") for number in range(1, 5)]
    for number, one in enumerate(records, start=1):
        one.person_id = f"p{number}"
    merges = [("p1", "p2", 1), ("p2", "p3", 2)]
    records += [IdentityMerge(person_id=a, into_person_id=b, seq=seq, merged_at=at(1)) for a, b, seq in merges]
    Loader(store, Names(), max_tables=9, max_columns=99).load(prepare(messages(*records), NOW), NOW)

    def ids(person: str) -> list[str]:
        return sorted(one.message_id for one in scan(store, person=person))

    assert ["m1", "m2", "m3"] == ids("p3") == ids("p1") == ids("p2")
    assert (["m4"], []) == (ids("p4"), ids("p9"))
    assert (4, 3, 0) == (count_events(store), count_events(store, person="p1"), count_events(store, person="p9"))
    assert 0 == count_events(store, until=MIDNIGHT - timedelta(days=9))


def test_dead_letters_of_several_events_are_found(letters: Store) -> None:
    assert ["m1", "m4"] == find(letters, message_id=["m4", "m1", "m9"])
    assert [] == find(letters, message_id=[])
