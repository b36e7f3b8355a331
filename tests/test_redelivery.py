"""redelivery.py: a stored event on its way to a destination once more."""

from __future__ import annotations

import msgspec

from eventrouter.delivery import decode, in_hand
from eventrouter.events import StoredEvent, idempotency_key, lane_key
from eventrouter.lane import Item
from eventrouter.redelivery import redelivery

TIME = "2026-11-24T17:00:00.000Z"
EVENT = StoredEvent(
    "web",
    {"type": "page", "name": "Home", "messageId": "m1", "anonymousId": "a", "timestamp": TIME, "receivedAt": TIME},
)


def message(**options: str):
    made = redelivery(EVENT, "crm", msgspec.Raw(b'{"n":1}'), "all", "abc", key="a", **options)
    assert (made.lane, made.units, made.counter) == ("crm", 1, "to:crm")
    [found] = in_hand(Item("1-0", False, made.key, made.units, made.data), "crm").messages
    return found


def test_it_is_what_its_event_says_and_a_replay():
    made = redelivery(EVENT, "crm", msgspec.Raw(b'{"n":1}'), "all", "abc", key="a")
    delivery = decode(made.data)
    told = (delivery.message_id, delivery.source, delivery.type, delivery.name, delivery.route, delivery.rules)
    assert ("m1", "web", "page", "Home", "all", "abc") == told
    assert (TIME, True, b'{"n":1}') == (delivery.timestamp, delivery.replay, bytes(delivery.payload))


def test_it_keeps_its_idempotency_key_unless_it_is_to_be_new():
    old = idempotency_key("web", "m1", "crm")
    assert old == message().id
    assert 3 == len({old, message(again="once").id, message(again="twice").id})
    assert message(again="once").id == message(again="once").id


def test_it_tells_when_it_may_die_at_the_earliest():
    made = redelivery(EVENT, "crm", {}, "all", "abc", key="a", floor_ms=1_700_000_000_000)
    assert 1_700_000_000_000 == decode(made.data).floor_ms


def test_it_holds_up_nothing_live_of_its_order_key():
    assert lane_key("a") != message().order_key == message().order_key
