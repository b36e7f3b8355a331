"""What is told of an event: the routes, the parts of their conditions, what it passes, and what would be sent."""

import pytest
from pydantic import SecretStr

from eventrouter.config import loads
from eventrouter.destination import Destination
from eventrouter.errors import Reject, Retry
from eventrouter.events import StoredEvent
from eventrouter.explain import Explainer
from eventrouter.hookspecs import hookimpl
from eventrouter.outcome import Outcome
from eventrouter.plugins import Plugins
from eventrouter.route import Router
from eventrouter.values import MISSING
from routes_kit import HEAD, Acme, Kit

RULES = """\
version: 1
sources:
  website: { write_key: a }
  app: { write_key: b }
destinations:
  crm:
    plugin: webhook
    options: { url: "https://crm.example.com/s3cr3t-path", headers: { x-key: "s3cr3t-key" }, secret: s3cr3t-of-crm }
    consent: marketing
  lines: { plugin: stdout }
  off: { plugin: stdout, enabled: false }
routes:
  - { name: of the app, to: crm, from: app, map: "{{ name }}" }
  - name: orders
    to: crm
    when: event == "Order Completed" and properties.total > 10
    consent: [email]
    sample: 100%
    map: { total: "{{ properties.total }}", key: s3cr3t-key }
  - { name: none of it, to: lines, when: properties.total > 100, skip: too large }
  - { name: lines, to: [lines, off], when: properties.total * 2 > 5 }
"""
CONSENT = {"consent": {"categoryPreferences": {"marketing": True, "email": True}}}


@pytest.fixture(scope="module")
def explained():
    """The explanations of an event of `website`, by destination."""
    config = loads(RULES, Plugins.load(), {})
    explainer = Explainer(config, Router(config))

    def explain(total=50, source="website", **more):
        event = {"type": "track", "event": "Order Completed", "messageId": "m", "userId": "u", "properties": {}}
        if total is not None:
            event["properties"]["total"] = total
        return {one.destination: one for one in explainer.explain(StoredEvent(source, event | more))}

    return explain


def test_there_is_an_explanation_for_each_destination(explained):
    assert [(one.destination, one.plugin) for one in explained().values()] == [
        ("crm", "webhook"),
        ("lines", "stdout"),
        ("off", "stdout"),
    ]


def test_routes_are_told_up_to_the_first_that_matches(explained):
    looks = explained()["crm"].looks
    assert [(look.route, look.place, look.matches, look.why) for look in looks] == [
        ("of the app", "routes.yaml:13", False, "it is for app"),
        ("orders", "routes.yaml:14", True, ""),
    ]
    assert [look.route for look in explained(source="app")["crm"].looks] == ["of the app"]


def test_each_part_of_a_condition_has_its_value_and_what_it_reads(explained):
    (_, look) = explained(total=5)["crm"].looks
    assert [(part.text, part.depth, part.joined, part.value, dict(part.reads)) for part in look.parts] == [
        ('event == "Order Completed" and properties.total > 10', 0, "and", False, {}),
        ('event == "Order Completed"', 1, "", True, {"event": "Order Completed"}),
        ("properties.total > 10", 1, "", False, {"properties.total": 5}),
    ]
    (part,) = explained(total=None)["lines"].looks[0].parts
    assert (part.value, part.reads) == (False, {"properties.total": MISSING})


def test_what_an_event_passes_is_told_up_to_what_stops_it(explained):
    checks = explained(context=CONSENT)["crm"].checks
    passed = [("consent marketing", True), ("consent email", True), ("sample 100%", True)]
    assert [(check.what, check.passed) for check in checks] == passed
    assert [(check.what, check.passed) for check in explained()["crm"].checks] == [("consent marketing", False)]
    integrations = {"All": False, "crm": True}
    assert explained(integrations=integrations, context=CONSENT)["crm"].checks[0][:2] == ("integrations", True)
    assert explained(integrations=integrations)["lines"].checks[0][:2] == ("integrations", False)


def test_what_decides_a_check_is_told(explained):
    agreed, _, sample = explained(context=CONSENT)["crm"].checks
    assert agreed.reads == {"context.consent.categoryPreferences.marketing": True}
    assert sample.reads.keys() == {"userId", "percent"}
    assert (sample.reads["userId"], 0 < sample.reads["percent"] < 100) == ("u", True)
    assert explained(context=CONSENT, anonymousId="a")["crm"].checks[-1].reads["anonymousId"] == "a"
    assert explained()["crm"].checks[0].reads == {"context.consent.categoryPreferences.marketing": MISSING}
    integrations = {"All": False, "webhook": True}
    assert explained(integrations=integrations)["crm"].checks[0].reads == {"integrations.webhook": True}
    assert explained(integrations=integrations)["lines"].checks[0].reads == {"integrations.All": False}
    assert explained(integrations={"Acme": False})["lines"].checks[0].reads == {"integrations.All": MISSING}


def test_the_outcome_is_what_the_router_says(explained):
    found = explained()
    assert found["crm"].outcome == Outcome(MISSING, "consent")
    assert found["lines"].outcome.route == "lines"
    assert found["off"].outcome == Outcome(MISSING, "disabled")
    assert explained(total=200)["lines"].outcome == Outcome(MISSING, "too large")


class Broken:
    """Registers a filter that fails."""

    @hookimpl
    def register_template_filters(self):
        return {"broken": lambda value: value[99]}


def test_a_part_that_fails_says_why_and_ends_the_look():
    plugins = Plugins(Kit(), Broken())
    routes = "  - { name: broken, to: crm, when: event and name | broken }\n  - { name: rest, to: crm }\n"
    config = loads(HEAD + routes, plugins, {})
    filters = plugins.template_filters
    explainer = Explainer(config, Router(config, filters))
    event = {"type": "track", "event": "E", "name": "x", "messageId": "m", "userId": "u"}
    (look,) = next(explainer.explain(StoredEvent("website", event))).looks
    whole, first, second = look.parts
    assert (look.matches, first.value) == (False, True)
    assert whole.value == second.value
    assert "IndexError" in second.value


def test_a_part_that_fails_behind_one_that_is_false_does_not_end_the_look():
    plugins = Plugins(Kit(), Broken())
    routes = "  - { name: old, to: crm, when: type == 'page' and name | broken }\n  - { name: rest, to: crm }\n"
    config = loads(HEAD + routes, plugins, {})
    filters = plugins.template_filters
    event = {"type": "track", "event": "E", "name": "x", "messageId": "m", "userId": "u"}
    explainer = Explainer(config, Router(config, filters))
    found = next(explainer.explain(StoredEvent("website", event)))
    assert [(look.route, look.matches) for look in found.looks] == [("old", False), ("rest", True)]
    assert [type(part.value) for part in found.looks[0].parts] == [bool, bool, str]
    assert found.outcome.route == "rest"


def test_what_variables_brought_into_the_rules_is_masked_everywhere():
    routes = """\
  - name: ours
    to: crm
    when: context.ip == "${IP}"
    skip: "from ${IP}"
  - name: all
    to: crm
    map: { key: "${KEY}", at: "{{ name }}/${KEY}" }
"""
    rules = RULES.split("routes:")[0].replace("    consent: marketing\n", "") + "routes:\n" + routes
    config = loads(rules, Plugins.load(), {"IP": "203.0.113.7", "KEY": "k3y-of-routes"})
    explainer = Explainer(config, Router(config))
    event = {"type": "page", "name": "k3y-of-routes", "messageId": "m", "userId": "u", "context": {}}
    found = next(explainer.explain(StoredEvent("website", event)))
    assert found.outcome.payload == {"key": "**********", "at": "**********/**********"}
    assert found.looks[0].parts[0].text == 'context.ip == "**********"'
    assert "k3y-of-routes" not in str(found)
    assert "**********" in found.requests[0].body
    found = next(explainer.explain(StoredEvent("website", event | {"context": {"ip": "203.0.113.7"}})))
    assert (found.outcome.reason, found.looks[0].parts[0].reads) == ("from **********", {"context.ip": "**********"})
    assert "203.0.113.7" not in str(found)


def test_what_variables_brought_into_the_rules_is_masked_in_names_and_keys_and_in_what_templates_make_of_it():
    routes = """\
  - name: "${KEY}"
    to: crm
    consent: "${KEY}"
    when: properties["${KEY}"] == 1
    map: { a: "{{ {'${KEY}': 1} }}", b: "{{ '${KEY}' | upper | tojson | tojson }}" }
"""
    rules = RULES.split("routes:")[0].replace("    consent: marketing\n", "") + "routes:\n" + routes
    config = loads(rules, Plugins.load(), {"KEY": "k3y-of-routes"})
    event = {"type": "page", "messageId": "m", "userId": "u", "properties": {"k3y-of-routes": 1}} | {
        "context": {"consent": {"categoryPreferences": {"k3y-of-routes": True}}}
    }
    found = next(Explainer(config, Router(config)).explain(StoredEvent("website", event)))
    assert found.outcome.payload == {"a": {"**********": 1}, "b": '"\\"**********\\""'}
    assert found.looks[0].parts[0].reads == {"properties.**********": 1}
    assert found.checks[0].what == "consent **********"
    assert "k3y-of-routes" not in str(found).lower()


def test_the_request_is_shown_with_secrets_masked_and_nothing_is_sent(explained):
    (request,) = explained(context=CONSENT)["crm"].requests
    assert (request.method, request.url.startswith("https://crm.example.com/")) == ("POST", True)
    assert request.headers["x-key"] == "**********"
    assert request.body == '{"total":50,"key":"**********"}'
    assert "s3cr3t-of-crm" not in str(request)


def test_a_plugin_that_does_not_say_what_it_sends_shows_no_request(explained):
    assert explained()["lines"].requests == ()
    assert explained()["crm"].requests == ()


class Odd(Acme):
    """Does what its option says instead of telling its requests."""

    name = "odd"

    class Options(Destination.Options):
        """What it does."""

        key: SecretStr
        does: str

    def __init__(self, options, **more):
        super().__init__(options, **more)
        if options.does == "constructor":
            raise ValueError(f"no such key: {options.key.get_secret_value()}")

    def requests(self, messages):
        answers = {
            "refuse": Reject("older than 72 hours, s3cr3t-key"),
            "wait": Retry("not before noon"),
            "exit": SystemExit(3),
            "bug": KeyError("s3cr3t-key"),
            "silent": AssertionError(),
        }
        if self.options.does in answers:
            raise answers[self.options.does]
        return {"nothing": [], "none": None, "wrong": [{"url": "/"}]}[self.options.does]


class OddPlugin:
    """Registers it."""

    @hookimpl
    def register_destinations(self):
        return [Odd]


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("refuse", "would refuse it: older than 72 hours, **********"),
        ("wait", "would try it again later: not before noon"),
        ("exit", "can't tell what it would send: SystemExit: 3"),
        ("bug", "can't tell what it would send: KeyError: '**********'"),
        ("silent", "can't tell what it would send: AssertionError"),
        ("constructor", "can't tell what it would send: ValueError: no such key: **********"),
        ("none", "can't tell what it would send: TypeError: 'NoneType' object is not iterable"),
        ("wrong", "can't tell what it would send: AttributeError: 'dict' object has no attribute 'headers'"),
        ("nothing", ""),
    ],
)
def test_what_a_plugin_does_instead_of_telling_its_requests_is_told(does, told):
    head = HEAD.split("destinations:")[0] + "destinations:\n"
    head += f"  odd: {{ plugin: odd, options: {{ key: s3cr3t-key, does: {does} }} }}\nroutes: [{{ to: odd }}]\n"
    config = loads(head, Plugins(OddPlugin()), {})
    event = StoredEvent("website", {"type": "page", "messageId": "m", "userId": "u"})
    (found,) = Explainer(config, Router(config)).explain(event)
    assert (found.requests, found.unsent) == ((), told)
