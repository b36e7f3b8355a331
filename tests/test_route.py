import copy
import hashlib
import hmac
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventrouter.config import Config, DestinationConfig, RouteConfig, loads
from eventrouter.events import StoredEvent
from eventrouter.expressions import Expressions
from eventrouter.hookspecs import hookimpl
from eventrouter.plugins import Plugins
from eventrouter.route import Router
from routes_kit import HEAD, PLUGINS, Kit, load

EVENT = {
    "type": "track",
    "event": "Order Completed",
    "messageId": "m1",
    "anonymousId": "a1",
    "userId": "u1",
    "person_id": "p1",
    "properties": {"total": 12.5, "note": "hello", "products": [{"id": 1, "cost": 2}, {"id": 2, "cost": 3}]},
    "traits": {"email": "a@example.com"},
    "context": {"ip": "::1"},
}


def router(routes: str) -> Router:
    return Router(load(HEAD + routes), PLUGINS.template_filters)


def route(routes: str, *events, source="website"):
    batch = [StoredEvent(source, event) for event in (events or [EVENT])]
    before = copy.deepcopy(batch)
    routed = router(routes).route(batch)
    assert before == batch, "an event was changed"
    return routed


def payload(routes: str, event=EVENT):
    routed = route(routes, event)
    assert routed.failed == []
    (payload,) = [delivery.payload for delivery in routed.deliveries if delivery.destination == "crm"]
    return payload


def outcomes(routed):
    """By destination what happened, without payloads."""
    return {
        **{one.destination: one.route for one in routed.deliveries},
        **dict(routed.filtered.keys()),
        **{destination: f"failed: {why}" for destination, _, _, why in routed.failed},
    }


def consenting(**preferences):
    return {**EVENT, "context": {"consent": {"categoryPreferences": preferences}}}


# -- which route ---------------------------------------------------------------------------------------------------


def test_the_first_matching_route_of_each_destination_wins():
    routed = route(
        """
        - { name: small, to: crm, when: properties.total < 5 }
        - { name: first, to: crm, when: event == "Order Completed" }
        - { name: second, to: [crm], when: type == "track" }
        """
    )
    assert outcomes(routed) == {"crm": "first", "alerts": "no_route", "off": "disabled"}


def test_from_and_when_alone_decide_the_match():
    """A match that is then filtered does not fall through to the next route."""
    routes = """
        - { name: one, to: crm, from: website, sample: 0% }
        - { name: two, to: crm, from: app }
        """
    assert outcomes(route(routes))["crm"] == "sample"
    assert outcomes(route(routes, source="app"))["crm"] == "two"
    assert outcomes(route(routes, source="gone"))["crm"] == "no_route"


def test_an_event_has_exactly_one_outcome_for_each_destination():
    events = [EVENT, {**EVENT, "event": "Other"}, {**EVENT, "type": "page"}, {**EVENT, "integrations": {"All": False}}]
    routed = route(
        """
        - { name: a, to: [crm, alerts], when: event == "Order Completed" }
        - { name: b, to: crm, when: "properties.note | join == 1 and type == 'page'" }
        """,
        *events,
    )
    counted = Counter(one.destination for one in routed.deliveries) + Counter(
        destination for destination, *_ in routed.failed
    )
    for (name, _), number in routed.filtered.items():
        counted[name] += number
    assert counted == {"crm": 4, "alerts": 4, "off": 4}


def test_a_batch_keeps_the_positions_of_its_events():
    events = [EVENT, {**EVENT, "type": "page"}, EVENT]
    routed = route('- { name: a, to: crm, when: type == "track" }', *events)
    assert [one.index for one in routed.deliveries] == [0, 2]
    assert routed.filtered["crm", "no_route"] == 1


def test_no_events_make_no_outcomes():
    routed = router("- { to: crm }").route([])
    assert (routed.deliveries, routed.failed, routed.filtered) == ([], [], {})


def test_source_can_be_part_of_a_condition():
    routes = '- { name: a, to: crm, when: source == "app" }'
    assert outcomes(route(routes, source="app"))["crm"] == "a"
    assert outcomes(route(routes))["crm"] == "no_route"


def test_a_route_may_skip_events_with_its_own_reason():
    routes = """
        - { name: staff, to: crm, when: traits.email is endswith "@example.com", skip: staff }
        - { name: all, to: crm }
        """
    assert outcomes(route(routes))["crm"] == "staff"
    assert outcomes(route(routes, {**EVENT, "traits": {}}))["crm"] == "all"


def test_a_router_for_some_destinations_knows_of_no_others():
    made = router("  - { name: all, to: [crm, alerts] }\n  - { name: off, to: off }\n")
    narrow = made.only(["off", "crm"])
    assert (list(narrow.destinations), list(made.destinations)) == (["crm", "off"], ["crm", "alerts", "off"])
    assert outcomes(narrow.route([StoredEvent("website", EVENT)])) == {"crm": "all", "off": "disabled"}
    assert outcomes(made.route([StoredEvent("website", EVENT)])) == {
        "crm": "all",
        "alerts": "consent",
        "off": "disabled",
    }


def test_routing_can_be_narrowed_to_some_destinations():
    routed = router("- { name: a, to: [crm, alerts, off] }").route([StoredEvent("website", EVENT)], {"crm", "off"})
    assert outcomes(routed) == {"crm": "a", "off": "disabled"}


# -- consent, integrations, sample ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (EVENT, "consent"),
        (consenting(marketing=True), "consent"),
        (consenting(marketing=True, sale=True), "a"),
        (consenting(marketing=True, sale="yes"), "consent"),
        (consenting(marketing=True, sale=1), "consent"),
        (consenting(sale=True), "consent"),
        ({**EVENT, "context": {"consent": None}}, "consent"),
        ({**EVENT, "context": {"consent": {"categoryPreferences": ["marketing", "sale"]}}}, "consent"),
    ],
)
def test_the_consents_of_destination_and_route_must_both_be_given(event, outcome):
    assert outcomes(route("- { name: a, to: alerts, consent: sale }", event))["alerts"] == outcome


@pytest.mark.parametrize(
    ("integrations", "outcome"),
    [
        ({}, "a"),
        (None, "a"),
        ("nonsense", "a"),
        ({"crm": False}, "integrations"),
        ({"acme": False}, "integrations"),
        ({"All": False}, "integrations"),
        ({"all": False}, "a"),
        ({"All": False, "crm": True}, "a"),
        ({"All": False, "acme": {"key": 1}}, "a"),
        ({"acme": False, "crm": True}, "a"),
        ({"All": False, "crm": None}, "integrations"),
        ({"All": True, "crm": False}, "integrations"),
    ],
)
def test_the_events_integrations_are_honoured(integrations, outcome):
    assert outcomes(route("- { name: a, to: crm }", {**EVENT, "integrations": integrations}))["crm"] == outcome


def test_a_sample_takes_its_share_and_sticks_to_the_order_key():
    events = [{**EVENT, "anonymousId": f"a{number % 5000}", "messageId": str(number)} for number in range(10_000)]
    routed = route("- { name: some, to: crm, sample: 10% }", *events)
    taken = {one.index for one in routed.deliveries}
    assert {index + 5000 for index in taken if index < 5000} == {index for index in taken if index >= 5000}
    assert 400 <= len(taken) / 2 <= 600
    assert routed.filtered["crm", "sample"] == 10_000 - len(taken)


def test_a_sample_has_those_that_lie_below_it():
    (route,) = router("  - { name: some, to: crm, sample: 25% }\n").routes
    keys = [f"user-{number}" for number in range(1000)]
    assert [route.takes(key) for key in keys] == [route.position(key) < 0.25 for key in keys]


def test_samples_of_two_routes_are_independent():
    events = [{**EVENT, "anonymousId": f"a{number}"} for number in range(2000)]
    one = {each.index for each in route("- { name: one, to: crm, sample: 0.5 }", *events).deliveries}
    two = {each.index for each in route("- { name: two, to: crm, sample: 0.5 }", *events).deliveries}
    assert 400 <= len(one & two) <= 600


# -- payloads ------------------------------------------------------------------------------------------------------


def test_without_changes_the_payload_is_the_event_in_a_new_object():
    made = payload("- { to: crm }")
    assert made == EVENT
    assert made is not EVENT


def test_map_replaces_the_payload():
    routes = """
        - to: crm
          map:
            text: "Order {{ properties.total }} from {{ source }}"
            gone: "{{ properties.gone }}"
            inner: { person: "{{ person_id }}", list: ["{{ traits.email }}", 1] }
        """
    assert payload(routes) == {
        "text": "Order 12.5 from website",
        "inner": {"person": "p1", "list": ["a@example.com", 1]},
    }


def test_map_may_be_one_value():
    assert payload('- { to: crm, map: "{{ properties.products }}" }') == EVENT["properties"]["products"]


def test_a_map_that_is_missing_altogether_is_a_failure():
    routed = route('- { name: a, to: crm, map: "{{ properties.gone }}" }')
    assert routed.failed == [("crm", 0, "a", "`map` has a missing part, so that there is no payload")]


def test_the_steps_of_a_route_run_in_their_order():
    """rename → set → hash → keep → drop, and templates read the event as it came."""
    routes = """
        - to: crm
          rename: { properties.note: properties.comment }
          set: { properties.copy: "{{ properties.note }}", properties.total: "{{ properties.total * 100 }}", userId: x }
          hash: { salt: pepper, fields: [properties.copy, userId] }
          keep: [properties, userId]
          drop: [properties.products.cost]
        """

    def digest(text: str) -> str:
        return hmac.new(b"pepper", text.encode(), hashlib.sha256).hexdigest()

    assert payload(routes) == {
        "userId": digest("x"),
        "properties": {
            "comment": "hello",
            "copy": digest("hello"),
            "total": 1250.0,
            "products": [{"id": 1}, {"id": 2}],
        },
    }


def test_set_makes_objects_and_leaves_out_what_is_missing():
    made = payload('- { to: crm, set: { a.b.c: "{{ type }}", a.d: "{{ properties.gone }}", e.f: "{{ traits.x }}" } }')
    assert made == {**EVENT, "a": {"b": {"c": "track"}}}


def test_hash_takes_numbers_and_objects_and_leaves_null():
    event = {**EVENT, "properties": {"number": 5, "object": {"b": 1, "a": 2}, "nothing": None}}
    made = payload(
        """
        - to: crm
          hash: { salt: pepper, fields: [properties.number, properties.object, properties.nothing, a.b] }
        """,
        event,
    )
    digests = [hmac.new(b"pepper", text, hashlib.sha256).hexdigest() for text in (b"5", b'{"a":2,"b":1}')]
    assert made["properties"] == {"number": digests[0], "object": digests[1], "nothing": None}


def test_deliveries_of_one_route_share_their_payload():
    routed = router("- { name: a, to: [crm, alerts], drop: [context.ip] }").route(
        [StoredEvent("website", consenting(marketing=True))]
    )
    assert [one.destination for one in routed.deliveries] == ["crm", "alerts"]
    assert routed.deliveries[0].payload is routed.deliveries[1].payload


# -- failures ------------------------------------------------------------------------------------------------------


def test_a_failing_template_costs_only_its_own_delivery():
    routes = """
        - { name: wrong, to: crm, set: { x: "{{ properties.note * 2 }}" } }
        - { name: right, to: alerts }
        """
    routed = route(routes, consenting(marketing=True), {**consenting(marketing=True), "properties": {"note": 2}})
    assert routed.failed == [("crm", 0, "wrong", "`set x` `*` has no meaning for text and a number")]
    assert [(one.destination, one.index) for one in routed.deliveries] == [("alerts", 0), ("crm", 1), ("alerts", 1)]


def circle(value):
    made = {}
    made["itself"] = made
    return made


HALF = "the payload can't be written as JSON: UnicodeEncodeError"


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda value: "\ud800", HALF),
        (lambda value: {"\ud800": 1}, HALF),
        (lambda value: [object()], "is not JSON"),
        (lambda value: {None: 1}, "is not JSON"),
        (lambda value: 10**5000, "is too large"),
        (circle, "returned too much"),
    ],
)
@pytest.mark.parametrize("how", ["map", "set"])
def test_what_a_filter_makes_that_is_no_json_is_a_failure(made, why, how):
    class Filters:
        @hookimpl
        def register_template_filters(self):
            return {"odd": made}

    plugins = Plugins(Kit(), Filters())
    routes = f"- {{ name: odd, to: crm, {how}: {{ x: '{{{{ event | odd }}}}' }} }}\n- {{ name: good, to: alerts }}\n"
    found = Router(loads(HEAD + routes, plugins, {}), plugins.template_filters).route(
        [StoredEvent("website", consenting(marketing=True))]
    )
    [(destination, index, route, told)] = found.failed
    assert (destination, index, route, why in told) == ("crm", 0, "odd", True)
    assert [one.destination for one in found.deliveries] == ["alerts"]


def test_a_delivery_carries_its_payload_as_json_once_for_all_destinations():
    routed = router("- { name: a, to: [crm, alerts], map: { big: '{{ properties.big }}', text: é } }").route(
        [StoredEvent("website", {**consenting(marketing=True), "properties": {"big": 2**80}})]
    )
    assert [msgspec.json.decode(one.data) for one in routed.deliveries] == [one.payload for one in routed.deliveries]
    assert routed.deliveries[0].data is routed.deliveries[1].data


def test_a_payload_that_is_too_large_is_a_failure():
    event = {**EVENT, "properties": {"note": "x" * 30_000}}
    fields = ", ".join(f"f{n}: '{{{{ properties }}}}'" for n in range(40))
    routed = route(f"- {{ name: large, to: crm, map: {{ {fields} }} }}", event)
    [(destination, index, name, why)] = routed.failed
    assert (destination, index, name, routed.deliveries) == ("crm", 0, "large", [])
    assert why == "the payload has 1,200,711 bytes as JSON, more than 1,000,000"


def test_a_large_event_is_sent_as_it_is():
    event = {**EVENT, "properties": {"note": "x" * 1_500_000}}
    [delivery] = route("- { name: whole, to: crm, set: { properties.more: 1 } }", event).deliveries
    assert len(delivery.data) > 1_500_000


def test_setting_a_key_inside_of_a_text_is_a_failure():
    routed = route("- { name: a, to: crm, set: { properties.note.x: 1 } }")
    assert routed.failed == [("crm", 0, "a", "can't set a key inside of `properties.note`, which is text")]


def test_a_failing_condition_is_a_failure_of_the_destinations_that_it_decides():
    """Which route is the first match can't be known, so nothing is sent, and it is told."""
    long = "x" * 200_000
    routes = """
        - { name: wrong, to: crm, when: 'properties.long ~ properties.long == "x"' }
        - { name: later, to: [crm, alerts] }
        """
    routed = route(routes, {**consenting(marketing=True), "properties": {"long": long}})
    assert routed.failed == [("crm", 0, "wrong", "`when` makes a text of more than 262,144 characters")]
    assert [one.destination for one in routed.deliveries] == ["alerts"]


def test_mismatches_are_counted():
    made = router("- { to: crm, when: properties.note > 5 }")
    made.route([StoredEvent("website", EVENT)] * 3)
    assert made.mismatches == 3


# -- the index against the plain reading -----------------------------------------------------------------------------

CONDITIONS = [
    None,
    'event == "A"',
    'event == "B" and properties.n > 1',
    'event in ["A", "C"]',
    'type == "page"',
    'type == "track" and event == "A" and source == "app"',
    "properties.n == 1",
    "properties.n == 1 or event == 'B'",
    "properties.n == 1 or properties.n == 2",
    'properties.n == "1"',
    "properties.n == true",
    "properties.n == none",
    "not event == 'A'",
    "event == 'A' and event == 'B'",
    "event != 'A'",
    "properties.n in [1, 2] and context.page == 'x'",
]
RULES = st.lists(
    st.tuples(
        st.sampled_from(CONDITIONS),
        st.sampled_from([None, ["website"], ["app"]]),
        st.sampled_from([["crm"], ["alerts"], ["crm", "alerts"]]),
    ),
    max_size=12,
)
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["track", "page"])},
    optional={
        "event": st.sampled_from(["A", "B", "C", "D", None]),
        "properties": st.fixed_dictionaries({}, optional={"n": st.sampled_from([1, 2, 1.0, "1", True, None, [1], {}])}),
        "context": st.sampled_from([{}, {"page": "x"}, {"page": {}}]),
    },
)


@settings(max_examples=300, deadline=None)
@given(RULES, st.lists(st.tuples(EVENTS, st.sampled_from(["website", "app", "gone"])), max_size=8))
def test_the_index_finds_what_trying_every_route_finds(rules, events):
    config = load(HEAD + "- { to: [crm, alerts] }")
    routes = [
        RouteConfig(str(number), tuple(to), None if from_ is None else tuple(from_), when)
        for number, (when, from_, to) in enumerate(rules)
    ]
    destinations = {
        name: DestinationConfig(name, "acme", one.options, one.cls) for name, one in config.destinations.items()
    }
    routed = Router(Config("x", "x", config.sources, destinations=destinations, routes=routes)).route(
        [StoredEvent(source, event) for event, source in events]
    )
    found = {(one.index, one.destination): one.route for one in routed.deliveries}
    expressions = Expressions()
    expected = {}
    for index, (event, source) in enumerate(events):
        for one in routes:
            allowed = one.from_ is None or source in one.from_
            if allowed and (one.when is None or expressions.condition(one.when)(event, source)):
                for name in one.to:
                    expected.setdefault((index, name), one.name)
    assert found == expected
