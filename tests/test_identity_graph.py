"""The rules by which ids become persons, without a database."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from eventrouter.builtin.identity.graph import (
    ANONYMOUS_ID,
    USER_ID,
    Batch,
    Graph,
    clean,
    key_of,
    new_person_id,
)

A = key_of(ANONYMOUS_ID, "a")
B = key_of(ANONYMOUS_ID, "b")
U = key_of(USER_ID, "u")
V = key_of(USER_ID, "v")


def event(anonymous: str | None = None, user: str | None = None, **more: Any) -> dict[str, Any]:
    """An event with these ids, absent as Segment's SDKs leave them out."""
    ids = {"anonymousId": anonymous, "userId": user}
    return {"type": "track", "messageId": "m", **{name: id_ for name, id_ in ids.items() if id_ is not None}, **more}


def walk(snapshot: dict[bytes, tuple[str, bytes | None]], *events: dict[str, Any]) -> tuple[Graph, list[str | None]]:
    """The graph after `events` over what is known, and the person of each."""
    graph = Graph(snapshot)
    return graph, graph.walk(Batch(events))


def test_an_unknown_anonymous_id_makes_a_person_without_a_user() -> None:
    graph, (person,) = walk({}, event("a"))
    assert [(p.id, p.user) for p, _ in graph.created] == [(person, None)]
    assert [key for key, _, _ in graph.tied] == [A]


def test_an_unknown_user_id_makes_a_person_with_that_user() -> None:
    graph, (person,) = walk({}, event(user="u"))
    assert [(p.id, p.user) for p, _ in graph.created] == [(person, U)]


def test_known_ids_change_nothing() -> None:
    known = {A: ("p", U), U: ("p", U), B: ("q", None)}
    graph, persons = walk(known, event("a"), event("a", "u"), event(user="u"), event("b"))
    assert persons == ["p", "p", "p", "q"]
    assert not graph.changed


def test_both_unknown_make_one_person() -> None:
    graph, persons = walk({}, event("a", "u"), event("a"), event(user="u"))
    assert len(set(persons)) == 1
    assert {key for key, _, _ in graph.tied} == {A, U}


def test_an_unknown_anonymous_id_joins_the_known_user() -> None:
    graph, persons = walk({U: ("p", U)}, event("a", "u"))
    assert persons == ["p"]
    assert [(key, person.id) for key, person, _ in graph.tied] == [(A, "p")]
    assert graph.merged == []


def test_an_unknown_user_joins_the_person_of_an_anonymous_id_without_a_user() -> None:
    graph, persons = walk({A: ("p", None)}, event("a", "u"))
    assert persons == ["p"]
    assert [(person.id, person.user) for person in graph.joined] == [("p", U)]
    assert graph.created == []


def test_the_person_of_an_anonymous_id_without_a_user_is_merged_into_the_known_user() -> None:
    graph, persons = walk({A: ("p", None), U: ("q", U)}, event("a"), event("a", "u"), event("a"))
    assert persons == ["p", "q", "q"]
    assert [(gone.id, into.id) for gone, into, _ in graph.merged] == [("p", "q")]


def test_two_known_users_are_never_merged() -> None:
    graph, persons = walk({A: ("p", U), U: ("p", U), V: ("q", V)}, event("a", "v"), event("a"))
    assert persons == ["q", "p"]
    assert not graph.changed


def test_an_unknown_user_on_the_device_of_another_gets_a_person_of_its_own() -> None:
    graph, persons = walk({A: ("p", U), U: ("p", U)}, event("a", "v"), event("a"))
    assert persons[1] == "p"
    assert [(person.id, person.user) for person, _ in graph.created] == [(persons[0], V)]
    assert [key for key, _, _ in graph.tied] == [V]


def test_an_identify_amid_a_batch_ties_for_the_later_events_of_the_batch() -> None:
    graph, persons = walk({U: ("p", U)}, event("a"), event("a", "u", type="identify"), event("a"))
    first = persons[0]
    assert persons == [first, "p", "p"]
    assert first != "p"
    assert [(gone.id, into.id) for gone, into, _ in graph.merged] == [(first, "p")]


def test_an_alias_ties_its_previous_id_as_an_anonymous_id() -> None:
    graph, persons = walk({B: ("p", None)}, event(None, "u", type="alias", previousId="b"), event("b"))
    assert persons == ["p", "p"]
    assert [key for key, _, _ in graph.tied] == [U]


def test_an_alias_ties_a_previous_id_that_nobody_knows() -> None:
    _, persons = walk({}, event(None, "u", type="alias", previousId="b"), event("b"))
    assert persons[0] == persons[1]


def test_an_alias_of_two_users_ties_nothing() -> None:
    graph, persons = walk({V: ("q", V)}, event(None, "u", type="alias", previousId="v"), event(user="v"))
    assert persons[1] == "q"
    assert persons[0] != "q"
    assert graph.merged == []


def test_an_alias_ties_its_anonymous_id_too() -> None:
    known = {A: ("p", None), B: ("q", None), U: ("r", U)}
    graph, persons = walk(known, event("a", "u", type="alias", previousId="b"))
    assert persons == ["r"]
    assert [(gone.id, into.id) for gone, into, _ in graph.merged] == [("q", "r"), ("p", "r")]


@pytest.mark.parametrize("previous", ["u", "null", "", None, 7])
def test_an_alias_without_a_previous_id_that_counts_is_like_any_event(previous: Any) -> None:
    graph, _ = walk({}, event(None, "u", type="alias", previousId=previous))
    assert [key for key, _, _ in graph.tied] == [U]


def test_a_previous_id_means_nothing_on_other_types() -> None:
    graph, _ = walk({}, event(None, "u", previousId="b"))
    assert [key for key, _, _ in graph.tied] == [U]


def test_a_blocked_user_id_is_as_good_as_none() -> None:
    graph, persons = walk({A: ("p", None)}, event("a", "null"), event("b", "null"))
    assert persons[0] == "p"
    assert persons[1] != "p"
    assert [key for key, _, _ in graph.tied] == [B]


def test_an_event_with_nothing_but_blocked_ids_has_no_person() -> None:
    graph, persons = walk({}, event("undefined", "0"), event("[object Object]"), event())
    assert persons == [None, None, None]
    assert not graph.changed


@pytest.mark.parametrize("value", [True, 1, 1.5, {}, [], ["a"]])
def test_what_is_no_text_is_no_id(value: Any) -> None:
    _, persons = walk({}, event(value, value))
    assert persons == [None]


def test_the_same_value_as_anonymous_id_and_as_user_id_are_two_identifiers() -> None:
    _, persons = walk({}, event("x"), event(user="x"))
    assert persons[0] != persons[1]


def test_a_key_is_16_bytes_whatever_the_value() -> None:
    values = ["a", "ä" * 30_000, "a\0b", "\ud800", "💡"]
    assert [len(key_of(ANONYMOUS_ID, value)) for value in values] == [16] * 5


def test_a_key_is_the_same_in_every_version() -> None:
    assert key_of(ANONYMOUS_ID, "a").hex() == "ed50de29f5891ae083df52446c9dcda1"


@pytest.mark.parametrize(
    ("value", "kept"),
    [("plain", "plain"), ("a\0b", "a\ufffdb"), ("é\0💡", "é\ufffd💡"), ("\ud800x", "\ufffdx"), ("💡", "💡")],
)
def test_a_value_is_kept_as_databases_can_hold_it(value: str, kept: str) -> None:
    assert clean(value) == kept


def test_person_ids_are_version_7_uuids_and_differ() -> None:
    ids = {new_person_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {uuid.UUID(id_).version for id_ in ids} == {7}
    assert {uuid.UUID(id_).hex for id_ in ids} == ids
