"""Variables: values and expressions with a name, in conditions and templates."""

import pytest

from eventrouter.expressions import ExpressionError, Expressions
from eventrouter.requirements import path_of
from eventrouter.syntax import parse_condition
from eventrouter.variables import MAX_FILLED, MAX_NODES, Variables

VARS = {
    "limit": 1000,
    "big": "{{ properties.total > vars.limit }}",
    "funnel": ["Viewed", "{{ properties.step }}"],
    "who": "{{ userId | default(anonymousId) }} ({{ type }})",
    "base": {"event": "{{ event }}", "list": [1, "x"], "none": None},
    "constant": "EUR",
    "same": "{{ vars.equal }}",
    "equal": "{{ vars.same }}",
}
EVENT = {"type": "track", "event": "Viewed", "userId": "u", "properties": {"total": 1500, "step": "Bought"}}


@pytest.fixture
def expressions():
    return Expressions(variables=VARS)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("vars.big", True),
        ("not vars.big or vars.limit == 1000", True),
        ("event in vars.funnel", True),
        ('"Bought" in vars["funnel"]', True),
        ('"Sold" in vars.funnel', False),
        ('vars.base.event == "Viewed"', True),
        ("vars.base.list[0] == 1", True),
        ('vars.constant == "EUR"', True),
        ("vars.base.none == none", True),
    ],
)
def test_a_condition_is_what_it_is_with_its_variables_put_in(expressions, text, value):
    assert expressions.condition(text)(EVENT, "website") is value


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ vars.limit }}", 1000),
        ("{{ vars.big }}", True),
        ("by {{ vars.who }}", "by u (track)"),
        ("{{ vars.base }}", {"event": "Viewed", "list": [1, "x"], "none": None}),
        ("{{ vars.funnel | join(', ') }}", "Viewed, Bought"),
        ("vars.limit", "vars.limit"),
    ],
)
def test_a_template_keeps_the_types_of_its_variables(expressions, template, value):
    assert expressions.template(template)(EVENT, "website") == value


def test_routes_are_found_by_what_their_variables_require():
    expressions = Expressions(variables={"bought": '{{ event == "Bought" }}'})
    assert expressions.condition("vars.bought and type").required == {("event",): {"Bought"}}
    assert expressions.reads("vars.bought and type") == [("event",), ("type",)]


def test_two_ways_to_write_one_condition_are_the_same(expressions):
    assert expressions.condition("vars.big").same == expressions.condition("properties.total > 1000").same


@pytest.mark.parametrize(
    ("text", "offset", "message", "hint"),
    [
        ("type and vars.bgi", 9, "uses the unknown variable `vars.bgi`", "did you mean `vars.big`?"),
        ("vars.zzz", 0, "uses the unknown variable `vars.zzz`", "the variables are base, big, "),
        ("vars", 0, "names no variable: write `vars.name`", "the variables are base, "),
        ("vars.base.evnt", 0, "reads `evnt` of `vars.base`, which has no such key", ""),
        ("type or vars.same", 8, "uses `vars.same`, which is made of itself", "take out one of the two"),
    ],
)
def test_what_cannot_be_put_in_is_told_at_its_place(expressions, text, offset, message, hint):
    with pytest.raises(ExpressionError) as caught:
        expressions.condition(text)
    (fault,) = caught.value.faults
    assert (fault.offset, fault.message) == (offset, message)
    assert fault.hint.startswith(hint)


def test_without_variables_the_hint_is_to_add_some():
    with pytest.raises(ExpressionError) as caught:
        Expressions(variables={}).condition("vars.big")
    assert caught.value.hint == "there are none: add `vars: { name: … }`"


def test_where_there_is_no_such_thing_vars_is_an_unknown_name():
    with pytest.raises(ExpressionError) as caught:
        Expressions().condition("vars.big")
    assert "uses the unknown name `vars`" in str(caught.value)


def test_variables_that_multiply_are_bounded():
    doubling = {f"v{n}": f"{{{{ vars.v{n + 1} + vars.v{n + 1} }}}}" for n in range(30)} | {"v30": 1}
    with pytest.raises(ExpressionError) as caught:
        Expressions(variables=doubling).condition("vars.v0 > 0")
    assert f"more than {MAX_FILLED:,} variables" in str(caught.value)


@pytest.mark.parametrize(
    "value", ["{{ [" + ", ".join(["1"] * 2_600) + "] }}", [1] * 2_600, {"a": "{{ type }}" * 700}, "{#a#}" * 1_500]
)
def test_large_variables_that_are_used_often_are_bounded(value):
    text = " or ".join(["vars.large"] * 300)
    with pytest.raises(ExpressionError) as caught:
        Expressions(variables={"large": value}).condition(text)
    (fault,) = caught.value.faults
    assert fault.message == f"uses variables of more than {MAX_NODES:,} parts in all"
    assert text[fault.offset :].startswith("vars.large")


def test_one_large_list_is_no_monster():
    expressions = Expressions(variables={"ids": [f"id {number}" for number in range(10_000)]})
    assert expressions.condition("userId in vars.ids")({"userId": "id 9999"}, "website")


def test_a_variable_that_is_too_deep_is_told():
    with pytest.raises(ExpressionError) as caught:
        Expressions(variables={"deep": "{{ " + "not " * 60 + "type }}"}).condition("vars.deep")
    assert "is nested too deeply" in str(caught.value)


def test_what_is_put_in_stands_where_its_name_stood():
    filled = Variables({"name": "{{ properties.name }}"}).fill(parse_condition("event == vars.name"))
    right = filled.ops[0].expr
    assert (path_of(right), right.lineno) == (("properties", "name"), 9)


def test_values_are_not_shared_between_the_places_that_use_them(expressions):
    one = expressions.template(["{{ vars.base }}", "{{ vars.base }}"])(EVENT, "website")
    one[0]["list"].append(2)
    assert one[1]["list"] == [1, "x"]
    assert VARS["base"]["list"] == [1, "x"]
