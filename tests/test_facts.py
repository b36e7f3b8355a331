import pytest

from eventrouter.facts import MAX_CASES, Compared, Not, OneOf, Passed, Truthy, cases_of, negation, worth
from eventrouter.syntax import parse_condition

N, EVENT = ("item", ("name", "properties"), "n"), ("name", "event")


def text(*values):
    return frozenset(("text", value) for value in values)


def number(value):
    return "a number", value


def cases(condition):
    return {frozenset(case) for case in cases_of(parse_condition(condition), condition).cases}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("event == 'A'", {frozenset({OneOf(EVENT, text("A"))})}),
        ("'A' == event", {frozenset({OneOf(EVENT, text("A"))})}),
        ("event in ['A', 'B']", {frozenset({OneOf(EVENT, text("A", "B"))})}),
        ("event == 'A' or event == 'B'", {frozenset({OneOf(EVENT, text("A", "B"))})}),
        ("event not in ['A']", {frozenset({Passed(EVENT, "defined"), Not(OneOf(EVENT, text("A")))})}),
        ("properties['n'] > -5", {frozenset({Compared(N, "gt", number(-5))})}),
        ("1 < properties.n <= 2", {frozenset({Compared(N, "gt", number(1)), Compared(N, "lteq", number(2))})}),
        ("properties.n is none", {frozenset({OneOf(N, frozenset({("null", None)}))})}),
        ("event is not defined", {frozenset({Not(Passed(EVENT, "defined"))})}),
        ("event is undefined", {frozenset({Not(Passed(EVENT, "defined"))})}),
        ("'a' in event", {frozenset({Compared(EVENT, "has", ("text", "a"))})}),
        ("event and properties.n", {frozenset({Truthy(EVENT), Truthy(N)})}),
        ("event or properties.n", {frozenset({Truthy(EVENT)}), frozenset({Truthy(N)})}),
        ("not (event or properties.n)", {frozenset({Not(Truthy(EVENT)), Not(Truthy(N))})}),
        ("not (event and properties.n)", {frozenset({Not(Truthy(EVENT))}), frozenset({Not(Truthy(N))})}),
        ("true and event", {frozenset({Truthy(EVENT)})}),
    ],
)
def test_a_condition_as_cases(condition, expected):
    assert cases(condition) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("properties.n + 1 == type", "type == properties['n'] + 1"),
        ("event | lower | default('x')", "event|lower|default( 'x' )"),
        ("properties.n == 1", "properties.n == 1.0"),
    ],
)
def test_what_is_always_worth_the_same_is_one_fact(one, other):
    assert cases(one) == cases(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("properties.n == 1", "properties.n == true"), ("event ~ 1", "event ~ 1.0"), ("event | lower", "event | upper")],
)
def test_what_may_be_worth_something_else_is_another_fact(one, other):
    assert cases(one) != cases(other)


def test_each_fact_knows_where_it_begins():
    found = cases_of(parse_condition("event == 'A' and (properties.n | int) > 5"), "")
    assert sorted(found.offsets.values()) == [0, 18]


def test_a_condition_of_too_many_cases_is_one_fact():
    many = " and ".join(f"(properties.a{n} or properties.b{n})" for n in range(MAX_CASES))
    assert cases(many) == {frozenset({Truthy(("whole", many))})}
    deep = "(" + " and ".join(["event"] * 600) + ") == 1"
    assert len(cases(deep)) == 1


@pytest.mark.parametrize(
    ("fact", "constant", "expected"),
    [
        (OneOf(N, text("a")), ("text", "a"), True),
        (Compared(N, "gt", number(1)), number(2), True),
        (Compared(N, "gt", number(1)), ("true/false", True), False),
        (Compared(N, "has", ("text", "b")), ("text", "abc"), True),
        (Compared(N, "in", ("text", "abc")), ("text", "b"), True),
        (Compared(N, "hasnot", ("text", "x")), number(1), False),
        (Passed(N, "startswith", (("text", "a"),)), ("text", "ab"), True),
        (Passed(N, "integer"), number(1), None),
        (Truthy(N), number(0), False),
        (Not(Truthy(N)), number(0), True),
    ],
)
def test_what_a_fact_is_for_a_value(fact, constant, expected):
    assert worth(fact, constant) is expected


def test_the_negation_of_a_negation_is_the_fact_itself():
    assert negation(negation(Truthy(N))) == Truthy(N)
