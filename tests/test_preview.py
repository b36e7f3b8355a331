"""What a change of the rules does: deliveries that appear, vanish, change or fail, each counted once."""

import pytest

from eventrouter.config import loads
from eventrouter.events import StoredEvent
from eventrouter.preview import APPEAR, CHANGE, FAIL, VANISH, Preview, rules_for
from eventrouter.route import Router
from eventrouter.values import MISSING
from routes_kit import HEAD, PLUGINS

NOW = """\
  - { name: pages, to: crm, when: type == "page" }
  - { name: sums, to: crm, when: event == "Sum", map: { n: "{{ properties.n + 1 }}" } }
"""


def compared(then, *events, now=NOW, head=HEAD, **options):
    configs = [loads(text, PLUGINS, {}) for text in (HEAD + now, head + then)]
    found = Preview(*(Router(config, PLUGINS.template_filters) for config in configs), **options)
    stored = []
    for number, event in enumerate(events):
        times = {"receivedAt": f"2026-11-24T12:00:0{number}.000Z"}
        stored.append(StoredEvent("website", {"messageId": f"m{number}", "userId": "u"} | times | event))
    found.add(stored)
    return found


PAGE = {"type": "page", "name": "Home"}
SUM = {"type": "track", "event": "Sum", "properties": {"n": 1}}
WRONG = {"type": "track", "event": "Sum", "properties": {"n": "x"}}


def test_other_rules_may_change_nothing():
    found = compared(NOW.replace('"page"', '"page" and not userId == "x"'), PAGE, SUM, WRONG)
    assert (found.events, found.changed, dict(found.changes)) == (3, False, {})
    assert (found.delivered["crm", "now"], found.delivered["crm", "then"]) == (2, 2)
    assert found.received == ("2026-11-24T12:00:00.000Z", "2026-11-24T12:00:02.000Z")


def test_only_destinations_with_other_rules_are_looked_at():
    both = NOW + '  - { name: alarms, to: alerts, when: event == "Sum" }\n'
    found = compared(both.replace("+ 1", "+ 2"), SUM, now=both)
    assert (found.destinations, found.same) == (["crm"], ["alerts", "off"])
    assert set(found.delivered) == {("crm", "now"), ("crm", "then")}


RULE = '  - { name: one, to: [crm, off], when: event == "Sum", consent: [a, b], set: { traits.n: "{{ vars.n }}" } }\n'
VARS = HEAD.replace("destinations:", "vars: { n: '{{ properties.n + 1 }}', m: 1 }\ndestinations:")


def rules(rule, head=VARS, destination="crm"):
    return rules_for(Router(loads(head + rule, PLUGINS, {}), PLUGINS.template_filters), destination)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("name: one", "name: another"),
        lambda text: text.replace('event == "Sum"', '( event=="Sum" )'),
        lambda text: text.replace("[a, b]", "[b, a]"),
        lambda text: text.replace("vars.n", "properties.n + 1"),
        lambda text: text.replace("to: [crm, off]", "to: crm"),
        lambda text: text + "  - { name: off, to: off }\n",
        lambda text: "  - { to: crm, when: false, skip: never }\n" + text,
    ],
)
def test_what_is_only_written_otherwise_is_the_same(change):
    assert rules(RULE) == rules(change(RULE))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"Sum"', '"Total"'),
        ("consent: [a, b]", "consent: a"),
        ("consent: [a, b]", "consent: [a, b], from: app"),
        ("consent: [a, b]", "consent: [a, b], sample: 10%"),
        ("consent: [a, b]", "consent: [a, b], rename: { userId: user }"),
        ("consent: [a, b]", "consent: [a, b], drop: [context]"),
        ("consent: [a, b]", "consent: [a, b], keep: [traits]"),
        ("consent: [a, b]", "consent: [a, b], hash: { salt: s, fields: [userId] }"),
        ("traits.n", "traits.m"),
        ("vars.n", "vars.m"),
        ('set: { traits.n: "{{ vars.n }}" }', "map: {}"),
        ('consent: [a, b], set: { traits.n: "{{ vars.n }}" }', "skip: never"),
    ],
)
def test_what_may_decide_differs(old, new):
    assert rules(RULE) != rules(RULE.replace(old, new))


def test_a_sample_sticks_to_the_name_of_its_route():
    sampled = RULE.replace("consent", "sample: 10%, consent")
    assert rules(sampled) != rules(sampled.replace("name: one", "name: another"))


def test_a_destination_decides_by_its_plugin_and_consent_and_gets_nothing_when_it_is_off():
    assert rules(RULE) != rules(RULE, VARS.replace("  crm: {", "  crm: { consent: c,"))
    assert (
        rules(RULE, destination="off") == rules("  - { to: crm }\n", destination="off") == rules(RULE, destination="x")
    )
    assert rules(RULE, VARS.replace("  crm: {", "  crm: { enabled: false,")) is None


def test_what_comes_behind_a_route_for_all_events_decides_nothing():
    assert rules("  - { to: crm }\n  - { to: [crm, alerts], skip: never }\n") == rules("  - { to: crm }\n")


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        ("  - { name: all, to: crm, when: type == 'page' }\n", {("crm", "sums", VANISH): 1}),
        (NOW + "  - { name: rest, to: crm }\n", {("crm", "rest", APPEAR): 1}),
        (NOW.replace("+ 1", "+ 2"), {("crm", "sums", CHANGE): 1}),
        (NOW.replace("n + 1", "n | shout + 1"), {("crm", "sums", FAIL): 1}),
        (NOW.replace("to: crm, when: type", "to: [crm, off], when: type"), {}),
    ],
)
def test_each_difference_is_counted_by_destination_and_route(then, expected):
    found = compared(then, PAGE, SUM, {"type": "alias"})
    assert dict(found.changes) == expected
    assert found.changed is bool(expected)


@pytest.mark.parametrize(
    ("now", "then", "differences"),
    [
        ('{ n: "{{ properties.agreed }}" }', '{ n: "{{ 1 if properties.agreed else 0 }}" }', [("n", True, 1)]),
        ("{ n: [{ m: 1 }] }", "{ n: [{ m: 1.0 }] }", [("n[0].m", 1, 1.0)]),
        ('{ n: 100000000000000000000000, s: "é" }', '{ s: "é", n: 100000000000000000000000 }', None),
        ("{ n: 1, m: { a: 1, b: 2 } }", "{ m: { b: 2, a: 1 }, n: 1 }", None),
        ("{ n: 1.0 }", "{ n: 1.00 }", None),
    ],
)
def test_payloads_are_compared_as_they_are_sent_whatever_the_order_of_their_keys(now, then, differences):
    rule = "  - {{ name: all, to: crm, map: {} }}\n"
    event = {"type": "track", "event": "E", "properties": {"agreed": True}}
    found = compared(rule.format(then), event, now=rule.format(now))
    assert dict(found.changes) == ({("crm", "all", CHANGE): 1} if differences else {})
    if differences:
        (shown,) = [list(one.differences()) for one in found.examples["crm", "all", CHANGE]]
        assert [str(one) for one in differences] == [str(tuple(one)) for one in shown]


def test_what_fails_now_and_then_is_no_difference_but_what_is_mended_appears():
    assert not compared(NOW.replace("+ 1", "+ 2"), WRONG).changed
    assert dict(compared(NOW.replace("n + 1", "n"), WRONG).changes) == {("crm", "sums", APPEAR): 1}


def test_why_templates_would_fail_is_counted():
    found = compared(NOW.replace("n + 1", "n * 2"), WRONG, SUM, now=NOW.replace("n + 1", "n"))
    ((destination, route, reason), count), = found.failures.items()  # fmt: skip
    assert (destination, route, count) == ("crm", "sums", 1)
    assert reason.startswith("`map.n` ")
    assert found.count("crm", FAIL) == 1


def test_a_destination_that_is_new_or_gone_gets_all_or_nothing():
    head = HEAD.replace("  crm:", "  erp:")
    found = compared(NOW.replace("crm", "erp"), PAGE, head=head)
    assert dict(found.changes) == {("crm", "pages", VANISH): 1, ("erp", "pages", APPEAR): 1}
    (example,) = found.examples["erp", "pages", APPEAR]
    assert (example.now.reason, example.then.route) == ("it is not in the rules", "pages")


def test_the_first_examples_are_kept_with_their_differences():
    found = compared(NOW.replace("+ 1", "+ 2"), SUM, SUM, SUM, examples=2)
    assert found.count("crm", CHANGE) == 3
    examples = found.examples["crm", "sums", CHANGE]
    assert [one.event.message_id for one in examples] == ["m0", "m1"]
    assert list(examples[0].differences()) == [("n", 2, 3)]
    (vanished,) = compared("  - { to: off }\n", SUM).examples["crm", "sums", VANISH]
    assert list(vanished.differences()) == [("", {"n": 2}, MISSING)]
    (failed,) = compared(NOW.replace("n + 1", "n | shout + 1"), {"type": "page"}, SUM).examples["crm", "sums", FAIL]
    assert failed.then.failed


def test_destinations_that_share_a_route_are_compared_each():
    rule = "  - {{ name: all, to: [crm, alerts], map: {{ n: {} }} }}\n"
    agreeing = SUM | {"context": {"consent": {"categoryPreferences": {"marketing": True}}}}
    found = compared(rule.format(2), agreeing, SUM, now=rule.format(1))
    assert (found.count("crm", CHANGE), found.count("alerts", CHANGE)) == (2, 1)
