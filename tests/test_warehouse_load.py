"""One batch, one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from eventrouter.builtin.warehouse.load import Item, Loaded, Loader
from eventrouter.builtin.warehouse.prepare import prepare
from eventrouter.builtin.warehouse.store import Store
from eventrouter.builtin.warehouse.typed import Names
from eventrouter.records import AnyRecord, DeadLetterReplayed, Identity, IdentityMerge, RejectedEvent
from warehouse_kit import NOW, RECEIVED, SENT, at, letter, messages, opened, record


@pytest.fixture
def store(warehouse_url: str) -> Iterator[Store]:
    with opened(warehouse_url) as store:
        yield store


@pytest.fixture
def loader(store: Store) -> Loader:
    return Loader(store, Names(), max_tables=100, max_columns=200)


def load(loader: Loader, *records: AnyRecord) -> Loaded:
    return loader.load(prepare(messages(*records), NOW), NOW)


def contents(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    return {table: sorted(store.execute(f'SELECT * FROM "{table}"'), key=repr) for table in store.relations()}


def identity(value: str, person: str, seq: int) -> Identity:
    return Identity(type="user_id", value=value, person_id=person, seq=seq, seen_at=NOW)


EVERYTHING: list[AnyRecord] = [
    record("m1", properties={"total": 10, "on": True}),
    record("m2", properties={"total": 10.5, "on": "no"}),
    record("m3", "identify", userId="u1", traits={"email": "a"}),
    record("m4", "identify", userId="u1", traits={"email": "b"}),
    record("m5", "page", name="Home"),
    record("m6", "screen", name="Home"),
    record("m7", "group", groupId="g1", traits={"name": "Acme"}),
    record("m8", "alias", userId="u1", previousId="anon"),
    record("m9", event="Users"),
    RejectedEvent(id="r1", source="website", received_at=RECEIVED, code="id_required", message="no id", payload="{}"),
    letter(),
    DeadLetterReplayed(source="website", message_id="m1", destination="crm", replayed_at=at(30)),
    identity("u1", "p1", 1),
    IdentityMerge(person_id="p0", into_person_id="p1", seq=2, merged_at=NOW, reason="m3"),
]


def test_an_event_is_kept_whole(store: Store, loader: Loader) -> None:
    one = record("m1", userId="u1", properties={"big": 10**25, "text": "ü"})
    load(loader, one)
    [row] = store.execute(
        "SELECT id, source, type, anonymous_id, user_id, person_id, received_at, timestamp, rules FROM events"
    )
    assert ("m1", "website", "track", "anon", "u1", "person-1", RECEIVED, SENT, "r1") == row
    [(payload,)] = store.execute("SELECT CAST(payload AS text) FROM events")
    assert f'"big":{10**25},"text":"ü"' in payload


def test_every_record_reaches_its_table(store: Store, loader: Loader) -> None:
    loaded = load(loader, *EVERYTHING)
    assert Loaded(events=9, late_duplicates=0, discarded=1) == loaded
    counts = {table: len(rows) for table, rows in contents(store).items() if rows}
    assert {
        "events": 9,
        "resolved_events": 9,
        "tracks": 3,
        "order_completed": 2,
        "_users": 1,
        "identifies": 2,
        "users": 1,
        "pages": 1,
        "screens": 1,
        "groups": 1,
        "accounts": 1,
        "aliases": 1,
        "rejected_events": 1,
        "dead_letters": 1,
        "discarded_values": 1,
        "identities": 1,
        "identity_merges": 1,
        "eventrouter_tables": 2,
        "eventrouter_migrations": 3,
    } == counts
    assert [("b",)] == store.execute("SELECT email FROM users")


def test_a_batch_that_runs_again_changes_nothing(store: Store, loader: Loader) -> None:
    load(loader, *EVERYTHING)
    before = contents(store)
    again = load(loader, *EVERYTHING)
    assert Loaded(events=0, late_duplicates=9, discarded=0) == again
    load(loader, *reversed(EVERYTHING))
    assert before == contents(store)


def test_an_old_identify_that_comes_again_does_not_undo_a_newer_one(store: Store, loader: Loader) -> None:
    load(loader, record("m1", "identify", userId="u1", traits={"email": "a"}))
    load(loader, record("m2", "identify", userId="u1", traits={"email": "b"}))
    load(loader, record("m1", "identify", userId="u1", traits={"email": "a"}))
    assert [("b",)] == store.execute("SELECT email FROM users")


def test_the_same_id_of_another_source_is_another_event(store: Store, loader: Loader) -> None:
    loaded = load(loader, record("m1"), record("m1", source="app"), record("m1"))
    assert Loaded(events=2, late_duplicates=1) == loaded
    assert [("app",), ("website",)] == store.execute("SELECT source_name FROM tracks ORDER BY 1")


def test_a_failed_batch_leaves_nothing_behind_and_the_next_one_works(store: Store, loader: Loader) -> None:
    bad = Item(record("m2", properties={"fresh": 1}), "msg_2", payload=None)  # type: ignore[arg-type]
    with pytest.raises(Exception, match=r"(?i)null"):
        loader.load([*prepare(messages(record("m1", event="New", properties={"a": 1})), NOW), bad], NOW)
    assert [(0,)] == store.execute("SELECT count(*) FROM events")
    assert store.columns("new") is None
    load(loader, record("m1", event="New", properties={"a": 1}))
    assert [(1,)] == store.execute("SELECT count(*) FROM new")


def test_an_untyped_item_is_in_events_only(store: Store, loader: Loader) -> None:
    [item] = prepare(messages(record("m1")), NOW)
    item.typed = False
    loader.load([item], NOW)
    assert [(1, 0)] == store.execute("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM tracks)")


def test_columns_appear_with_their_first_value(store: Store, loader: Loader) -> None:
    load(loader, record("m1", properties={"a": None, "b": 1}))
    assert "a" not in (store.columns("order_completed") or {})
    load(loader, record("m2", properties={"a": "x"}))
    assert [("m1", None, 1), ("m2", "x", None)] == store.execute("SELECT id, a, b FROM order_completed ORDER BY id")


def test_two_workers_add_columns_side_by_side(warehouse_url: str, store: Store, loader: Loader) -> None:
    with opened(warehouse_url) as other_store:
        other = Loader(other_store, Names(), max_tables=100, max_columns=200)
        load(loader, record("m1", properties={"a": 1}))
        load(other, record("m2", properties={"a": 2, "b": "x"}))
        load(loader, record("m3", properties={"b": 3, "c": 1}))
        load(other, record("m4", event="New"), record("m5", properties={"c": "text"}))
        load(loader, record("m6", event="New"))
    assert [("m1", None), ("m2", "x"), ("m3", "3"), ("m5", None)] == store.execute(
        "SELECT id, b FROM order_completed ORDER BY id"
    )
    assert [("c", '"text"')] == store.execute("SELECT column_name, value FROM discarded_values")
    assert [(2,)] == store.execute("SELECT count(*) FROM new")


def test_a_wide_table_takes_what_the_batch_has(store: Store, loader: Loader) -> None:
    load(loader, record("m1", properties={f"p{number}": number for number in range(150)}))
    load(loader, record("m2", properties={"p149": 7}))
    assert [("m1", 0, 149), ("m2", None, 7)] == store.execute("SELECT id, p0, p149 FROM order_completed ORDER BY id")


def test_of_two_identities_the_higher_seq_holds(store: Store, loader: Loader) -> None:
    load(loader, identity("u1", "p2", 2), identity("u1", "p1", 1), identity("u2", "p1", 1))
    load(loader, identity("u1", "p1", 1), identity("u2", "p3", 3))
    assert [("u1", "p2"), ("u2", "p3")] == store.execute("SELECT value, person_id FROM identities ORDER BY value")


def test_resolved_events_show_todays_person(store: Store, loader: Loader) -> None:
    load(loader, record("m1"), IdentityMerge(person_id="person-1", into_person_id="person-2", seq=1, merged_at=NOW))
    load(loader, IdentityMerge(person_id="person-2", into_person_id="person-3", seq=2, merged_at=NOW))
    assert [("person-1", "person-3")] == store.execute(
        "SELECT e.person_id, r.person_id FROM events e JOIN resolved_events r ON r.id = e.id AND r.source = e.source"
    )


def test_an_empty_batch_is_fine(loader: Loader) -> None:
    assert Loaded() == loader.load([], NOW)
