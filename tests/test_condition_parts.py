"""The parts of a condition: what they are, and that they are worth together what the whole is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventrouter.condition_parts import divide
from eventrouter.expressions import ExpressionError, Expressions


def shape(part):
    """A part as nested tuples, without the texts of those that are divided."""
    return (part.joined, *map(shape, part.parts)) if part.parts else part.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('type == "page"', 'type == "page"'),
        ('  (( type == "page" ))', 'type == "page"'),
        ("name and event or type", ("or", ("and", "name", "event"), "type")),
        ("name and (event or type)", ("and", "name", ("or", "event", "type"))),
        ("(name) and (event)", ("and", "name", "event")),
        ("not name and not (event or type)", ("and", ("not", "name"), ("not", ("or", "event", "type")))),
        ('"a and b" in name or event not in ["x", "or"]', ("or", '"a and b" in name', 'event not in ["x", "or"]')),
        ("name if event and type else channel", "name if event and type else channel"),
        ("event is not defined and name | default(type or event)",
         ("and", "event is not defined", "name | default(type or event)")),
        ('properties["and"] == 1 or context.or_', ("or", 'properties["and"] == 1', "context.or_")),
        ("properties.or == 1", "properties.or == 1"),
        ("not (name, event) or () or (name,) or (event | replace(',', ''))",
         ("or", ("not", "(name, event)"), "()", "(name,)", "event | replace(',', '')")),
        ("properties.if or properties . and and properties.not",
         ("or", "properties.if", ("and", "properties . and", "properties.not"))),
    ],
)  # fmt: skip
def test_a_condition_is_divided_at_its_and_or_and_not(text, expected):
    assert shape(divide(text)) == expected


def test_a_part_has_its_very_text():
    whole = divide('type == "track"  and\n (name or\n event)')
    assert [part.text for part in whole.parts] == ['type == "track"', "name or\n event"]


def test_what_is_no_condition_is_an_error():
    with pytest.raises(ExpressionError):
        divide("name and")


CONDITIONS = st.recursive(
    st.sampled_from(["name", "event", "type", 'name == "x"', "(event)", "name in [event, type]", "event | length > 1"]),
    lambda inner: st.one_of(
        st.builds("{} and {}".format, inner, inner),
        st.builds("{} or {}".format, inner, inner),
        st.builds("not {}".format, inner),
        st.builds("({})".format, inner),
    ),
    max_leaves=8,
)


@given(CONDITIONS, st.fixed_dictionaries({}, optional={key: st.sampled_from(["", "x"]) for key in ("name", "event")}))
def test_the_parts_make_the_value_of_the_whole(text, event):
    def value(part):
        if part.joined == "not":
            return not value(part.parts[0])
        if part.parts:
            return {"and": all, "or": any}[part.joined](value(one) for one in part.parts)
        return Expressions().condition(part.text)(event, "website")

    assert value(divide(text)) == Expressions().condition(text)(event, "website")
