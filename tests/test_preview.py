"""What a change of the rules does: deliveries that appear, vanish, change or fail, each counted once."""

import pytest

from eventrouter.config import loads
from eventrouter.events import StoredEvent
from eventrouter.preview import APPEAR, CHANGE, FAIL, VANISH, Preview
from eventrouter.route import Router
from eventrouter.values import MISSING
from routes_kit import HEAD, PLUGINS

NOW = """\
  - { name: pages, to: crm, when: type == "page" }
  - { name: sums, to: crm, when: event == "Sum", map: { n: "{{ properties.n + 1 }}" } }
"""


def compared(then, *events, now=NOW, head=HEAD, **options):
    configs = [loads(text, PLUGINS, {}) for text in (HEAD + now, head + then)]
    names = dict.fromkeys(name for config in configs for name in config.destinations)
    found = Preview(*(Router(config, PLUGINS.template_filters) for config in configs), names, **options)
    stored = []
    for number, event in enumerate(events):
        times = {"receivedAt": f"2026-11-24T12:00:0{number}.000Z"}
        stored.append(StoredEvent("website", {"messageId": f"m{number}", "userId": "u"} | times | event))
    found.add(stored)
    return found


PAGE = {"type": "page", "name": "Home"}
SUM = {"type": "track", "event": "Sum", "properties": {"n": 1}}
WRONG = {"type": "track", "event": "Sum", "properties": {"n": "x"}}


def test_the_same_rules_change_nothing():
    found = compared(NOW, PAGE, SUM, WRONG)
    assert (found.events, found.changed, dict(found.changes)) == (3, False, {})
    assert (found.delivered["crm", "now"], found.delivered["crm", "then"]) == (2, 2)
    assert found.received == ("2026-11-24T12:00:00.000Z", "2026-11-24T12:00:02.000Z")


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
