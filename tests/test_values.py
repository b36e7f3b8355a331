import msgspec
import pytest

from eventrouter import values
from eventrouter.values import MISSING, MismatchError, TemplateError


def test_missing_is_falsy_and_every_comparison_with_it_is_false():
    assert not MISSING
    for other in (MISSING, 1, "a", None, [], {}, True):
        assert not (MISSING == other or MISSING != other or other == MISSING or other != MISSING)
        assert not (MISSING < other or MISSING > other or MISSING <= other or MISSING >= other)
    assert not (5 < MISSING or 5 > MISSING or "a" <= MISSING)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (True, 1, False),
        (0.0, False, False),
        (True, True, True),
        (1, 1.0, True),
        ([1, {"a": [True]}], [1.0, {"a": [True]}], True),
        ([1, {"a": [True]}], [1, {"a": [1]}], False),
    ],
)
def test_true_and_1_are_not_the_same(one, other, alike):
    assert one == other
    assert values.same(one, other) is alike


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (True, "true"),
        (None, "null"),
        (9.5, "9.5"),
        (10, "10"),
        (2**70, "1180591620717411303424"),
        ([1, {"a": "ü"}], '[1,{"a":"ü"}]'),
    ],
)
def test_values_stand_in_text_as_in_json(value, text):
    assert values.text_of(value) == text


@pytest.mark.parametrize(
    ("value", "key", "found"),
    [
        ({"a": 1}, "a", 1),
        ({"a": 1}, "b", MISSING),
        ({"1": 1}, 1, MISSING),
        ([1, 2], 1, 2),
        ([1, 2], -1, 2),
        ([1, 2], 2, MISSING),
        ([1, 2], -3, MISSING),
        ([1, 2], True, MISSING),
        ([1, 2], "a", MISSING),
        ("ab", 0, "a"),
        ("ab", "upper", MISSING),
        (5, "real", MISSING),
        (None, "a", MISSING),
        (MISSING, "a", MISSING),
    ],
)
def test_get_reads_objects_by_name_and_lists_by_position(value, key, found):
    assert repr(values.get(value, key)) == repr(found)


def test_cut_takes_a_part():
    assert (values.cut("abc", None, 2), values.cut([1, 2, 3], 1, None)) == ("ab", [2, 3])
    assert values.cut(5, None, 2) is MISSING
    assert values.cut("abc", MISSING, 2) is MISSING
    with pytest.raises(MismatchError):
        values.cut("abc", "x", None)


def test_what_is_made_of_something_missing_is_missing():
    assert values.make_list(1, MISSING) is MISSING
    assert values.make_object(("a",), MISSING) is MISSING
    assert values.join_text("a", MISSING) is MISSING
    assert values.join_text("a", None) is MISSING
    assert (values.make_list(1), values.make_object(("a",), 1), values.join_text("a", 1)) == ([1], {"a": 1}, "a1")


@pytest.mark.parametrize(
    "make",
    [
        lambda: values.join_text("a" * 200_000, "a" * 100_000),
        lambda: values.bounded_text("a" * 300_000),
        lambda: values.bounded_list([0] * 10_001),
        lambda: values.bounded_number(2**5000),
        lambda: values.bounded_number(float("inf")),
        lambda: values.bounded_number(float("nan")),
    ],
)
def test_nothing_grows_beyond_its_bound(make):
    with pytest.raises(TemplateError):
        make()


@pytest.mark.parametrize(
    "value",
    [None, True, 1, 2**4000, 2.5, "text", [], [1, "a", None], {}, {"key": {"deep": [1, 2.5, "x" * 100]}}, MISSING],
)
def test_a_value_weighs_at_most_its_length_as_json(value):
    length = 7 if value is MISSING else len(msgspec.json.encode(value))
    assert length / 3 <= values.weight(value) <= length


def test_a_value_that_is_in_it_a_thousand_times_weighs_a_thousand_times():
    assert values.weight([["x" * 98] * 10] * 10) >= 10_000


def test_nothing_is_weighed_behind_the_most():
    deep = ["a"] * 1000
    for _ in range(40):
        deep = [deep] * 1000
    assert 100 < values.weight(deep, 100) < 2000


def test_a_text_of_json_that_is_too_long_is_refused():
    for text in ("a" * 300_000, "😀" * 300_000):
        with pytest.raises(TemplateError):
            values.text_of([text])
    assert len(values.text_of(["😀" * 200_000])) == 200_004
