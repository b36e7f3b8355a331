"""What became of an event at each destination: what is known comes first, then what follows from the rules."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from deliver_kit import delivery, hand_of, item_of
from eventrouter.counters import LaneState, Snapshot
from eventrouter.delivery import Tries, in_hand
from eventrouter.events import StoredEvent
from eventrouter.fates import Fate, Fates, Traced
from eventrouter.outcome_log import DEAD, DELIVERED, RETRY, Outcome
from eventrouter.route import Router
from routes_kit import load

RULES = """
version: 1
sources: { website: { write_key: k } }
destinations:
  crm: { plugin: acme, options: { api_key: secret } }
  ads: { plugin: acme, options: { api_key: secret }, consent: marketing }
  off: { plugin: acme, options: { api_key: secret }, enabled: false }
routes:
  - { name: orders, to: crm, when: event == "Order" }
  - { name: broken, to: crm, when: event == "Broken", map: { x: "{{ 1 / properties.zero }}" } }
  - { name: all, to: [ads, off] }
"""
CONFIG = load(RULES)
LETTER = {
    "class": "permanent",
    "reason": "HTTP 400",
    "last_at": "2026-11-24T17:00:05.000Z",
    "attempts": 2,
    "status": 400,
    "replayed_at": None,
}
AT_MS = 1_795_712_410_000  # 2026-11-26
LATER = "2026-11-26T"


def traced(name: str = "Order", rules: str = CONFIG.version, **known: Any) -> Traced:
    event = {"type": "track", "event": name, "messageId": "m1", "anonymousId": "a", "properties": {"zero": 0}}
    return Traced(StoredEvent("website", event), 0, rules, **known)


def fate(one: Traced, destination: str = "crm", snapshot: Snapshot | None = None) -> Fate:
    fates = Fates(Router(CONFIG), CONFIG, snapshot).of(one)
    [found] = [fate for fate in fates if fate.destination == destination]
    return found


def outcome(what: str, attempts: int = 1, **more: Any) -> Outcome:
    return Outcome("website", "m1", "crm", what, AT_MS, attempts, **more)


def test_there_is_one_for_each_destination_of_the_rules_and_each_other_that_is_known_of() -> None:
    one = traced(letters={"gone": LETTER}, waiting={"old": (hand_of("1"), None)}, outcomes=[outcome(DELIVERED)])
    found = Fates(Router(CONFIG), CONFIG, None).of(one)
    assert ["crm", "ads", "off", "old", "gone"] == [one.destination for one in found]


def test_what_the_rules_filter_was_filtered_with_their_reason() -> None:
    assert ("filtered", "no_route") == (fate(traced("View")).state, fate(traced("View")).reason)
    assert ("filtered", "consent") == (fate(traced(), "ads").state, fate(traced(), "ads").reason)
    assert ("filtered", "disabled") == (fate(traced(), "off").state, fate(traced(), "off").reason)


def test_what_the_rules_send_and_is_neither_waiting_nor_dead_was_delivered() -> None:
    found = fate(traced())
    assert ("delivered", "sent by “orders”, and neither waiting nor dead", None) == (
        found.state,
        found.reason,
        found.at,
    )


def test_where_it_was_not_looked_it_may_wait() -> None:
    found = fate(traced(unseen={"crm"}))
    assert ("unknown", "sent by “orders”: delivered, or waiting where it was not looked") == (found.state, found.reason)


def test_a_template_that_fails_made_a_dead_letter() -> None:
    found = fate(traced("Broken"))
    assert ("dead", "template") == (found.state, found.class_)


def test_other_rules_leave_it_open_but_for_what_these_would_do() -> None:
    found = fate(traced(rules="older"))
    assert found.state == "unknown"
    assert found.reason == ("it was routed by the rules older, and not by these, by which it is delivered by “orders”")
    assert "by which it is filtered: no_route" in fate(traced("View", "")).reason


def test_what_is_known_counts_more_than_the_rules() -> None:
    found = fate(traced("View", "older", outcomes=[outcome(RETRY, reason="HTTP 500"), outcome(DELIVERED, 2)]))
    assert ("delivered", 2, "") == (found.state, found.attempts, found.reason)
    assert found.at is not None
    assert [RETRY, DELIVERED] == [one.outcome for one in found.history]


def test_a_dead_letter_tells_its_reason() -> None:
    found = fate(traced(letters={"crm": LETTER}))
    assert ("dead", "HTTP 400", "permanent", 2, 400) == (
        found.state,
        found.reason,
        found.class_,
        found.attempts,
        found.status,
    )
    just_now = outcome(DEAD, 3, class_="attempts", reason="HTTP 500", status=500)
    found = fate(traced(outcomes=[just_now]))
    assert ("dead", "attempts", 3, 500) == (found.state, found.class_, found.attempts, found.status)


@pytest.mark.parametrize(
    ("dealt_with", "state", "reason"),
    [
        (None, "delivered", "sent again as a dead letter, and neither waiting nor dead"),
        ("sent", "delivered", "sent again as a dead letter, and neither waiting nor dead"),
        ("discarded", "discarded", "HTTP 400"),
        ("filtered: consent", "filtered", "consent"),
    ],
)
def test_a_dead_letter_that_was_dealt_with_is_told_as_what_became_of_it(
    dealt_with: str | None, state: str, reason: str
) -> None:
    letter = LETTER | {"replayed_at": "2026-11-25T17:00:00.000Z", "outcome": dealt_with}
    found = fate(traced(letters={"crm": letter}))
    assert (state, reason) == (found.state, found.reason)


def test_a_delivery_after_a_dead_letter_is_the_later_word() -> None:
    assert "delivered" == fate(traced(letters={"crm": LETTER}, outcomes=[outcome(DELIVERED)])).state
    later = LETTER | {"last_at": "2026-12-24T17:00:05.000Z"}
    assert "dead" == fate(traced(letters={"crm": later}, outcomes=[outcome(DELIVERED)])).state


def test_what_waits_says_why() -> None:
    def state(**health: str) -> Snapshot:
        return Snapshot(Counter(), {"crm": LaneState(waiting=1)}, {"crm": health}, 0, AT_MS)

    item = item_of(delivery("1"), tries=msgspec.json.encode(Tries(made=2, reason="HTTP 500")))
    hand = in_hand(item, "crm")
    parked = fate(traced(waiting={"crm": (hand, "2026-11-26T00:00:00.000Z")}), snapshot=state())
    assert ("waiting", "HTTP 500", 2, "2026-11-26T00:00:00.000Z") == (
        parked.state,
        parked.reason,
        parked.attempts,
        parked.next_try_at,
    )
    fresh = traced(waiting={"crm": (hand_of("1"), None)})
    assert "for its turn" == fate(fresh, snapshot=state()).reason == fate(fresh).reason
    assert "on hold: HTTP 401" == fate(fresh, snapshot=state(state="hold", reason="HTTP 401")).reason


def test_what_waits_for_a_destination_that_is_gone_says_so() -> None:
    hold = {"state": "backoff", "until": str(AT_MS + 1000), "reason": "HTTP 503"}
    snapshot = Snapshot(Counter(), {"old": LaneState(waiting=1)}, {"old": hold}, 0, AT_MS)
    for due in (None, "2026-11-26T00:00:00.000Z"):
        found = fate(traced(waiting={"old": (hand_of("1"), due)}), "old", snapshot)
        assert ("waiting", "not in routes.yaml", None) == (found.state, found.reason, found.next_try_at)


def test_a_destination_that_is_gone_is_unknown_without_a_trace_of_it() -> None:
    retried = Outcome("website", "m1", "gone", RETRY, AT_MS, 1)
    found = fate(traced(outcomes=[retried]), "gone")
    assert ("unknown", "it is not in routes.yaml any more") == (found.state, found.reason)
