"""What travels through the warehouse's lane: events, and what is told about them (the records lane)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import msgspec

from .stored import FAULTS, Form, UnreadableError

FORMAT = 1
"""The version of the stored form; a reader accepts its own and its neighbours'."""

MAX_PAYLOAD = 32 * 1024
"""Where the JSON of a refused event is cut, in bytes."""

DEAD_LETTER_CLASSES = ("permanent", "attempts", "max_age", "template", "plugin_bug", "backlog_full")
"""Why deliveries are not tried again by themselves."""


class Record(msgspec.Struct, tag_field="record", kw_only=True):
    """The base of all records: each lands in a table of the warehouse, idempotently, in any order."""


class EventRecord(Record, tag="event"):
    """One accepted event for `events` and its typed tables; its identity is (source, messageId)."""

    source: str
    event: dict[str, Any]
    person_id: str | None = None
    """The person as known when the event was routed."""
    rules: str = ""
    """The version of the rules that routed it."""


class RejectedEvent(Record, tag="rejected_event"):
    """An event that `accept` refused, for `rejected_events`."""

    id: str
    """What `rejection_id` makes."""
    source: str
    received_at: str
    code: str
    """The machine-readable reason, such as `event_not_defined`."""
    message: str
    """The reason in words."""
    message_id: str | None = None
    payload: str = ""
    """The refused event as JSON text, cut at `MAX_PAYLOAD`, of which `message` tells; a webhook's body as it came."""


def cut_payload(data: bytes) -> tuple[str, str]:
    """What is kept of a refused event's JSON, and what its message has to say of that."""
    if len(data) <= MAX_PAYLOAD:
        return data.decode(errors="ignore"), ""
    return data[:MAX_PAYLOAD].decode(errors="ignore"), f"; of its payload the first {MAX_PAYLOAD} bytes are kept"


def rejection_id(source: str, code: str, message_id: str | None, payload: str) -> str:
    """The id of a refused event, 32 hex digits: the same when a client sends the same event again.

    `payload` is what is stored, so that an id tells nothing of what was scrubbed. Without it and without a messageId
    nobody knows what is the same: then the id is random.
    """
    if not message_id and not payload:
        return uuid4().hex
    text = msgspec.json.encode([source, code, message_id or "", payload])
    return hashlib.blake2b(text, digest_size=16).hexdigest()


class DeadLetter(Record, tag="dead_letter"):
    """A delivery that is not tried again by itself, for `dead_letters`; identity (source, message_id, destination)."""

    source: str
    message_id: str
    destination: str
    route: str
    class_: str = msgspec.field(name="class")
    """One of `DEAD_LETTER_CLASSES`."""
    reason: str
    attempts: int
    first_at: str
    """When it was first tried (or refused), ISO 8601 UTC."""
    last_at: str
    status: int | None = None
    response: str = ""
    """What the destination answered, cut at 2,000 characters, secrets masked."""
    traceback: str = ""
    payload: str | None = None
    """The final payload as JSON text; None when it can be made again from the event."""
    event_type: str = ""
    event_name: str | None = None
    rules: str = ""
    again: str = ""
    """That of its delivery: what made another idempotency key of it."""


SENT, DISCARDED = "sent", "discarded"


class DeadLetterReplayed(Record, tag="dead_letter_replayed"):
    """Marks a dead letter as dealt with by an operator: it is none any more, unless its delivery fails again."""

    source: str
    message_id: str
    destination: str
    replayed_at: str
    outcome: str = SENT
    """`sent` (again), `discarded`, or `filtered: REASON` when today's rules send it no more."""
    last_at: str = ""
    """That of the dead letter that was dealt with; none that is later is marked. Empty, as the version before wrote it:
    all up to `replayed_at` are."""


class Identity(Record, tag="identity"):
    """An identifier belongs to a person, for `identities`; of two for one (type, value) the higher `seq` holds."""

    type: str
    """anonymous_id or user_id."""
    value: str
    person_id: str
    seq: int
    seen_at: str


class IdentityMerge(Record, tag="identity_merge"):
    """One person turned out to be another, for `identity_merges`; identity is `person_id`, the one that is gone."""

    person_id: str
    into_person_id: str
    seq: int
    merged_at: str
    reason: str = ""
    """The messageId of the event that showed it."""


AnyRecord = EventRecord | RejectedEvent | DeadLetter | DeadLetterReplayed | Identity | IdentityMerge


class Pack(msgspec.Struct):
    """One item of the warehouse's lane: records that are settled together."""

    records: list[AnyRecord]
    v: int = FORMAT


class _RawPack(msgspec.Struct):
    records: list[msgspec.Raw]
    v: int = FORMAT


_encoder = msgspec.json.Encoder()
_form = Form("a pack of records", Pack, FORMAT)
_raw_form = Form("a pack of records", _RawPack, FORMAT)
_record_decoder: msgspec.json.Decoder[AnyRecord] = msgspec.json.Decoder(AnyRecord)


def pack(records: Sequence[AnyRecord]) -> bytes:
    """`records` as one lane item."""
    return _encoder.encode(Pack(list(records)))


def unpack(data: bytes) -> list[AnyRecord]:
    """The records of a lane item; numbers keep their exact value.

    Raises `UnreadableError` on foreign data, `NewerFormatError` on that of a newer version.
    """
    return _form.read(data).records


def unpack_each(data: bytes) -> list[AnyRecord | UnreadableError]:
    """As `unpack`, but a record that can't be read costs no other: in its place is why.

    Raises `UnreadableError` when there are no records at all.
    """
    try:
        return list(unpack(data))
    except UnreadableError:
        return [_read(bytes(raw)) for raw in _raw_form.read(data).records]


def _read(raw: bytes) -> AnyRecord | UnreadableError:
    try:
        return _record_decoder.decode(raw)
    except FAULTS as error:
        return UnreadableError(f"a record that can't be read: {error}", raw)
