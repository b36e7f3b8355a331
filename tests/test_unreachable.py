from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventrouter.config import RouteConfig
from eventrouter.errors import ConfigError
from eventrouter.events import EVENT_TYPES, StoredEvent
from eventrouter.expressions import Expressions
from eventrouter.route import Router
from eventrouter.unreachable import Never, Place, Unreachable
from language_kit import KINDS, Piece, conditions, events, holds, joins, written
from routes_kit import HEAD, load

SOURCES = ("website", "app", "shop")
RULES = load(HEAD)
NO_TYPE = " and ".join(f'type != "{name}"' for name in EVENT_TYPES)


def looked(*routes):
    """What is said of the last of these routes to `crm`: each a condition, or (condition, sources)."""
    looking, said = Unreachable(SOURCES), None
    for number, route in enumerate(routes):
        when, from_ = (route, None) if isinstance(route, str) else route
        condition = Expressions().condition(when) if when else None
        tree, same = (condition.tree, condition.same) if condition else (None, "")
        said = looking.look(Place(number, f"r{number}", "", number), ["crm"], from_, tree, same)
    return said


def names(said):
    return [place.name for place in said] if isinstance(said, list) else said


@pytest.mark.parametrize(
    ("when", "offset", "subject"),
    [
        ('type == "page" and type == "track"', 19, "type"),
        ('event == "A" and properties.x and event == "B"', 34, "event"),
        ('event in ["A", "B"] and event not in ["A", "B"]', 24, "event"),
        ("properties.n > 10 and properties.n < 5", 22, "properties.n"),
        ("properties.n >= 5 and properties.n == 4", 22, "properties.n"),
        ("properties.n > 5 and properties.n == 'a'", 21, "properties.n"),
        ("properties.n == 1 and properties.n == true", 22, "properties.n"),
        ("properties.a and not properties.a", 21, "properties.a"),
        ("properties.a == 1 and properties.a is not defined", 22, "properties.a"),
        ('event == "A" and event is startswith "B"', 17, "event"),
        ("properties.n > none", 0, "properties.n"),
        (NO_TYPE, NO_TYPE.rindex("type"), "type"),
        ('source == "wbsite"', 0, "source"),
    ],
)  # fmt: skip
def test_a_condition_that_is_never_true(when, offset, subject):
    said = looked(when)
    assert isinstance(said, Never)
    assert (said.offset, said.subject) == (offset, subject)


def test_a_source_may_be_one_of_which_nobody_knows():
    condition = Expressions().condition('source == "wbsite"')
    looking = Unreachable(None)
    assert looking.look(Place(1, "", "", 1), ["crm"], None, condition.tree, "") is None
    both = Expressions().condition('source == "wbsite" and source == "web"')
    said = looking.look(Place(2, "", "", 2), ["crm"], None, both.tree, "")
    assert isinstance(said, Never)
    assert said.unknown == ()


def test_a_source_that_there_is_not_is_named():
    said = looked('source == "wbsite"')
    assert isinstance(said, Never)
    assert said.unknown == ("wbsite",)


@pytest.mark.parametrize(
    "when",
    [
        'type == "page" or type == "track"',
        "properties.n > 5 and properties.n < 10",
        "properties.n >= 5 and properties.n <= 5",
        "properties.n == 1 and properties.n == 1.0",
        "properties.a and properties.b == none",
        'event == "A" and name == "B"',
        'event is startswith "A" and event is startswith "B"',
        "properties.n > 5 and properties.m < 1",
        "properties.a != 1 and properties.a != 2",
        'source == "app"',
    ],
)
def test_a_condition_that_may_be_true(when):
    assert looked(when) is None


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("", 'event == "A"'),
        ('event == "A"', 'properties.n > 5 and event == "A"'),
        ("properties.a and properties.b", "properties.b and properties.c and properties.a"),
        ('event in ["A", "B"]', 'event == "A"'),
        ('event == "A" or properties.x', 'event == "A" and properties.y'),
        ("properties.n > 5", "properties.n >= 10"),
        ("properties.n > 5", "properties.n == 6"),
        ("properties.n > 5", "properties.n > 5.0 and type == 'track'"),
        ("properties.n", "properties.n > 0"),
        ("properties.n is defined", "properties.n == 1"),
        ('event is startswith "Order"', 'event in ["Order A", "Order B"]'),
        ('"Order" in event', 'event == "Order A"'),
        ('event != "B"', 'event == "A"'),
        ("event | lower == 'a'", "type == 'track' and event | lower == 'a'"),
        ('type != "page"', 'type == "track"'),
    ],
)
def test_an_earlier_route_takes_all(earlier, later):
    assert names(looked(earlier, later)) == ["r0"]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ('event == "A"', ""),
        ('event == "A" and properties.n', 'event == "A"'),
        ("properties.n >= 10", "properties.n > 5"),
        ("properties.n is integer", "properties.n == 1"),
        ("properties.n < 5", "properties.n == 'a'"),
        ("event | lower == 'a'", "event == 'A'"),
        ('event in ["A", "B"]', 'event in ["A", "C"]'),
        (("", ["website"]), 'event == "A"'),
        (("", ["website"]), ("", ["website", "app"])),
    ],
)
def test_an_earlier_route_leaves_some(earlier, later):
    assert looked(earlier, later) is None


def test_several_earlier_routes_take_all_together():
    assert names(looked(("", ["website"]), ("", ["app"]), ("event", ["app", "website"]))) == ["r0", "r1"]
    assert names(looked('event == "A"', 'event == "B"', 'event in ["A", "B"]')) == ["r0", "r1"]
    assert names(looked('type == "track"', 'type != "track"', "")) == ["r0", "r1"]
    assert names(looked(("event == 'A'", ["app"]), ("", ["website"]), ("event == 'A'", ["app", "website"]))) == [
        "r0",
        "r1",
    ]


def test_a_route_of_all_sources_is_not_taken_by_one_for_each():
    """A source may be added later, and events of one that was taken out may wait."""
    assert looked(*(("", [source]) for source in SOURCES), "") is None


def test_the_destinations_are_looked_at_by_themselves():
    looking = Unreachable(SOURCES)
    assert looking.look(Place(0, "a", "", 0), ["crm"], None, None, "") is None
    assert looking.look(Place(1, "b", "", 0), ["crm", "alerts"], None, None, "") is None
    assert names(looking.look(Place(2, "c", "", 0), ["alerts", "crm"], None, None, "")) == ["a", "b"]


def test_thousands_of_routes_are_looked_at_through_an_index():
    """However many there are, each is held against few others."""
    looking = Unreachable(SOURCES)
    before = looking._left
    for number in range(2000):
        condition = Expressions().condition(f'type == "track" and event == "E{number}"')
        assert looking.look(Place(number, "", "", 0), ["crm"], None, condition.tree, "") is None
    assert before - looking._left < 20 * 2000


orders = st.builds(
    lambda order, value: Piece(order, (Piece("path", ("properties.n",)), Piece("constant", (value,)))),
    st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
    st.sampled_from([0, 1, 2, "a"]),
)
numbers = st.builds(
    lambda number, kind: StoredEvent("website", {"type": kind, "messageId": "m", "properties": {"n": number}}),
    st.sampled_from([-1, 0, 0.5, 1, 1.5, 2, 3, "", "a", "b", True, None]),
    KINDS,
)
pieces = st.lists(conditions | orders, min_size=1, max_size=3).filter(lambda some: any(map(joins, some)))


def derived(pool: list[Piece]) -> st.SearchStrategy[Piece]:
    """Conditions made of a few, so that they often follow from one another."""
    one = st.sampled_from(pool)
    several = st.lists(one.filter(joins), min_size=1, max_size=3).map(tuple)
    return (
        one
        | one.map(lambda piece: Piece("not", (piece,)))
        | st.sampled_from(["and", "or"]).flatmap(lambda kind: several.map(lambda some: Piece(kind, some)))
    )


ROUTES = pieces.flatmap(
    lambda pool: st.lists(
        st.tuples(
            derived(pool),
            st.none() | st.sets(st.sampled_from(("website", "app")), min_size=1).map(sorted),
            st.sets(st.sampled_from(("crm", "alerts")), min_size=1).map(sorted),
        ),
        min_size=2,
        max_size=6,
    )
)


def never(routes):
    """The numbers of the routes that `check` says can never match."""
    lines = []
    for when, from_, to in routes:
        sources = f", from: [{', '.join(from_)}]" if from_ else ""
        lines.append(f"- {{ to: [{', '.join(to)}], when: {quoted(written(when))}{sources} }}")
    try:
        load(HEAD + "\n".join(lines) + "\n")
    except ConfigError as error:
        first = HEAD.count("\n") + 1
        return {one.line - first for one in error.problems if "can never match" in one.message}
    return set()


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


@settings(max_examples=250, deadline=None)
@given(ROUTES, st.lists(events | numbers, min_size=10, max_size=25))
def test_a_route_that_is_said_never_to_match_matches_no_event(routes, some):
    told = never(routes)
    config = replace(
        RULES,
        routes=[
            RouteConfig(str(number), tuple(to), None if from_ is None else tuple(from_), written(when))
            for number, (when, from_, to) in enumerate(routes)
        ],
    )
    known = [one for one in some if one.source in ("website", "app")]
    routed = Router(config).route(known)
    assert {int(one.route) for one in routed.deliveries if one.destination == "crm"} & told == set()
    for number in told:
        when, from_, to = routes[number]
        for event in known:
            matching = holds(when, event) and (from_ is None or event.source in from_)
            taken = [
                holds(earlier, event) and (sources is None or event.source in sources)
                for earlier, sources, others in routes[:number]
                if set(to) <= set(others)
            ]
            if matching and len(to) == 1:
                assert any(taken)
