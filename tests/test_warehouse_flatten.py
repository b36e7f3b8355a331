"""Nested objects become columns."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventrouter.builtin.warehouse import flatten
from eventrouter.builtin.warehouse.flatten import Clash, Flattener

OURS = frozenset({"id", "user_id"})


def test_objects_flatten_and_arrays_stay() -> None:
    value = {"address": {"street": "Elm", "geo": {"lat": 1.5}}, "tags": ["a"], "plan": "pro"}
    expected = {"address_street": "Elm", "address_geo_lat": 1.5, "tags": ["a"], "plan": "pro"}
    assert (expected, []) == Flattener().flatten(value)


def test_a_prefix_comes_first() -> None:
    assert ({"context_page_url": "/"}, []) == Flattener("context").flatten({"page": {"url": "/"}})


def test_null_and_empty_objects_have_no_column() -> None:
    assert ({"c": []}, []) == Flattener().flatten({"a": None, "b": {}, "c": [], "d": {"e": {}}})


def test_our_columns_and_the_contexts_are_left_to_them() -> None:
    value = {"id": 1, "User ID": 2, "context_ip": 3, "context": {"ip": 4}, "order": 5}
    expected = {"_id": 1, "_user_id": 2, "_context_ip": 3, "_order": 5}
    assert (expected, [Clash("_context_ip", 4)]) == Flattener(taken=OURS).flatten(value)


def test_objects_below_the_limit_stay_whole() -> None:
    value: Any = {"end": 1}
    for _ in range(flatten.MAX_DEPTH):
        value = {"a": value}
    assert ({"a_a_a_a_a": {"end": 1}}, []) == Flattener().flatten(value)


@pytest.mark.parametrize(
    "value",
    [
        {"userName": "a", "user_name": "b", "User Name": "c"},
        {"User Name": "c", "userName": "a", "user_name": "b"},
        {"user_name": "b", "User Name": "c", "userName": "a"},
    ],
)
def test_of_two_names_for_one_column_the_columns_own_spelling_wins_in_any_order(value: dict[str, Any]) -> None:
    assert ({"user_name": "b"}, [Clash("user_name", "c"), Clash("user_name", "a")]) == Flattener().flatten(value)


def test_a_nested_and_a_flat_name_for_one_column_clash() -> None:
    assert ({"a_b": 1}, [Clash("a_b", 2)]) == Flattener().flatten({"a": {"b": 1}, "A b": 2, "a_b": 1})


def test_a_null_loses_no_column_and_equal_values_lose_nothing() -> None:
    assert ({"user_name": "a"}, []) == Flattener().flatten({"userName": "a", "user_name": None, "User Name": "a"})
    assert ({"is_on": 1}, [Clash("is_on", True)]) == Flattener().flatten({"is_on": 1, "isOn": True})


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flatten, "MAX_KNOWN", 3)
    flattener = Flattener()
    value = {f"k{number}": number for number in range(10)} | {"long" * 100: 1}
    first, second = flattener.flatten(value), flattener.flatten(value)
    assert first == second
    assert 3 == len(flattener._root.below)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.dictionaries(st.text(max_size=4), inner, max_size=4) | st.lists(inner, max_size=2),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=4), _json, max_size=5))
def test_the_order_of_keys_does_not_matter(value: dict[str, Any]) -> None:
    turned = dict(reversed(value.items()))
    columns, lost = Flattener(taken=OURS).flatten(value)
    other, also_lost = Flattener(taken=OURS).flatten(turned)
    assert columns == other
    assert sorted(map(repr, lost)) == sorted(map(repr, also_lost))
    assert not OURS & columns.keys()
