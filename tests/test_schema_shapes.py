import jsonschema_rs
import pytest

from eventrouter import schema_shapes as shapes


@pytest.mark.parametrize(
    ("shape", "valid", "invalid"),
    [
        (shapes.text("A name."), ["a", ""], [5, None, []]),
        (shapes.texts(""), ["a", ["a"], [], None], [5, [5], [None], {}]),
        (shapes.condition(""), ["type", True], [5, None]),
        (shapes.flag(), [True, "${A}", "x ${A:-true}"], ["true", 1, None]),
        (shapes.number(""), [5, "${A}"], [-1, 1.5, "5", True]),
        (shapes.duration(""), ["5m", 5, 0.5], [True, None]),
        (shapes.size(""), ["5MB", 5], [None, []]),
        (shapes.url(""), [{"url": "x"}, {"url": None}, {}, None], [{"uri": "x"}, "x"]),
        (shapes.object_of({"a": shapes.TEXT}, required=("a",)), [{"a": "x"}, None], [{}, {"a": "x", "b": 1}]),
        (shapes.object_of({"a": shapes.TEXT}, needed=True), [{}, {"a": "x"}], [None, []]),
        (shapes.named(shapes.TEXT, ""), [{"a": "x", "b": "y"}, None], [{"a": 1}]),
        (shapes.list_of(shapes.TEXT), [["a"], [], None], ["a", [None]]),
    ],
)
def test_a_shape_takes_what_it_is_for(shape, valid, invalid):
    validator = jsonschema_rs.Draft7Validator(shape)
    assert [value for value in valid if not validator.is_valid(value)] == []
    assert [value for value in invalid if validator.is_valid(value)] == []


def test_a_description_is_only_there_where_it_says_something():
    assert (shapes.described("A."), shapes.described("")) == ({"description": "A."}, {})
