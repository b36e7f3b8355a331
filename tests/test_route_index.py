from types import SimpleNamespace

from eventrouter.expressions import Expressions
from eventrouter.route_index import MAX_PLANS, RouteIndex


def route(name, to, when=None, from_=None):
    condition = Expressions().condition(when) if when else None
    config = SimpleNamespace(to=to, from_=from_)
    return SimpleNamespace(name=name, config=config, condition=condition, when=condition.test if condition else None)


def groups(index, event, source="website"):
    return {tuple(group.destinations): [route.name for route in group.routes] for group in index.groups(event, source)}


def test_only_routes_that_may_match_are_tried():
    routes = [route(f"r{n}", ["crm"], f'event == "E{n}" and properties.x > 1') for n in range(1000)]
    index = RouteIndex([*routes, route("page", ["crm"], 'type == "page"')], ["crm"])
    assert groups(index, {"type": "track", "event": "E7"}) == {("crm",): ["r7"]}
    assert groups(index, {"type": "track", "event": "other"}) == {}
    assert groups(index, {"type": "page"}) == {("crm",): ["page"]}
    assert groups(index, {"type": "page", "event": "E7"}) == {("crm",): ["r7", "page"]}


def test_nested_values_are_looked_up_too():
    index = RouteIndex([route(f"r{n}", ["crm"], f"properties.shop == {n}") for n in range(100)], ["crm"])
    assert groups(index, {"properties": {"shop": 7}}) == {("crm",): ["r7"]}
    assert groups(index, {"properties": {"shop": 7.0}}) == {("crm",): ["r7"]}
    for properties in ({"shop": [7]}, {"shop": {}}, {}, None, [], "shop"):
        assert groups(index, {"properties": properties}) == {}


def test_true_is_not_looked_up_as_one():
    index = RouteIndex([route("one", ["crm"], "properties.vip == 1")], ["crm"])
    assert groups(index, {"properties": {"vip": 1.0}}) == {("crm",): ["one"]}
    assert groups(index, {"properties": {"vip": True}}) == {}
    index = RouteIndex([route("yes", ["crm"], "properties.vip == true")], ["crm"])
    assert groups(index, {"properties": {"vip": True}}) == {("crm",): ["yes"]}


def test_routes_after_an_unconditional_one_are_not_tried():
    index = RouteIndex(
        [route("a", ["crm"], "event"), route("b", ["crm"]), route("c", ["crm", "alerts"])], ["crm", "alerts"]
    )
    assert groups(index, {}) == {("crm",): ["a", "b"], ("alerts",): ["c"]}


def test_sources_and_switched_off_destinations_are_left_out():
    routes = [route("a", ["crm", "off"], from_=("website",)), route("b", ["crm"], from_=("app",))]
    index = RouteIndex(routes, ["crm"])
    assert groups(index, {}) == {("crm",): ["a"]}
    assert groups(index, {}, "app") == {("crm",): ["b"]}
    assert groups(index, {}, "another") == {}


def test_destinations_with_the_same_routes_are_one_group():
    index = RouteIndex([route("a", ["crm", "alerts"], "event"), route("b", ["crm", "alerts"])], ["crm", "alerts"])
    assert groups(index, {}) == {("crm", "alerts"): ["a", "b"]}


def test_what_is_remembered_is_bounded_whatever_the_events_say():
    index = RouteIndex([route("a", ["crm"], 'event == "A"')], ["crm"])
    for number in range(1000):
        index.groups({"event": f"Event {number}"}, f"source {number}")
    assert len(index._plans) == 1
    many = [route(f"{n}", ["crm"], f"event == {n} and name == {n}") for n in range(200)]
    many += [route(f"t{n}", ["crm"], f"name == {n}") for n in range(200)]
    index = RouteIndex(many, ["crm"])
    for number in range(40_000):
        index.groups({"event": number % 200, "name": number // 200}, "")
    assert len(index._plans) <= MAX_PLANS
