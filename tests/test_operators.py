import pytest

from eventrouter.operators import Operators, checked_filter
from eventrouter.values import MAX_MADE, MISSING, MismatchError, TemplateError, weight


@pytest.fixture
def lenient():
    return Operators(strict=False)


@pytest.fixture
def strict():
    return Operators(strict=True)


@pytest.mark.parametrize(
    ("name", "a", "b", "result"),
    [
        ("add", 1, 2.5, 3.5),
        ("add", "a", "b", "ab"),
        ("add", [1], [2], [1, 2]),
        ("sub", 5, 2, 3),
        ("mul", 2, 2**70, 2**71),
        ("div", 1, 2, 0.5),
        ("floordiv", 7, 2, 3),
        ("mod", 7, 2, 1),
    ],
)
def test_arithmetic(strict, name, a, b, result):
    assert getattr(strict, name)(a, b) == result


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "floordiv", "mod"])
@pytest.mark.parametrize(("a", "b"), [(MISSING, 1), (1, MISSING), (None, 1), (1, None), ("a", MISSING)])
def test_arithmetic_with_missing_or_null_is_missing_and_no_mismatch(strict, name, a, b):
    assert getattr(strict, name)(a, b) is MISSING
    assert strict.mismatches == 0


@pytest.mark.parametrize(
    ("name", "a", "b"),
    [
        ("mul", "a", 3),
        ("mul", [1], 3),
        ("mod", "%d", 1),
        ("add", "a", 1),
        ("sub", True, 1),
        ("div", 1, 0),
        ("mod", 1, 0),
    ],
)
def test_wrong_types_are_an_error_in_templates_and_counted_in_conditions(strict, lenient, name, a, b):
    with pytest.raises(MismatchError):
        getattr(strict, name)(a, b)
    assert getattr(lenient, name)(a, b) is MISSING
    assert lenient.mismatches == 1


@pytest.mark.parametrize(
    ("name", "a", "b"),
    [
        ("mul", 2**4000, 2**4000),
        ("add", 2**5000, 1),
        ("mul", 1e300, 1e300),
        ("div", 2**4000, 3),
        ("add", "a" * 200_000, "a" * 200_000),
        ("add", [0] * 9000, [0] * 9000),
    ],
)
def test_arithmetic_is_bounded_everywhere(lenient, name, a, b):
    with pytest.raises(TemplateError):
        getattr(lenient, name)(a, b)


def test_signs(strict):
    assert (strict.neg(5), strict.pos(5), strict.neg(MISSING)) == (-5, 5, MISSING)
    with pytest.raises(MismatchError):
        strict.neg("a")


@pytest.mark.parametrize(
    ("name", "results"), [("lt", (1, 0, 0)), ("lteq", (1, 1, 0)), ("gt", (0, 0, 1)), ("gteq", (0, 1, 1))]
)
def test_ordering(lenient, name, results):
    order = getattr(lenient, name)
    assert (order(1, 2.5), order("b", "b"), order(3, 2)) == results
    assert not (order(MISSING, 1) or order(1, MISSING) or order(None, 1) or order("a", 1) or order({}, {}))
    assert lenient.mismatches == 2


def test_values_of_two_types_are_neither_equal_nor_unequal_and_counted(lenient):
    assert lenient.eq(1, 1.0)
    assert not lenient.eq("1", 1)
    assert not lenient.ne("1", 1)
    assert lenient.ne("1", None)
    assert not (lenient.ne(MISSING, 1) or lenient.eq(MISSING, MISSING) or lenient.eq(None, 1))
    assert lenient.mismatches == 2


def test_true_is_not_one(lenient):
    assert not (lenient.eq(True, 1) or lenient.ne(True, 1) or lenient.eq(0.0, False) or lenient.ne(0, False))
    assert lenient.mismatches == 4
    assert not (lenient.lt(True, 2) or lenient.gteq(5, False) or lenient.lteq(False, True) or lenient.gt(True, False))
    assert lenient.mismatches == 8
    assert lenient.eq(True, True) and lenient.ne(True, False)


def test_true_is_not_one_deep_within_either(lenient):
    assert not (lenient.eq([1, [{"a": True}]], [1, [{"a": 1}]]) or lenient.eq({"a": [0]}, {"a": [False]}))
    assert lenient.ne([True], [1]) and lenient.eq([True, 1.0], [True, 1])
    assert not (lenient.contains(1, [True, "a"]) or lenient.contains([True], [[1]]) or lenient.lacks(1, [True, 1.0]))
    assert lenient.lacks(True, [1]) and lenient.contains(1, [True, 1.0])
    assert lenient.mismatches == 0


def test_nothing_but_numbers_and_texts_has_an_order(lenient):
    for value in (True, [1], {"a": 1}):
        assert not (lenient.lt(value, value) or lenient.lteq(value, value) or lenient.gteq(value, value))
    assert lenient.mismatches == 9


def test_membership(lenient):
    assert lenient.contains("a", "cat") and lenient.contains(1, [1]) and lenient.contains("k", {"k": 1})
    assert lenient.lacks("x", "cat") and lenient.lacks(2, [1])
    assert lenient.contains(1, (MISSING, 1)) and lenient.lacks(2, (MISSING, 1))
    for item, container in ((MISSING, [1]), (1, MISSING), ("a", None)):
        assert not lenient.contains(item, container)
        assert not lenient.lacks(item, container)
    assert lenient.mismatches == 0
    assert not (lenient.contains(1, "cat") or lenient.lacks(1, "cat") or lenient.contains(1, 5))
    assert lenient.mismatches == 3


def test_a_filter_sees_no_missing_value(strict):
    called = strict.call("f", lambda *args, **kwargs: (args, kwargs), nullable=False)
    assert called(MISSING) is MISSING
    assert called(1, MISSING) is MISSING
    assert called(1, a=MISSING) is MISSING
    assert called(None) is MISSING
    assert called(1, 2, a=3) == ((1, 2), {"a": 3})
    assert strict.call("f", lambda value: value, nullable=True)(None) is None


def test_a_failing_filter_is_named_without_values(strict):
    with pytest.raises(TemplateError, match="the filter `f` failed with KeyError"):
        strict.call("f", lambda value: {}[value], nullable=False)("secret")


@pytest.mark.parametrize(
    ("name", "args", "cost"),
    [
        ("join_text", ("abc", 12), 5),
        ("add", ("ab", "c"), 3),
        ("add", ([1], ["abc"]), 2 + 1 + 2 + 5),
        ("make_list", ("abc", "de"), 3 + 5 + 4),
        ("make_object", (("key",), "abc"), 1 + 4 + 3 + 5),
        ("cut", ([1, 2, 3], 1, None), 2),
        ("cut", ("abc", None, 2), 2),
        ("eq", ([1, 2], [1, 3]), weight([1, 2])),
        ("ne", ({"a": [1]}, "x"), weight({"a": [1]})),
        ("contains", (1, [2] * 100), 400),
        ("lacks", (1, [2] * 100), 400),
        ("contains", ([1], [[1], [2]]), 2 * weight([1])),
        ("contains", ("y", "x" * 4000), 1000),
    ],
)
def test_what_is_made_or_looked_through_counts(strict, name, args, cost):
    strict.begin()
    strict.spend(MAX_MADE - cost)
    assert getattr(strict, name)(*args) is not MISSING
    with pytest.raises(TemplateError, match="makes or looks through more than 1,000,000 characters and items"):
        strict.spend(1)


def test_what_goes_into_a_filter_as_a_list_and_what_comes_out_of_it_counts(strict):
    called = strict.call("f", lambda value: "abc", nullable=False)
    strict.spend(MAX_MADE - 7)
    assert called([1, 2]) == "abc"
    with pytest.raises(
        TemplateError, match="the filter `f` makes or looks through more than 1,000,000 characters and items"
    ):
        called("a")
    strict.begin()
    assert called("a") == "abc"


def test_what_a_plugins_filter_makes_counts_with_all_that_is_in_it(strict):
    called = strict.call("f", lambda value: {"a": ["x" * 200_000]}, False, weight)
    for _ in range(4):
        called(1)
    with pytest.raises(TemplateError):
        called(1)


def test_a_short_list_is_looked_through_for_nothing(strict):
    strict.begin()
    strict.spend(MAX_MADE)
    assert strict.contains("b", ("a", "b"))
    assert strict.contains("b", "abc")


def test_a_cut_at_something_else_than_a_whole_number_is_missing_and_counted_in_conditions():
    lenient = Operators(strict=False)
    assert lenient.cut("abc", "a", None) is MISSING
    assert lenient.mismatches == 1


def test_a_plugins_filter_must_return_json():
    assert checked_filter(lambda value: [{"a": value}])(1) == [{"a": 1}]
    assert checked_filter(lambda value: MISSING)(1) is MISSING
    for result in (object(), {1: 2}, (1,), [MISSING], 1j, {"a": {"b": b""}}):
        with pytest.raises(TemplateError):
            checked_filter(lambda value, result=result: result)(1)


def test_a_plugins_filter_that_returns_a_circle_is_stopped():
    circle: list = []
    circle.append(circle)
    with pytest.raises(TemplateError, match="returned too much"):
        checked_filter(lambda value: circle + circle)(1)
