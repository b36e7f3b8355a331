"""Identity merges in any order, always flattened."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from eventrouter.builtin.warehouse.merges import load_merges, root
from eventrouter.builtin.warehouse.store import Store
from eventrouter.records import IdentityMerge
from warehouse_kit import NOW, opened, transaction

Triple = tuple[str, str, int]


@pytest.fixture
def store(warehouse_url: str) -> Iterator[Store]:
    with opened(warehouse_url) as store:
        yield store


def load(store: Store, *merges: Triple) -> None:
    with transaction(store):
        load_merges(
            store,
            [IdentityMerge(person_id=a, into_person_id=b, seq=seq, merged_at=NOW, reason="m") for a, b, seq in merges],
        )


def roots(store: Store) -> dict[str, str]:
    return dict(store.execute("SELECT person_id, root_person_id FROM identity_merges"))  # type: ignore[arg-type]


def expected(merges: Sequence[Triple]) -> dict[str, str]:
    newest: dict[str, Triple] = {}
    for merge in merges:
        if merge[0] != merge[1] and (merge[0] not in newest or merge[2] > newest[merge[0]][2]):
            newest[merge[0]] = merge
    edges = {a: (b, seq) for a, b, seq in newest.values()}
    return {person: root(person, edges) for person in edges}


def test_a_merge_is_kept_as_it_was_told(store: Store) -> None:
    load(store, ("a", "b", 1))
    assert [("a", "b", "b", 1, NOW, "m")] == store.execute(
        "SELECT person_id, into_person_id, root_person_id, seq, merged_at, reason FROM identity_merges"
    )


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_a_chain_ends_at_the_last_person_in_every_order(store: Store, order: tuple[int, ...]) -> None:
    chain = [("a", "b", 1), ("b", "c", 2), ("c", "d", 3)]
    for number in order:
        load(store, chain[number])
    assert {"a": "d", "b": "d", "c": "d"} == roots(store)


def test_a_chain_in_one_batch_is_flat_too(store: Store) -> None:
    load(store, ("x", "a", 0))
    load(store, ("c", "d", 3), ("a", "b", 1), ("b", "c", 2))
    assert {"x": "d", "a": "d", "b": "d", "c": "d"} == roots(store)


def test_a_repeat_and_an_older_merge_change_nothing(store: Store) -> None:
    load(store, ("a", "b", 5))
    load(store, ("a", "b", 5), ("a", "c", 4))
    assert {"a": "b"} == roots(store)


def test_a_newer_merge_of_the_same_person_takes_along_who_was_merged_into_it(store: Store) -> None:
    load(store, ("x", "a", 1), ("a", "b", 2), ("b", "z", 3))
    load(store, ("a", "c", 4))
    assert {"x": "c", "a": "c", "b": "z"} == roots(store)


def test_a_merge_into_oneself_is_nothing(store: Store) -> None:
    load(store, ("a", "a", 1))
    assert {} == roots(store)


@pytest.mark.parametrize("together", [True, False])
def test_a_ring_ends_where_the_newest_merges_lead(store: Store, together: bool) -> None:
    ring = [("x", "a", 1), ("a", "b", 2), ("b", "c", 3), ("c", "a", 4)]
    if together:
        load(store, *ring)
    else:
        for merge in ring:
            load(store, merge)
    assert {"x": "a", "a": "a", "b": "a", "c": "a"} == roots(store)
    load(store, ("a", "d", 5))
    assert {"x": "d", "a": "d", "b": "d", "c": "d"} == roots(store)


def test_root_of_equal_merges_in_a_ring_is_the_first_name() -> None:
    edges = {"b": ("c", 1), "c": ("b", 1), "x": ("c", 9)}
    assert ["b", "b", "b", "y"] == [root(person, edges) for person in ("b", "c", "x", "y")]


def test_any_order_and_any_batches_come_to_the_same_end(store: Store) -> None:
    dice = random.Random(7)
    for _ in range(60):
        people = [f"p{number}" for number in range(dice.randrange(2, 9))]
        merges = [(dice.choice(people), dice.choice(people), seq) for seq in range(dice.randrange(1, 12))]
        arriving = merges + dice.sample(merges, dice.randrange(len(merges) + 1))
        dice.shuffle(arriving)
        store.execute("DELETE FROM identity_merges")
        while arriving:
            size = dice.randrange(1, 5)
            load(store, *arriving[:size])
            del arriving[:size]
        assert expected(merges) == roots(store), merges


def test_more_people_than_fit_into_one_question(store: Store) -> None:
    load(store, *((f"a{number}", "b", number) for number in range(1200)))
    load(store, ("b", "c", 5000), ("a7", "d", 5001))
    found = roots(store)
    assert 1201 == len(found)
    assert "d" == found.pop("a7")
    assert {"c"} == set(found.values())
