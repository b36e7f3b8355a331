import tracemalloc

import pytest

from eventrouter.filters import FILTERS, MAX_NAMES, TESTS
from eventrouter.values import MISSING, MismatchError, TemplateError

ITEMS = [{"id": "b", "price": 2}, {"id": "a", "price": 3.5}, {"id": "c"}, {"id": "d", "price": None}]


@pytest.mark.parametrize(
    ("name", "args", "result"),
    [
        ("abs", [-3], 3),
        ("capitalize", ["hELLO"], "Hello"),
        ("count", [[1, 2]], 2),
        ("first", [[1, 2]], 1),
        ("first", [[]], MISSING),
        ("float", ["1.5"], 1.5),
        ("float", ["x", 7], 7),
        ("float", ["1e999", None], None),
        ("int", ["12"], 12),
        ("int", ["12.9"], 12),
        ("int", [12.9], 12),
        ("int", [True], 1),
        ("int", ["x", 0], 0),
        ("int", [[], 5], 5),
        ("join", [["a", 1, True, None], "-"], "a-1-true"),
        ("join", [ITEMS, ",", "id"], "b,a,c,d"),
        ("last", ["abc"], "c"),
        ("length", [{"a": 1}], 1),
        ("list", [{"a": 1}], ["a"]),
        ("lower", ["ÄB"], "äb"),
        ("map", [ITEMS, "price"], [2, 3.5, None]),
        ("map", [[{"a": {"b": 1}}, {"a": 2}], "a.b"], [1]),
        ("max", [ITEMS, "price"], 3.5),
        ("min", [[3, 1, 2]], 1),
        ("min", [[]], MISSING),
        ("replace", ["a-b-c", "-", "+"], "a+b+c"),
        ("reverse", [[1, 2]], [2, 1]),
        ("round", [2.567, 1], 2.6),
        ("round", [2.1, 0, "ceil"], 3),
        ("round", [2.9, 0, "floor"], 2),
        ("sha256", ["a"], "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"),
        ("sort", [[3, 1, 2]], [1, 2, 3]),
        ("sort", [[3, 1, 2], True], [3, 2, 1]),
        ("sort", [["b", "a"]], ["a", "b"]),
        ("sort", [[]], []),
        ("max", [[1, 2.5, None]], 2.5),
        ("sort", [[{"n": 2}, {}, {"n": 1}], False, "n"], [{"n": 1}, {"n": 2}]),
        ("split", ["a, b", ", "], ["a", "b"]),
        ("split", [" a  b "], ["a", "b"]),
        ("string", [{"a": 1}], '{"a":1}'),
        ("sum", [[1, 2.5, None]], 3.5),
        ("sum", [ITEMS, "price"], 5.5),
        ("title", ["hello world"], "Hello World"),
        ("tojson", ['a"b'], '"a\\"b"'),
        ("tojson", [None], "null"),
        ("trim", [" a "], "a"),
        ("unique", [[1, 2, 1, True, [1], [1], "1"]], [1, 2, True, [1], "1"]),
        ("unique", [[2**61, 2.0**61, str(2**61), -(2**61), 1, 1.0]], [2**61, str(2**61), -(2**61), 1]),
        ("upper", ["a"], "A"),
        ("upper", [5], "5"),
        ("urlencode", ["a b/ü"], "a%20b%2F%C3%BC"),
    ],
)
def test_filters(name, args, result):
    made = FILTERS[name](*args)
    assert made is result if result is MISSING else (type(made), made) == (type(result), result) or made == result


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("abs", ["a"]),
        ("first", [{}]),
        ("float", ["x"]),
        ("float", ["1e999"]),
        ("float", [2**5000]),
        ("int", ["x"]),
        ("int", [[]]),
        ("join", ["abc"]),
        ("join", [[{}]]),
        ("length", [5]),
        ("lower", [[]]),
        ("max", [[1, "a"]]),
        ("max", [[True, 2]]),
        ("min", [[[1], [2]]]),
        ("sort", [[1, True]]),
        ("sort", [[{"n": True}, {"n": False}], False, "n"]),
        ("round", ["a"]),
        ("round", [1, 0, "up"]),
        ("sort", [[1, "a"]]),
        ("split", ["a", ""]),
        ("sum", [["a"]]),
        ("reverse", [5]),
    ],
)
def test_wrong_types_are_mismatches(name, args):
    with pytest.raises(MismatchError):
        FILTERS[name](*args)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("replace", ["a" * 30_000, "a", "b" * 30_000]),
        ("join", [["a"] * 5000, "b" * 30_000]),
        ("upper", ["ΐ" * 100_000]),
        ("list", ["a" * 20_000]),
        ("split", ["a " * 20_000]),
        ("urlencode", ["ü" * 100_000]),
        ("sum", [[1e308, 1e308]]),
        ("int", [2**5000]),
    ],
)
def test_filters_are_bounded(name, args):
    with pytest.raises(TemplateError):
        FILTERS[name](*args)


@pytest.mark.parametrize("name", ["map", "sort", "sum", "join", "min", "max"])
def test_an_attribute_has_a_bounded_number_of_names(name):
    longest = ".".join(["a"] * MAX_NAMES)
    assert not FILTERS[name]([{"b": 1}], attribute=longest)
    with pytest.raises(TemplateError, match="takes an attribute of at most 20 names"):
        FILTERS[name]([{"b": 1}], attribute=f"{longest}.a")


def test_sorting_by_an_attribute_leaves_out_what_lacks_it_and_keeps_the_order_of_equals():
    one, two, also_two = {"a": {"b": 1}}, {"a": {"b": 2}, "c": 1}, {"a": {"b": 2}, "c": 2}
    items = [two, {"a": 1}, {}, also_two, one]
    assert FILTERS["sort"](items, attribute="a.b") == [one, two, also_two]
    assert FILTERS["sort"](items, True, "a.b") == [two, also_two, one]


@pytest.mark.parametrize(
    ("name", "text"), [("split", "a " * 131_000), ("list", "😀" * 262_144), ("urlencode", "😀" * 262_144)]
)
def test_what_is_too_long_is_not_made_before_it_is_refused(name, text):
    tracemalloc.start()
    try:
        with pytest.raises(TemplateError):
            FILTERS[name](text)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "args", "result"),
    [
        ("defined", [1], True),
        ("defined", [MISSING], False),
        ("undefined", [MISSING], True),
        ("none", [None], True),
        ("none", [MISSING], False),
        ("true", [True], True),
        ("true", [1], False),
        ("false", [False], True),
        ("boolean", [True], True),
        ("string", ["a"], True),
        ("number", [1.5], True),
        ("number", [True], False),
        ("integer", [1], True),
        ("float", [1], False),
        ("mapping", [{}], True),
        ("sequence", [[]], True),
        ("sequence", ["a"], False),
        ("startswith", ["abc", "ab"], True),
        ("startswith", [MISSING, "ab"], False),
        ("startswith", ["abc", 5], False),
        ("endswith", ["abc", "bc"], True),
    ],
)
def test_tests(name, args, result):
    test, count = TESTS[name]
    assert (test(*args), count) == (result, len(args) - 1)
