"""Messages as items to load; what no database could take is turned into a note for `rejected_events`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from eventrouter.destination import Message
from eventrouter.records import AnyRecord, EventRecord, RejectedEvent, cut_payload

from .values import is_clean, scrub, to_text

REFUSED: Final = "warehouse_refused"
"""The code in `rejected_events` of a record that the warehouse could not load."""


@dataclass(slots=True)
class Item:
    """One record on its way, with its text prepared once for as often as it is tried."""

    record: AnyRecord
    ref: str
    """The id of its delivery."""
    payload: str = ""
    """The event as JSON text."""
    typed: bool = True
    """False: into `events` only, because the typed tables refused it."""


_encoder = msgspec.json.Encoder()


def prepare(messages: Iterable[Message], now: str) -> list[Item]:
    """One item per message, in order: records without anything that a database cannot hold, events with their JSON."""
    items = []
    for message in messages:
        try:
            items.append(_prepare(message))
        except Exception as error:
            items.append(Item(refusal(message.payload, message.id, error, now), message.id))
    return items


def _prepare(message: Message) -> Item:
    record: AnyRecord = message.payload
    if type(record) is not EventRecord:
        return Item(_clean(record), message.id)
    data, event = _encode(record.event)
    if event is not record.event:
        record = EventRecord(source=record.source, event=event, person_id=record.person_id, rules=record.rules)
    if not event["messageId"] or type(event["type"]) is not str:
        raise ValueError("an event needs a messageId and a type")
    return Item(record, message.id, data.decode())


def _encode(value: Any) -> tuple[bytes, Any]:
    """JSON of `value`, and `value` itself or what `scrub` made of it."""
    try:
        data = _encoder.encode(value)
        if is_clean(data):
            return data, value
    except UnicodeEncodeError:
        pass
    value = scrub(msgspec.to_builtins(value))
    return _encoder.encode(value), value


def _clean(record: AnyRecord) -> AnyRecord:
    _, value = _encode(record)
    return record if value is record else msgspec.convert(value, type(record))


def refusal(record: Any, ref: str, error: BaseException, now: str, *, kept: bool = False) -> RejectedEvent:
    """The note about a record that cannot be loaded; `kept` when its row in `events` can. The same at every try."""
    try:
        text = "" if kept else to_text(scrub(msgspec.to_builtins(record))) or ""
    except Exception:  # deeper than Python's stack, numbers without end: then the note has to do without
        text = ""
    payload, cut = cut_payload(text.encode(errors="replace"))
    event = record.event if isinstance(record, EventRecord) else {}
    reason = str(scrub(f"{type(error).__name__}: {error}".strip().partition("\n")[0][:500]))
    message_id = event.get("messageId") or getattr(record, "message_id", None)
    return RejectedEvent(
        id=f"refused_{ref}",
        source=str(scrub(getattr(record, "source", ""))),
        received_at=now,
        code=REFUSED,
        message=f"kept in events, but not in the typed tables: {reason}" if kept else reason + cut,
        message_id=None if message_id is None else str(scrub(to_text(message_id)))[:500],
        payload=payload,
    )
