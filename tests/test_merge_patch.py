"""merge_patch.py: RFC 7396, and patches that are not JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from eventrouter.merge_patch import merged


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # the RFC's own examples, as far as both are objects
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_examples_of_the_rfc(target: Any, patch: Any, result: Any) -> None:
    assert result == merged(target, patch)


@pytest.mark.parametrize("value", ["text", "Zoë 🦉", 2**70, -1, 0.5, True, [], [None, {"a": [1]}], {}])
def test_every_json_value_arrives_as_it_is(value: Any) -> None:
    assert {"old": 1, "new": value} == merged({"old": 1}, {"new": value})


def test_what_is_written_as_json_otherwise_arrives_as_json() -> None:
    patch = {"pair": (1, 2), "at": datetime(2026, 11, 24, 17, tzinfo=UTC)}
    assert {"pair": [1, 2], "at": "2026-11-24T17:00:00Z"} == merged({}, patch)


def test_neither_side_is_changed_and_nothing_is_shared_with_the_patch() -> None:
    target = {"context": {"os": {"name": "Linux"}}, "same": {}}
    patch = {"context": {"os": {"version": "6"}, "tags": ["a"]}}
    first, second = merged(target, patch), merged(target, patch)
    first["context"]["os"]["name"] = "changed"
    first["context"]["tags"].append("changed")
    assert {"context": {"os": {"name": "Linux"}}, "same": {}} == target
    assert {"context": {"os": {"version": "6"}, "tags": ["a"]}} == patch
    assert {"context": {"os": {"name": "Linux", "version": "6"}, "tags": ["a"]}, "same": {}} == second


CIRCLE: dict[str, Any] = {}
CIRCLE["self"] = CIRCLE


@pytest.mark.parametrize(
    ("patch", "error"),
    [
        ({"a": object()}, TypeError),
        ({1: "a"}, TypeError),
        ({"a": {None: "a"}}, TypeError),
        ({"a": float("nan")}, ValueError),
        ({"a": {"b": float("inf")}}, ValueError),
        ({"a": "\ud800"}, UnicodeEncodeError),
        ({"\ud800": 1}, UnicodeEncodeError),
        ({"a": ["\ud800"]}, UnicodeEncodeError),
        (CIRCLE, RecursionError),
    ],
)
def test_what_is_not_json_is_refused(patch: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        merged({}, patch)
