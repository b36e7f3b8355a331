"""A delivery: one event bound for one destination, with its final payload; as it lies in a lane, and in hand."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from .destination import Message
from .events import idempotency_key
from .lane import Item
from .records import DeadLetter
from .stored import FAULTS, Form, UnreadableError
from .times import EPOCH, write_time

FORMAT = 1
"""The version of the stored form; a worker reads its own and its neighbours'."""


class Delivery(msgspec.Struct, array_like=True):
    """The stored form. New fields are added at the end, with defaults, so that neighbours' versions read it."""

    v: int
    message_id: str
    source: str
    type: str
    name: str | None
    """The event's name (track) or page's name."""
    route: str
    timestamp: str
    since_ms: int
    """When it was routed; `retry.max_age` counts from here."""
    rules: str
    replay: bool
    payload: msgspec.Raw
    """JSON, decoded when a plugin asks for the value: many only send it on."""
    traceparent: str = ""
    """The context of its event's trace, where there is one."""
    again: str = ""
    """Makes another idempotency key of it: an operator sends it as if it were new."""
    floor_ms: int = 0
    """Should it die, its `last_at` is no earlier: it is later than the dead letter that it answers, by any clock."""


class Tries(msgspec.Struct, omit_defaults=True):
    """What is known of the attempts of a parked delivery."""

    attempts: int = 0
    """Those that counted: made while others succeeded."""
    made: int = 0
    """All of them."""
    first_ms: int = 0
    last_ms: int = 0
    refused_ms: int = 0
    """When it was last refused in a way that may be meant for every event (401, 403, …); 0: never."""
    reason: str = ""
    """Why the last one failed, without secrets."""
    together: int = 0
    """How often a batch that held it failed as a whole; neither `attempts` nor `made` counts that."""
    despite: int = 0
    """How often of those others had been taken since it failed before."""
    suspected: bool = False
    """Whether a batch that held it was refused, with no time left to find which of it is at fault."""


_encoder = msgspec.json.Encoder()
_form = Form("a delivery", Delivery, FORMAT)
_tries_decoder = msgspec.json.Decoder(Tries)


def encode(delivery: Delivery) -> bytes:
    """The stored form, JSON; numbers keep their exact value."""
    return _encoder.encode(delivery)


def decode(data: bytes) -> Delivery:
    """Raises `UnreadableError` on foreign data, `NewerFormatError` on that of a newer version."""
    try:
        found = _form.read(data)
        str(found.payload, "utf-8")  # the one thing about it that the decoder has not checked
        return found
    except UnicodeDecodeError as error:
        raise UnreadableError(
            f"a delivery that can't be read: {error}", data, source=found.source, message_id=found.message_id
        ) from error
    except UnreadableError as error:
        error.message_id, error.source = _whose(data)
        raise


def _whose(data: bytes) -> tuple[str | None, str]:
    """Message id and source of a delivery of which something else can't be read, where it tells them."""
    try:
        match msgspec.json.decode(data):
            case [_, str(message_id), str(source), *_]:
                return message_id, source
    except FAULTS:
        pass
    return None, ""


class InHand(msgspec.Struct):
    """An item of a lane that a turn has read: what it holds, as messages for the plugin."""

    item: Item
    messages: list[Message]
    delivery: Delivery | None
    """None in the warehouse's lane, whose items hold records."""
    tries: Tries
    unreadable: int = 0
    """How many of its records can't be read: the messages in their places say so."""

    @property
    def key(self) -> str:
        """The lane key."""
        return self.item.key

    def note_tries(self) -> None:
        """What is known of its attempts goes with the item, for whoever tries it next."""
        self.item.tries = _encoder.encode(self.tries)


def _read_tries(data: bytes) -> Tries:
    """What is known of the attempts; nothing, when it can't be read."""
    try:
        return _tries_decoder.decode(data) if data else Tries()
    except FAULTS:
        return Tries()


def in_hand(item: Item, destination: str) -> InHand:
    """Decodes an item of a destination's lane. Raises what `decode` raises."""
    delivery = decode(item.data)
    tries = _read_tries(item.tries)
    # No id of an event holds a NUL.
    identity = f"{delivery.message_id}\0{delivery.again}" if delivery.again else delivery.message_id
    message = Message(
        id=idempotency_key(delivery.source, identity, destination),
        payload=delivery.payload,
        message_id=delivery.message_id,
        source=delivery.source,
        type=delivery.type,
        order_key=item.key,
        timestamp=delivery.timestamp,
        attempt=tries.made + tries.together + 1,
        replay=delivery.replay,
    )
    return InHand(item, [message], delivery, tries)


def dead_letter(
    hand: InHand,
    destination: str,
    *,
    class_: str,
    reason: str,
    now_ms: int,
    status: int | None = None,
    response: str = "",
    traceback: str = "",
) -> DeadLetter:
    """The record of a delivery that is not tried again by itself, with its payload."""
    delivery, tries = hand.delivery, hand.tries
    assert delivery is not None
    return DeadLetter(
        source=delivery.source,
        message_id=delivery.message_id,
        destination=destination,
        route=delivery.route,
        class_=class_,
        reason=reason,
        attempts=tries.made + tries.together,
        first_at=_iso(tries.first_ms or now_ms),
        last_at=_iso(max(tries.last_ms or now_ms, delivery.floor_ms)),
        status=status,
        response=response,
        traceback=traceback,
        payload=str(delivery.payload, "utf-8"),
        event_type=delivery.type,
        event_name=delivery.name,
        rules=delivery.rules,
        again=delivery.again,
    )


def _iso(ms: int) -> str:
    return write_time(EPOCH + timedelta(milliseconds=ms))
