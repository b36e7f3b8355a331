import pytest

from eventrouter.config import HashConfig
from eventrouter.errors import ConfigError
from routes_kit import HEAD, load


def routes(text, **environ):
    return load(HEAD + text, **environ).routes


def problems(text, **environ):
    with pytest.raises(ConfigError) as caught:
        load(HEAD + text, **environ)
    return [problem for problem in caught.value.problems if problem.severity == "error"]


def messages(text, **environ):
    return [(problem.message, problem.hint) for problem in problems(text, **environ)]


def test_a_route_with_everything_is_read():
    (route,) = routes(
        """
  - name: all
    to: [crm, alerts]
    from: [website, app]
    when: type == "track"
    consent: [a, b]
    sample: 25%
    rename: { a: b.c }
    set: { d: [1, "{{ type }}"] }
    hash: { salt: pepper, fields: [userId] }
    keep: [a, d]
    drop: e
"""
    )
    assert (route.name, route.to, route.from_, route.when) == (
        "all",
        ("crm", "alerts"),
        ("website", "app"),
        'type == "track"',
    )
    assert (route.consent, route.sample, route.rename) == (("a", "b"), 0.25, {"a": "b.c"})
    assert (route.set, route.hash) == ({"d": [1, "{{ type }}"]}, HashConfig("pepper", ("userId",)))
    assert (route.keep, route.drop, route.map, route.skip) == (("a", "d"), ("e",), None, None)


def test_routes_without_a_name_get_one():
    assert [route.name for route in routes("- { to: [crm, alerts], when: event == 'x' }\n- { to: crm, name: x }")] == [
        "route 1 to crm, alerts",
        "x",
    ]


def test_no_routes_are_fine():
    assert load(HEAD).routes == []


@pytest.mark.parametrize("when", ["true", "false", "'event == \"x\"'"])
def test_when_may_be_true_or_false(when):
    assert routes(f"- {{ to: crm, when: {when} }}")[0].when == when.strip("'")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("- crm", "a route must be an object (`key: value`)", ""),
        ("- ~", "a route must be an object (`key: value`)", ""),
        ("-", "a route must be an object (`key: value`)", ""),
        ("- { to: crm, hash: }", "`hash` must be an object (`key: value`)", ""),
        ("- { when: type }", "the route has no `to`", "add `to:` with the name of a destination"),
        ("- { to: [] }", "`to` must not be an empty list", ""),
        ("- { to: crn }", "there is no destination `crn`", "did you mean `crm`?"),
        (
            "- { to: warehouse }",
            "there is no destination `warehouse`",
            "the warehouse gets every event without a route",
        ),
        ("- { to: [crm, crm] }", "`to` names `crm` twice", ""),
        ("- { to: crm, from: web }", "there is no source `web`", "did you mean `website`?"),
        ("- { to: crm, whn: x }", "a route has no key `whn`", "did you mean `when`?"),
        (
            "- { to: crm, when: 5 }",
            "`when` must be an expression in a text",
            "put quotes around the whole, such as \"type == 'track'\"",
        ),
        ("- { to: crm, when: evnt }", "`when` uses the unknown name `evnt`", "did you mean `event`?"),
        ("- { to: crm, set: { a: '{{ evnt }}' } }", "`set` uses the unknown name `evnt`", "did you mean `event`?"),
        ("- { to: crm, map: [{ a: '{{ evnt }}' }] }", "`map` uses the unknown name `evnt`", "did you mean `event`?"),
        ("- { to: crm, map: }", "`map` is empty", "write the payload under it, or leave it out"),
        (
            "- { to: crm, set: { a..b: 1 } }",
            "`set`: `a..b` is not a path at character 2",
            'write properties.total, or properties["a.b"] where a key has a dot',
        ),
        (
            "- { to: crm, set: { 'a.{{ type }}': 1 } }",
            "`set`: `a.{{ type }}` has a template in it",
            "only values are templates: write the path itself",
        ),
        (
            "- { to: crm, rename: { a: 'b.{{ type }}' } }",
            "`rename`: `b.{{ type }}` has a template in it",
            "only values are templates: write the path itself",
        ),
        (
            "- { to: crm, map: { a: { '{{ type }}': 1 } } }",
            "`map` has a template in a key",
            "only values are templates: write the key itself",
        ),
        (
            "- { to: crm, drop: a.* }",
            "`drop`: `a.*` has a `*`, which stands for no other key",
            "name each key, or the object that holds them; into each item of a list a path goes by itself",
        ),
        ("- { to: crm, keep: [] }", "`keep` must not be an empty list", "name what is kept: nothing would be left"),
        ("- { to: crm, drop: [] }", "`drop` must not be an empty list", "name a path, or leave it out"),
        ("- { to: crm, drop: [a, a.b] }", "`drop`: `a.b` lies inside of `a`", "keep one of them"),
        ("- { to: crm, rename: { a: a.b } }", "`rename` moves `a` into itself", ""),
        ("- { to: crm, rename: { a: 5 } }", "`rename` must be a text", "put quotes around it"),
        (
            "- { to: crm, map: { a: 1 }, drop: a }",
            "`drop` has no effect beside `map`",
            "`map` replaces the payload: leave one of them out",
        ),
        (
            "- { to: crm, skip: staff, sample: 1% }",
            "`sample` has no effect beside `skip`",
            "a route with `skip` sends nothing: leave one of them out",
        ),
        ("- { to: crm, sample: 10 }", "`sample` is not valid", "write a share such as 10% or 0.1, from 0% to 100%"),
        (
            "- { to: crm, hash: { fields: userId } }",
            "`hash` has no `salt`",
            'add `salt: "${SALT}"`: without a secret, addresses can be found again by trying',
        ),
        ("- { to: crm, hash: { salt: x } }", "`hash` has no `fields`", "add `fields: [userId, traits.email]`"),
        (
            "- { to: crm, name: x }\n- { to: alerts, name: x }",
            "the name of the route is not its own",
            "line 10 has it, too; reports and samples go by the name",
        ),
    ],
)
def test_what_is_wrong_with_a_route_is_told(text, message, hint):
    assert messages(text) == [(message, hint)]


def test_an_empty_map_is_told_at_its_own_place():
    (problem,) = problems("  - to: crm\n    map:\n  - { to: alerts }\n")
    assert (problem.line, problem.column, problem.message) == (11, 5, "`map` is empty")


def test_routes_must_be_a_list():
    assert messages("  crm: {}") == [("`routes` must be a list", "begin each route with `- `")]


@pytest.mark.parametrize(
    ("when", "place"),
    [
        ("when: event = 'x'", (11, 17)),
        ("when: \"event = 'x'\"", (11, 18)),
        ("when: >-\n      type == 'track' and\n      event = 'x'", (13, 13)),
        ("when: |\n      type == 'track'\n      and event = 'x'", (13, 17)),
        ("when: type == 'track'\n      and event = 'x'", (12, 17)),
    ],
)
def test_a_fault_in_a_condition_has_its_column_in_the_file(when, place):
    (problem,) = problems(f"  - to: crm\n    {when}\n")
    assert (problem.line, problem.column) == place
    assert problem.text[problem.column - 1] == "="


def test_all_faults_of_a_condition_are_told():
    assert len(problems("- { to: crm, when: evnt == 1 or tipe == 2 }")) == 2


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("to: crm", "to: crm"),
        ("to: crm", "to: crm, from: website, when: event == 'x'"),
        ("to: [crm, alerts]", "to: [crm, alerts], when: event == 'x'"),
        ("to: crm, from: [website, app]", "to: crm, from: app"),
        ("to: crm, when: event == 'x'", 'to: crm, from: app, when: "event==\\"x\\""'),
        ("to: crm, when: true", "to: crm, when: event == 'x'"),
        ("to: crm, sample: 1%", "to: crm, when: event == 'x'"),
        ("to: crm, when: event == 'x'", "to: crm, when: event == 'x' and properties.n > 5"),
        ("to: crm, when: event is startswith 'Order'", "to: crm, when: event == 'Order Completed'"),
    ],
)
def test_a_route_that_can_never_match_is_told(earlier, later):
    (problem,) = problems(f"- {{ name: first, {earlier} }}\n- {{ {later} }}\n")
    assert problem.message == "the route can never match: `first` in line 10 takes all its events"
    assert problem.line == 11


def test_several_routes_that_take_all_together_are_told():
    (problem,) = problems(
        "- { name: a, to: crm, from: app }\n"
        "- { name: b, to: crm, from: website }\n"
        "- { to: crm, from: [website, app] }\n"
    )
    assert problem.message == "the route can never match: `a` in line 10, `b` in line 11 take all its events"


@pytest.mark.parametrize(
    ("when", "column", "hint"),
    [
        ("type == 'page' and type == 'track'", 39, "`type` can't be what is asked of it"),
        ("properties.n > 5 and properties.n < 3", 41, "`properties.n` can't be what is asked of it"),
        ("source == 'wbsite'", 20, "did you mean `website`?"),
        ("event | lower == 'a' and event | lower == 'b'", 45, "its parts exclude each other"),
    ],
)
def test_a_condition_that_is_never_true_is_told_at_its_part(when, column, hint):
    (problem,) = problems(f"- {{ to: crm, when: {when} }}\n")
    assert (problem.line, problem.column, problem.message, problem.hint) == (
        10,
        column,
        "the route can never match: `when` is never true",
        hint,
    )


def test_what_a_variable_brought_into_a_condition_that_is_never_true_is_not_told():
    (problem,) = problems("- { to: crm, when: \"source == '${S}'\" }\n", S="sesame-open")
    assert (problem.message, problem.hint) == (
        "the route can never match: `when` is never true",
        "check the variables",
    )


def test_a_route_may_be_switched_off():
    assert len(routes("- { to: crm, when: false }\n- { to: crm }\n")) == 2


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("to: crm, when: event == 'x'", "to: crm"),
        ("to: crm, when: event == 'x'", "to: crm, when: event == 'y'"),
        ("to: crm, from: website", "to: crm"),
        ("to: crm, from: website", "to: crm, from: app"),
        ("to: crm", "to: alerts"),
        ("to: crm", "to: [crm, alerts]"),
    ],
)
def test_a_route_that_can_still_match_is_fine(earlier, later):
    assert len(routes(f"- {{ {earlier} }}\n- {{ {later} }}\n")) == 2


def test_a_condition_with_a_missing_variable_is_told_once():
    assert messages('- { to: crm, when: "event == ${GONE}" }') == [
        ("the variable GONE is not set", "export GONE=…, or give a default: ${GONE:-default}")
    ]


def test_variables_in_conditions_and_templates_are_filled_in():
    (route,) = routes('- { to: crm, when: "event == \'${E}\'", set: { a: "${E} {{ type }}" } }', E="x")
    assert (route.when, route.set) == ("event == 'x'", {"a": "x {{ type }}"})
