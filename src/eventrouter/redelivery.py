"""A stored event's delivery that an operator sends again."""

from __future__ import annotations

from typing import Any

import msgspec

from .delivery import FORMAT, Delivery, encode
from .events import StoredEvent, event_name, lane_key
from .once import Item
from .server_time import now_ms


def redelivery(
    event: StoredEvent,
    destination: str,
    payload: Any,
    route: str,
    rules: str,
    *,
    key: str,
    again: str = "",
    floor_ms: int = 0,
) -> Item:
    """The delivery of `event` as an item of its lane, under its old idempotency key unless `again` makes a new one.

    Those with one `key` stay in order. It is a lane key of its own: a failure holds up no live delivery.
    `floor_ms` is that of `Delivery`.
    """
    body = event.event
    delivery = Delivery(
        FORMAT,
        event.message_id,
        event.source,
        str(body["type"]),
        event_name(body),
        route,
        str(body["timestamp"]),
        now_ms(),
        rules,
        True,
        msgspec.Raw(msgspec.json.encode(payload)),
        again=again,
        floor_ms=floor_ms,
    )
    return Item(destination, lane_key(f"replay:{key}"), 1, encode(delivery), f"to:{destination}")
