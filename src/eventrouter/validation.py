"""What makes one event good, by Segment's spec and what real clients send; and its uniform shape."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from .events import Event

MAX_MESSAGE_ID = 100
"""The longest `messageId`, in characters (Segment's limit)."""

MAX_ID_BYTES = 1024
"""The longest of the other ids, in UTF-8: what every database can index."""

_NOT_IN_IDS = re.compile("[\0\ud800-\udfff]")


class EventFault(Exception):
    """Why one event is refused. `str(error)` is the message for the client; it never repeats a value of the event."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def normalize(event: Event, limit: int) -> None:
    """Checks `event` (its `type` is known) and gives it its uniform shape, in place; raises `EventFault`.

    Absent ids (missing, null, blank) are taken out, numeric ones become strings, a missing messageId is made up;
    `context` and the type's own `properties` or `traits` are objects of at most `limit` keys (null and the empty
    array, by which PHP means an empty object, become `{}`).
    """
    message_id = event.get("messageId")
    # Printable text can hold neither control characters nor lone surrogates.
    if (
        type(message_id) is not str
        or len(message_id) > MAX_MESSAGE_ID
        or not message_id.isprintable()
        or not message_id.strip()
    ):
        event["messageId"] = _read_message_id(message_id)
    user_id = event.get("userId")
    if type(user_id) is not str or len(user_id) > 256 or not user_id.isprintable() or not user_id.strip():
        user_id = _read_id(event, "userId")
    anonymous_id = event.get("anonymousId")
    if (
        type(anonymous_id) is not str
        or len(anonymous_id) > 256
        or not anonymous_id.isprintable()
        or not anonymous_id.strip()
    ):
        anonymous_id = _read_id(event, "anonymousId")
    if user_id is None and anonymous_id is None:
        raise EventFault("no_user_anon_id", "the event has neither a userId nor an anonymousId")
    if type(event.get("context")) is not dict:
        event["context"] = _read_object(event, "context")
    if "integrations" in event and type(event["integrations"]) is not dict:
        event["integrations"] = _read_object(event, "integrations")
    for name in ("properties", "traits"):
        if name in event:
            part = event[name]
            if type(part) is not dict:
                part = event[name] = _read_object(event, name)
            if len(part) > limit:
                raise EventFault(f"too_many_{name}", f"`{name}` has more than {limit} keys")
    _CHECKS[event["type"]](event)


def message_id_of(event: Any) -> str | None:
    """The messageId of an event that may be wrong in any way, None when it has no usable one."""
    value = event.get("messageId") if isinstance(event, dict) else None
    if value is None or value == "":
        return None
    try:
        return _read_message_id(value)
    except EventFault:
        return None


def _track(event: Event) -> None:
    name = event.get("event")
    if type(name) is not str:
        if name is None:
            raise EventFault("event_not_defined", "a track event needs `event`, its name")
        raise EventFault("event_not_string", f"`event` is {_kind(name)}; it has to be a string")
    if not name or name.isspace():
        raise EventFault("event_not_defined", "a track event needs `event`, its name; it is blank")
    event.setdefault("properties", {})


def _page(event: Event) -> None:
    for name in ("name", "category"):
        value = event.get(name)
        if value is not None and type(value) is not str:
            raise EventFault(f"{name}_not_string", f"`{name}` is {_kind(value)}; it has to be a string")
    event.setdefault("properties", {})


def _identify(event: Event) -> None:
    # RudderStack's clients send a user's traits within the context only.
    if not event.get("traits"):
        traits = event["context"].get("traits")
        if traits is not None and traits != [] and type(traits) is not dict:
            raise EventFault("traits_not_object", f"`context.traits` is {_kind(traits)}; it has to be an object")
        event["traits"] = dict(traits) if traits else {}


def _group(event: Event) -> None:
    if _read_id(event, "groupId") is None:
        raise EventFault("id_required", "a group event needs a groupId")
    event.setdefault("traits", {})


def _alias(event: Event) -> None:
    if "userId" not in event:
        raise EventFault("id_required", "an alias event needs a userId, the new id")
    if _read_id(event, "previousId") is None:
        raise EventFault("id_required", "an alias event needs a previousId, the id that is replaced")


_CHECKS: dict[str, Callable[[Event], None]] = {
    "track": _track,
    "identify": _identify,
    "page": _page,
    "screen": _page,
    "group": _group,
    "alias": _alias,
}


def _read_id(event: Event, name: str) -> str | None:
    value = event.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = event[name] = _number_as_text(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        event.pop(name, None)
        return None
    if not isinstance(value, str):
        raise EventFault("id_not_string", f"`{name}` is {_kind(value)}; it has to be a string")
    if _NOT_IN_IDS.search(value):
        raise EventFault("id_not_text", f"`{name}` holds a NUL or half of a surrogate pair")
    if len(value.encode()) > MAX_ID_BYTES:
        raise EventFault("id_too_long", f"`{name}` is longer than {MAX_ID_BYTES} bytes")
    return value


def _read_message_id(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = _number_as_text(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        return str(uuid4())
    if not isinstance(value, str):
        raise EventFault("message_id_not_string", f"`messageId` is {_kind(value)}; it has to be a string")
    if _NOT_IN_IDS.search(value):
        raise EventFault("message_id_not_text", "`messageId` holds a NUL or half of a surrogate pair")
    if len(value) > MAX_MESSAGE_ID:
        raise EventFault("message_id_too_long", f"`messageId` is longer than {MAX_MESSAGE_ID} characters")
    return value


def _number_as_text(value: float) -> str:
    """As JavaScript writes it: 123.0 is the same id as 123."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e21 else str(value)


def _read_object(event: Event, name: str) -> dict[str, Any]:
    value = event.get(name)
    if isinstance(value, dict):
        return value
    if value is None or value == []:
        return {}
    raise EventFault(f"{name}_not_object", f"`{name}` is {_kind(value)}; it has to be an object")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"
