"""Dead letters and replays in any order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest

from eventrouter.builtin.warehouse.dead_letters import COLUMNS, EPOCH, load_dead_letters
from eventrouter.builtin.warehouse.store import Store
from eventrouter.records import DeadLetter, DeadLetterReplayed
from warehouse_kit import at, letter, opened, transaction


@pytest.fixture
def store(warehouse_url: str) -> Iterator[Store]:
    with opened(warehouse_url) as store:
        yield store


def replayed(
    second: int, message_id: str = "m1", outcome: str = "sent", answers: int | None = None
) -> DeadLetterReplayed:
    """A mark of this second; it names the letter of the second `answers`, unless an older version wrote it."""
    return DeadLetterReplayed(
        source="website",
        message_id=message_id,
        destination="crm",
        replayed_at=at(second),
        outcome=outcome,
        last_at="" if answers is None else at(answers),
    )


def load(store: Store, *records: Any) -> None:
    with transaction(store):
        letters = [record for record in records if isinstance(record, DeadLetter)]
        load_dead_letters(store, letters, [record for record in records if isinstance(record, DeadLetterReplayed)])


def rows(store: Store) -> list[tuple[Any, ...]]:
    return store.execute("SELECT message_id, reason, attempts, last_at, replayed_at FROM dead_letters ORDER BY 1")


def outcomes(store: Store) -> list[tuple[Any, ...]]:
    return store.execute("SELECT message_id, outcome FROM dead_letters ORDER BY 1")


def test_a_dead_letter_is_kept_whole(store: Store) -> None:
    whole = letter(
        status=400,
        response="no",
        traceback="t",
        payload='{"a":1}',
        event_type="track",
        event_name="A",
        rules="r",
        again="x",
    )
    load(store, whole)
    names = ["class_" if name == "class" else name for name in COLUMNS]
    selected = ", ".join(f'"{name}"' for name in COLUMNS)
    assert [tuple(getattr(whole, name) for name in names)] == store.execute(f"SELECT {selected} FROM dead_letters")


def test_a_later_failure_replaces_an_earlier_one_in_either_order(store: Store) -> None:
    early, late = letter("m1", reason="early"), letter("m1", reason="late", attempts=9, last_at=at(20))
    load(store, early)
    load(store, late)
    load(store, early)
    load(store, letter("m2", reason="late", attempts=9, last_at=at(20)))
    load(store, letter("m2", reason="early"), letter("m3", reason="early"), letter("m3", reason="second of one time"))
    assert [
        ("m1", "late", 9, at(20), None),
        ("m2", "late", 9, at(20), None),
        ("m3", "early", 1, at(10), None),
    ] == rows(store)


def in_every_order(store: Store, *records: DeadLetter | DeadLetterReplayed, then: Sequence[Any] = ()) -> set[Any]:
    """What is left of one delivery, but for its id, when its records come one by one, in each order; at last `then`."""
    store.execute("DELETE FROM dead_letters")
    orders = [(*order, *then) for order in itertools.permutations(records)]
    for step in zip(*orders, strict=True):
        load(store, *(msgspec.structs.replace(one, message_id=f"m{number}") for number, one in enumerate(step)))
    left = rows(store)
    assert len(orders) == len(left)
    return {row[1:] for row in left}


def test_a_replay_marks_its_dead_letter_in_every_order_however_often(store: Store) -> None:
    left = in_every_order(store, letter(), replayed(30), letter(), replayed(30), replayed(20))
    assert {("HTTP 400", 1, at(10), at(30))} == left


def test_a_delivery_that_fails_again_is_no_longer_replayed(store: Store) -> None:
    records = letter(), replayed(30), letter(reason="again", last_at=at(40))
    assert {("again", 1, at(40), None)} == in_every_order(store, *records, then=[replayed(30)])
    assert {("again", 1, at(40), at(50))} == in_every_order(store, *records, then=[replayed(30), replayed(50)])


@pytest.mark.parametrize("second", [5, 30, 50], ids=["behind", "on time", "ahead"])
def test_a_mark_is_of_the_letter_that_it_names_whatever_its_clock_says(store: Store, second: int) -> None:
    first, mark, again = letter(), replayed(second, answers=10), letter(reason="again", last_at=at(40))
    assert {("HTTP 400", 1, at(10), at(second))} == in_every_order(store, first, mark, first, mark)
    for then in ([], [first], [mark], [first, mark]):
        assert {("again", 1, at(40), None)} == in_every_order(store, first, mark, again, then=then)


def test_a_letter_and_its_second_death_in_one_batch_with_the_mark_between_is_dead(store: Store) -> None:
    load(store, letter(), replayed(50, answers=10), letter(reason="again", last_at=at(40)))
    assert [("m1", "again", 1, at(40), None)] == rows(store)


def test_two_deaths_that_were_both_dealt_with_stay_so_in_every_order(store: Store) -> None:
    records = letter(), replayed(45, answers=10), letter(last_at=at(40)), replayed(44, answers=40, outcome="discarded")
    assert {("HTTP 400", 1, at(40), at(44))} == in_every_order(store, *records)
    assert {"discarded"} == {outcome for _, outcome in outcomes(store)}


def test_of_marks_of_two_versions_in_one_batch_none_is_lost(store: Store) -> None:
    load(store, letter(last_at=at(40)), replayed(30, answers=10), replayed(50))
    load(store, letter("m2", last_at=at(40)), replayed(30, "m2"), replayed(45, "m2", answers=40))
    assert [at(50), at(45)] == [row[4] for row in rows(store)]


def test_one_without_a_time_that_anybody_can_read_is_marked(store: Store) -> None:
    load(store, letter(last_at="?"))
    load(store, msgspec.structs.replace(replayed(30), last_at=EPOCH))
    assert [at(30)] == [row[4] for row in rows(store)]


def test_what_became_of_it_goes_with_the_mark_and_with_a_new_failure(store: Store) -> None:
    load(
        store, letter(), replayed(30), replayed(31, outcome="discarded"), letter("m2"), letter("m3"), replayed(30, "m3")
    )
    assert [("m1", "discarded"), ("m2", None), ("m3", "sent")] == outcomes(store)
    load(store, replayed(30, "m4", outcome="filtered: consent"))
    load(store, letter("m4"), letter(reason="again", last_at=at(40)))
    assert [("m1", None), ("m2", None), ("m3", "sent"), ("m4", "filtered: consent")] == outcomes(store)


def test_all_at_once_is_the_same_as_one_by_one(store: Store) -> None:
    load(store, letter(), replayed(30), letter("m2"), letter(reason="again", last_at=at(40)), replayed(30, "m2"))
    assert [("m1", "again", 1, at(40), None), ("m2", "HTTP 400", 1, at(10), at(30))] == rows(store)


def test_a_replay_without_its_dead_letter_waits_for_it(store: Store) -> None:
    load(store, replayed(30))
    assert [("",)] == store.execute("SELECT class FROM dead_letters")
    load(store, letter())
    assert [("m1", "HTTP 400", 1, at(10), at(30))] == rows(store)
    assert [("permanent",)] == store.execute("SELECT class FROM dead_letters")


def test_a_time_that_nobody_can_read_does_not_lose_the_letter(store: Store) -> None:
    load(store, letter(first_at="?", last_at="?"))
    assert [("m1", "HTTP 400", 1, "1970-01-01T00:00:00.000Z", None)] == rows(store)
