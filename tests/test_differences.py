import pytest

from eventrouter.differences import Difference, differences, shown
from eventrouter.values import MISSING


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ({"a": 1}, {"a": 1.0, "b": 2}),
        ({"a": None}, {}),
        ({"a": None}, {"a": None}),
        ({"a": {"b": [1, {"c": "d"}]}}, {"a": {"b": [1, {"c": "d", "e": 1}], "f": 1}}),
        ({}, {"a": 1}),
        ("x", "x"),
    ],
)
def test_more_keys_than_expected_make_no_difference(expected, actual):
    assert list(differences(expected, actual)) == []


@pytest.mark.parametrize(
    ("expected", "actual", "found"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ("a.b", 1, 2)),
        ({"a": {"b": 1}}, {"a": {}}, ("a.b", 1, MISSING)),
        ({"a": {"b": 1}}, {"a": 7}, ("a", {"b": 1}, 7)),
        ({"a": [1, 2]}, {"a": [1]}, ("a", [1, 2], [1])),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, ("a[0].b", 1, 2)),
        ({"a": None}, {"a": 0}, ("a", None, 0)),
        (True, 1, ("", True, 1)),
        (0, False, ("", 0, False)),
        ("1", 1, ("", "1", 1)),
    ],
)
def test_each_difference_has_its_place_and_both_values(expected, actual, found):
    assert list(differences(expected, actual)) == [Difference(*found)]


def test_exactly_means_neither_more_nor_fewer_keys():
    found = list(differences({"a": None, "b": {}}, {"b": {"c": 1}, "d": 2}, exact=True))
    assert found == [Difference("a", None, MISSING), Difference("b.c", MISSING, 1), Difference("d", MISSING, 2)]


def test_numbers_differ_by_how_they_are_written_only_where_that_is_asked_for():
    one, other = {"a": [1, -0.0, 2.5]}, {"a": [1.0, 0.0, 2.5]}
    assert list(differences(one, other, exact=True)) == []
    found = list(differences(one, other, exact=True, written=True))
    assert [one.path for one in found] == ["a[0]", "a[1]"]


def test_a_difference_is_shown_as_in_a_diff():
    assert list(shown(Difference("a.b", "é", [1]))) == [("-", 'a.b: "é"', "red"), ("+", "a.b: [1]", "green")]
    assert list(shown(Difference("", MISSING, {"a": 1}))) == [("+", '{"a":1}', "green")]
