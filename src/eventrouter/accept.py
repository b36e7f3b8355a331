"""The second step of an event's journey: each event of a body is checked by itself and made ready for the event log."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import msgspec

from .acceptance import Acceptance, AcceptedEvent, BodyError, Client, Limits, Rejection
from .decode import MAX_DEPTH, Decoded, decode, depth, mend_text
from .events import EVENT_TYPES, Event
from .query_parameters import Effort
from .records import RejectedEvent, cut_payload, rejection_id
from .scrub import Scrub
from .times import read_time, utc, write_time
from .validation import EventFault, message_id_of, normalize
from .values import MISSING
from .visitor import Visitor

MAX_GROWTH = 8
"""How many times `max_batch_bytes` the events may take once the batch's context and integrations are in each."""

_RESERVED = ("person_id", "writeKey")
"""Top-level keys that a client has no say in, or that nobody shall find in a warehouse."""

_TOO_DEEP = f"the event is nested more than {MAX_DEPTH} levels deep"

_encode = msgspec.json.Encoder().encode
_DEFAULT_LIMITS = Limits()


def accept(
    body: bytes | Decoded,
    *,
    endpoint: str,
    source: str,
    received_at: datetime,
    limits: Limits = _DEFAULT_LIMITS,
    client: Client | None = None,
    scrub: Scrub | None = None,
) -> Acceptance:
    """Accepts or refuses each event of `body`, which a client of `source` posted; does no I/O.

    Events of a visitor's own device get address and user agent of `client` where they lack them. Nothing that `scrub`
    takes out is in what is returned, refused events included.

    `endpoint` is `batch`, `import` (a batch of historical events: the client's clock is not corrected) or one of
    `events.EVENT_TYPES`. Raises `BodyError` when the body is wrong as a whole; a bad event never costs its neighbours.
    """
    value, mended = decode(body) if isinstance(body, bytes) else body
    if not isinstance(value, dict):
        raise BodyError("body_not_object", "the body has to be a JSON object")
    intake = _Intake(source, received_at, limits, mended, client, scrub, historical=endpoint == "import")
    if endpoint in EVENT_TYPES:
        return intake.take([value], {}, type_=endpoint)
    events = value.get("batch")
    if not isinstance(events, list):
        raise BodyError("batch_not_array", "the body needs `batch`, an array of events")
    if not events:
        raise BodyError("empty_batch", "`batch` holds no events")
    if len(events) > limits.max_batch_events:
        reason = f"`batch` holds {len(events)} events; at most {limits.max_batch_events} are taken at once"
        raise BodyError("too_many_events", reason, status=413)
    return intake.take(events, value)


class _Intake:
    """The events of one body on their way through `accept`."""

    def __init__(
        self,
        source: str,
        received_at: datetime,
        limits: Limits,
        mended: Any,
        client: Client | None,
        scrub: Scrub | None,
        *,
        historical: bool,
    ) -> None:
        self._source = source
        self._received_at = write_time(utc(received_at))
        self._received = datetime.fromisoformat(self._received_at[:-1])
        self._limits = limits
        self._mended = Counter(mended)
        self._visitor = None if client is None else Visitor(client)
        self._scrub = scrub
        self._effort = Effort()
        self._historical = historical
        self._sent_at: Any = None
        self._sent: tuple[Any, str, timedelta | None] = (None, "", None)

    def take(self, events: list[Any], batch: Event, *, type_: str | None = None) -> Acceptance:
        """Takes `events`, which inherit from `batch`; `type_` is their type when the endpoint says it."""
        shared = {
            name: part for name in ("context", "integrations") if isinstance(part := batch.get(name), dict) and part
        }
        if shared:
            self._check_growth(shared, len(events))
        sent_at = batch.get("sentAt")
        if read_time(sent_at) is not None:
            self._sent_at = sent_at
        accepted: list[AcceptedEvent] = []
        rejections: list[Rejection] = []
        for index, raw in enumerate(events):
            try:
                accepted.append(self._take(raw, shared, type_))
            except EventFault as fault:
                rejections.append(Rejection(index, self._refuse(raw, fault)))
        if self._effort.lost:
            self._mended["too_many_parameters"] += self._effort.lost
        return Acceptance(accepted, rejections, self._mended)

    def _check_growth(self, shared: dict[str, Any], count: int) -> None:
        try:
            size = len(_encode_mended(shared)[0])
        except EventFault as fault:
            raise BodyError(fault.code, "the batch's context or integrations are nested too deeply") from None
        if count * size > MAX_GROWTH * self._limits.max_batch_bytes:
            reason = "the batch's context and integrations are too large to be part of each of its events"
            raise BodyError("batch_context_too_large", reason, status=413)

    def _take(self, raw: Any, shared: dict[str, Any], type_: str | None) -> AcceptedEvent:
        if type(raw) is not dict:
            raise EventFault("event_not_object", "the event has to be a JSON object")
        event = raw.copy()
        if type_ is not None:
            event["type"] = type_
        elif event.get("type") not in EVENT_TYPES:
            if "type" not in event:
                raise EventFault("type_required", "the event has no `type`")
            raise EventFault("type_unknown", f"`type` has to be one of {', '.join(EVENT_TYPES)}")
        for name in _RESERVED:
            if name in event:
                del event[name]
        normalize(event, self._limits.max_properties)
        if shared:
            _inherit(event, shared)
        if self._visitor is not None:
            self._visitor.fill(event)
        self._set_times(event)
        limit = self._limits.max_event_bytes
        emptied = False
        if self._scrub is not None:
            before = self._effort.lost
            event = self._scrubbed(event, self._scrub)
            emptied = self._effort.lost > before
        data = self._encode(event)
        if (len(data) > limit or emptied) and len(_encode_mended(raw)[0]) > limit:
            raise EventFault("event_too_large", f"the event is larger than {limit} bytes")
        # An event without that many brackets cannot be nested too deeply.
        if data.count(b"{") + data.count(b"[") > MAX_DEPTH and depth(event) > MAX_DEPTH:
            raise EventFault("event_too_deep", _TOO_DEEP)
        return AcceptedEvent(event.get("anonymousId") or event["userId"], data)

    def _set_times(self, event: Event) -> None:
        """Sets `receivedAt` and `timestamp`, and `originalTimestamp` and `sentAt` where the client gave them."""
        event["receivedAt"] = self._received_at
        sent_at = event.get("sentAt")
        if sent_at is None or sent_at == "":
            sent_at = self._sent_at
        skew = None
        if sent_at is None:
            event.pop("sentAt", None)
        else:
            text, skew = self._read_sent_at(sent_at)
            if skew is None and self._sent_at is not None:
                text, skew = self._read_sent_at(self._sent_at)
            if skew is None:
                self._keep_unreadable(event, "sentAt", sent_at)
            else:
                event["sentAt"] = text
        told = event.get("timestamp")
        original = event.get("originalTimestamp")
        if original is not None and original != "":
            at = read_time(original)
            if at is None:
                self._keep_unreadable(event, "originalTimestamp", original)
            else:
                event["originalTimestamp"] = write_time(at)
            if (explicit := read_time(told)) is not None:
                event["timestamp"] = write_time(explicit)
                return
        elif told is not None and told != "":
            at = read_time(told)
            if at is None:
                self._keep_unreadable(event, "originalTimestamp", told)
            else:
                event["originalTimestamp"] = write_time(at)
        else:
            at = None
            event.pop("originalTimestamp", None)
        if at is None:
            event["timestamp"] = self._received_at
        elif skew is None or self._historical:
            event["timestamp"] = event["originalTimestamp"]
        else:
            try:
                event["timestamp"] = write_time(at + skew)
            except OverflowError:
                event["timestamp"] = self._received_at

    def _read_sent_at(self, sent_at: Any) -> tuple[str, timedelta | None]:
        """`sentAt` as it is stored, and by how much the client's clock is behind ours (None when it is no time)."""
        known, text, skew = self._sent
        if sent_at == known:
            return text, skew
        sent = read_time(sent_at)
        text, skew = ("", None) if sent is None else (write_time(sent), self._received - sent)
        self._sent = (sent_at, text, skew)
        return text, skew

    def _keep_unreadable(self, event: Event, name: str, value: Any) -> None:
        """What is no time may be anything, and so anything that is to be scrubbed."""
        if self._scrub is None:
            event[name] = _as_text(value)
        else:
            event.pop(name, None)

    def _scrubbed(self, event: Event, scrub: Scrub) -> Event:
        try:
            return scrub(event, self._effort)
        except RecursionError:
            raise EventFault("event_too_deep", _TOO_DEEP) from None

    def _encode(self, event: Event) -> bytes:
        try:
            return _encode((self._source, event))  # a `StoredEvent` without what is empty
        except (UnicodeEncodeError, RecursionError):
            data, count = _encode_mended([self._source, event])
            self._mended["not_unicode"] += count
            return data

    def _refuse(self, raw: Any, fault: EventFault) -> RejectedEvent:
        message_id = message_id_of(raw)
        payload, cut = _payload(raw if self._scrub is None else self._scrub.refused(raw, self._effort))
        return RejectedEvent(
            id=rejection_id(self._source, fault.code, message_id, payload),
            source=self._source,
            received_at=self._received_at,
            code=fault.code,
            message=f"{fault}{cut}",
            message_id=message_id,
            payload=payload,
        )


def _inherit(event: Event, shared: dict[str, dict[str, Any]]) -> None:
    """Gives `event` the batch's context and integrations; its own values win, in objects one level down too."""
    for name, part in shared.items():
        own = event.get(name) or {}
        merged = event[name] = {**part, **own}
        for key, value in own.items():
            if type(value) is dict and type(part.get(key)) is dict:
                merged[key] = {**part[key], **value}


def _encode_mended(value: Any) -> tuple[bytes, int]:
    """`value` as JSON with U+FFFD for lone surrogates, and their number; raises `EventFault` when it is too deep."""
    try:
        try:
            return _encode(value), 0
        except UnicodeEncodeError:
            value, count = mend_text(value)
            return _encode(value), count
    except RecursionError:
        raise EventFault("event_too_deep", _TOO_DEEP) from None


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if depth(value) > MAX_DEPTH:
        raise EventFault("event_too_deep", _TOO_DEEP)
    return _encode_mended(value)[0].decode()


def _payload(raw: Any) -> tuple[str, str]:
    if raw is MISSING:
        return "", ""
    if isinstance(raw, dict) and "writeKey" in raw:
        raw = {name: part for name, part in raw.items() if name != "writeKey"}
    try:
        data, _ = _encode_mended(raw)
    except EventFault:
        return "", ""
    return cut_payload(data)
