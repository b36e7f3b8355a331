"""The tests of the rules: what passes, and how what doesn't is told."""

import pytest

from eventrouter.rule_tests import run_tests
from routes_kit import HEAD, PLUGINS, load

RULES = (
    HEAD
    + """\
  - name: orders, in cents
    to: [crm, alerts]
    when: event == "Order Completed" and properties.total >= 10
    set: { properties.total_cents: "{{ (properties.total * 100) | int }}" }
    drop: [properties.notes]
  - name: small ones
    to: crm
    when: event == "Order Completed"
    skip: too small
  - { name: names, to: crm, when: type == "identify", map: { name: "{{ traits.name | shout }}" } }
  - { name: sizes, to: crm, when: event == "Sized", set: { n: "{{ properties.n + 1 }}" } }
  - { name: shop only, to: crm, from: app, when: type == "page", map: ["{{ name }}", "{{ person_id }}"] }
tests:
"""
)
ORDER = "{ type: track, event: Order Completed, properties: { total: 15, notes: x }"
AGREED = "context: { consent: { categoryPreferences: { marketing: true } } }"


def mistakes(given, expect, **more):
    """What is wrong in the one test."""
    extra = "".join(f", {key}: {value}" for key, value in more.items())
    config = load(f"{RULES}  - {{ name: one, given: {given}, expect: {expect}{extra} }}\n")
    (result,) = run_tests(config, config.tests, PLUGINS.template_filters)
    assert result.passed is (not result.mistakes)
    return [str(mistake) for mistake in result.mistakes]


@pytest.mark.parametrize(
    ("given", "expect"),
    [
        (ORDER + "}", "{ crm: { properties: { total_cents: 1500, notes: null } } }"),
        (f"{ORDER}, {AGREED} }}", "{ crm: {}, alerts: { event: Order Completed } }"),
        (ORDER + "}", "{ crm: {}, alerts: consent, off: disabled }"),
        ("{ type: page, name: Home }", "{}"),
        ("{ type: page, name: Home }", "{ crm: no_route }"),
        ("{ type: track, event: Order Completed }", "{ crm: too small }"),
        ("{ type: identify, userId: u, traits: { name: Ann } }", "{ crm: { name: Ann! } }"),
        (
            f"[{ORDER} }}, {{ type: page }}, {ORDER} }}]",
            "{ crm: [{ messageId: message-1 }, { messageId: message-3 }] }",
        ),
        ("{ type: page, userId: u, timestamp: 2026-01-01T10:00:00Z }", "{ crm: ~ }"),
    ],
)
def test_what_is_as_expected_passes(given, expect):
    assert mistakes(given, expect) == []


def test_events_come_from_the_source_that_the_test_names():
    assert mistakes("{ type: page, name: Home }", "{ crm: [Home, person-1] }", source="app") == []
    assert mistakes("{ type: page, name: Home, person_id: p }", "{ crm: [Home, p] }", source="app") == []


def test_what_a_source_scrubs_is_not_in_the_events():
    rules = RULES.replace(
        "key: dev-app }",
        "key: dev-app, scrub: { remove: [traits.phone], hash: [traits.email], salt: 0123456789abcdef } }",
    )
    given = "{ type: identify, userId: u, traits: { name: Ann, phone: 1, email: a@example.com } }"
    tests = f"""\
  - {{ name: one, source: app, given: {given}, expect: {{ crm: {{ traits: {{ phone: ~ }} }} }} }}
  - {{ name: two, source: app, given: {given}, expect: {{ crm: {{ traits: {{ email: a@example.com }} }} }} }}
  - {{ name: three, given: {given}, expect: {{ crm: {{ traits: {{ phone: 1, email: a@example.com }} }} }} }}
"""
    config = load(rules.replace(', map: { name: "{{ traits.name | shout }}" }', "") + tests)
    results = run_tests(config, config.tests, PLUGINS.template_filters)
    assert [result.passed for result in results] == [True, False, True]


def test_what_variables_brought_into_the_rules_is_in_no_mistake():
    rules = HEAD + '  - { name: all, to: crm, map: { key: "${KEY}" } }\ntests:\n'
    config = load(rules + "  - { name: one, given: { type: page }, expect: { crm: { key: x } } }\n", KEY="k3y-of-mine")
    ((mistake,),) = [result.mistakes for result in run_tests(config, config.tests)]
    assert str(mistake) == 'crm: payload is not as expected\n  - key: "x"\n  + key: "**********"'


def test_exactly_means_the_very_payload():
    given = "{ type: identify, userId: u, traits: { name: Ann } }"
    assert mistakes(given, "{ crm: { name: Ann! } }", exact="true") == []
    assert mistakes(given, "{ crm: {} }", exact="true") == ['crm: payload is not as expected\n  + name: "Ann!"']


@pytest.mark.parametrize(
    ("given", "expect", "told"),
    [
        (
            ORDER + "}",
            "{ crm: { properties: { total_cents: 15 } } }",
            "crm: payload is not as expected\n  - properties.total_cents: 15\n  + properties.total_cents: 1500",
        ),
        (ORDER + "}", "{ crm: {}, alerts: {} }", "alerts: expected a payload, got nothing (`consent`)"),
        (
            ORDER + "}",
            "{ crm: {}, alerts: sample }",
            "alerts: expected nothing, with the reason `sample`; the reason is `consent`",
        ),
        (
            "{ type: page }",
            "{ crm: too small }",
            "crm: expected nothing, with the reason `too small`; the reason is `no_route`",
        ),
        (f"[{ORDER} }}, {{ type: page }}]", "{ crm: [{}, {}] }", "expected 2 payloads, got a payload (`no_route`)"),
        (
            f"[{ORDER} }}, {ORDER} }}]",
            "{ crm: [{ messageId: a }, {}] }",
            'crm: payload 1 is not as expected\n  - messageId: "a"\n  + messageId: "message-1"',
        ),
        ("{ type: track, event: Sized, properties: { n: x } }", "{ crm: {} }", "got nothing (`"),
        ("{ type: track }", "{}", "the collector refuses the event: a track event needs `event`, its name"),
        ("[{ type: page }, { type: buy }]", "{}", "the collector refuses event 2"),
    ],
)
def test_what_is_not_as_expected_is_told(given, expect, told):
    (mistake,) = mistakes(given, expect)
    assert told in mistake


def test_a_destination_that_is_not_named_has_to_get_nothing():
    (told,) = mistakes("{ type: identify, userId: u, traits: { name: Ann } }", "{}")
    assert told == 'crm: expected nothing, got\n  + {"name":"Ann!"}'


def test_the_reason_of_a_template_that_failed_can_be_expected():
    given = "{ type: track, event: Sized, properties: { n: x } }"
    (told,) = mistakes(given, "{ crm: {} }")
    why = told.split("`", 1)[1].rsplit("`", 1)[0]
    assert mistakes(given, f"{{ crm: '{why}' }}") == []


HOOK = """\
  hook:
    scrub: { remove: [properties.secret] }
    webhook:
      verify: { scheme: stripe, secret: whsec_x }
      when: body.type == "paid" and query.shop is not defined
      event:
        type: track
        event: Order Completed
        userId: "{{ body.user }}"
        properties: { total: "{{ body.cents / vars.cents }}", secret: "{{ headers['x-secret'] }}" }
vars: { cents: 100 }
"""


def posted(given, expect):
    rules = RULES.replace("destinations:", HOOK + "destinations:", 1)
    config = load(f"{rules}  - {{ name: one, source: hook, given: {given}, expect: {expect} }}\n")
    (result,) = run_tests(config, config.tests, PLUGINS.template_filters)
    return [str(mistake) for mistake in result.mistakes]


PAID = "{ body: { type: paid, id: evt_1, user: u, cents: 1500 }, headers: { X-Secret: x } }"


@pytest.mark.parametrize(
    ("given", "expect"),
    [
        (PAID, "{ crm: { userId: u, properties: { total: 15, total_cents: 1500 } } }"),
        (PAID, "{ crm: {}, warehouse: { messageId: evt_1, event: Order Completed, properties: { secret: ~ } } }"),
        (f"[{PAID}, {PAID}]", "{ crm: [{}, {}], warehouse: [{}, {}] }"),
        ("{ body: { type: other } }", "{}"),
        ("{ body: { type: other } }", "{ crm: ignored, warehouse: ignored }"),
        ("{ body: { type: paid, user: u, cents: x } }", "{ warehouse: mapping_failed }"),
        ("{ body: { type: paid, cents: 1 } }", "{ warehouse: no_user_anon_id }"),
        ("{ body: { type: paid, user: u }, query: { shop: 1 } }", "{ warehouse: ~ }"),
        ("{ type: page, userId: u }", "{ warehouse: { type: page, messageId: message-1, person_id: person-1 } }"),
    ],
)
def test_what_is_posted_to_a_webhook_is_mapped_and_routed(given, expect):
    assert posted(given, expect) == []


@pytest.mark.parametrize(
    ("given", "expect", "told"),
    [
        (
            "{ body: { type: paid, user: u, cents: 1 } }",
            "{ warehouse: ignored }",
            "warehouse: expected nothing, with the reason",
        ),
        (
            "{ body: { type: paid, user: u, cents: 1 } }",
            "{ crm: too small, warehouse: { properties: { total: 1 } } }",
            "warehouse: payload is not as expected\n  - properties.total: 1\n  + properties.total: 0.01",
        ),
        ("{ body: { type: other } }", "{ crm: {} }", "crm: expected a payload, got nothing (`ignored`)"),
        (
            "{ body: { type: paid, user: u, cents: x } }",
            "{ crm: {} }",
            "the collector refuses the event: the webhook's mapping failed: `event.properties.total` `/` has no",
        ),
        (
            f"[{PAID}, {{ body: {{ type: paid }} }}]",
            "{ crm: {}, warehouse: [{}] }",
            "the collector refuses event 2: the event has",
        ),
        (
            "{ body: { type: paid } }",
            "{ warehouse: mapping_failed }",
            "warehouse: expected nothing, with the reason `mapping_failed`; the reason is `no_user_anon_id`",
        ),
    ],
)
def test_what_a_webhook_makes_otherwise_is_told(given, expect, told):
    assert told in posted(given, expect)[0]


def test_enrichments_do_not_run():
    given = '{ type: page, userId: u, context: { page: { url: "https://example.com/?utm_source=mail" } } }'
    assert posted(given, "{ warehouse: { context: { campaign: ~ } } }") == []
