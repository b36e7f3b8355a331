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
