"""Conditions mean what docs/routes.md says, wherever they are worked out: alone, by the router, by `explain`."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from eventrouter.config import RouteConfig
from eventrouter.explain import Explainer
from eventrouter.expressions import Expressions
from eventrouter.route import Router
from language_kit import conditions, events, holds, written
from routes_kit import HEAD, load

RULES = load(HEAD)


@settings(max_examples=1000, deadline=None)
@given(conditions, st.lists(events, min_size=1, max_size=8))
def test_a_compiled_condition_is_what_the_page_says(condition, some):
    compiled = Expressions().condition(written(condition))
    assert [compiled(one.event, one.source) for one in some] == [holds(condition, one) for one in some]


@settings(max_examples=300, deadline=None)
@given(st.lists(conditions, min_size=1, max_size=8), st.lists(events, min_size=1, max_size=8))
def test_the_router_and_explain_find_the_first_route_whose_condition_holds(made, some):
    routes = [RouteConfig(str(number), ("crm",), when=written(one)) for number, one in enumerate(made)]
    config = replace(RULES, routes=routes)
    router = Router(config)
    first = {
        (index, next((str(number) for number, one in enumerate(made) if holds(one, event)), None))
        for index, event in enumerate(some)
    }
    found = {one.index: one.route for one in router.route(some).deliveries}
    assert {(index, found.get(index)) for index in range(len(some))} == first
    explainer = Explainer(config, router)
    for index, event in enumerate(some):
        (told,) = [one for one in explainer.explain(event) if one.destination == "crm"]
        assert (index, next((look.route for look in told.looks if look.matches), None)) in first
