"""One of our messages as what Google is told: a `Hit`, which keeps all of Google's rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from eventrouter.destination import Message
from eventrouter.errors import Reject

from . import limits, visitor
from .ecommerce import COMMERCE, commerce_params, google_name


@dataclass(frozen=True, slots=True)
class Rules:
    """What the options say about events."""

    currency: str | None = None
    identify_event: str = "identify"
    session_window: float = 1800.0
    consent_category: str | None = None
    personal: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """One event for Google, with what a request says once for all of its events."""

    client_id: str
    event: dict[str, Any]
    user_id: str | None = None
    consent: dict[str, str] = field(default_factory=dict)
    user_properties: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def same(self) -> tuple[Any, ...]:
        """Hits with an equal one may share a request."""
        return self.client_id, self.user_id, tuple(sorted(self.consent.items()))


def hit(message: Message, rules: Rules, now: float) -> Hit:
    """`message` as a hit. Raises `Reject` for what has no place at Google. `now` is in seconds since 1970."""
    payload = message.payload
    if not isinstance(payload, dict):
        raise Reject("Google Analytics takes events, not other payloads: use set and rename in the route, not map")
    when = _seconds(payload.get("timestamp"), _seconds(message.timestamp, now))
    if now - when > limits.MAX_AGE:
        raise Reject("the event is older than 72 hours: Google would count it on a wrong day")
    kind = str(payload.get("type") or message.type)
    properties = payload.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    name, params = _name_and_params(kind, message, properties, rules)
    session = visitor.session_id(payload, when, rules.session_window)
    engaged = limits.number(properties.get("engagement_time_msec"))
    base: dict[str, Any] = {"engagement_time_msec": int(engaged) if engaged and engaged >= 1 else 1}
    if session is not None:
        base["session_id"] = session
    params = dict(list({**base, **params}.items())[: limits.MAX_PARAMS])
    event: dict[str, Any] = {"name": name, "params": params}
    # Without a time Google takes that of the request; a time to come is a client's wrong clock.
    if when < now:
        event["timestamp_micros"] = int(when * 1_000_000)
    return Hit(
        client_id=visitor.client_id(payload, message.order_key),
        event=event,
        user_id=visitor.user_id(payload, personal=rules.personal),
        consent=visitor.consent(payload, rules.consent_category),
        user_properties=visitor.user_properties(
            payload.get("traits") if kind == "identify" else None, personal=rules.personal
        ),
    )


def _name_and_params(
    kind: str, message: Message, properties: dict[str, Any], rules: Rules
) -> tuple[str, dict[str, Any]]:
    """Google's name and parameters of an event, without the ones that every event has; the important ones first."""
    payload = message.payload
    page = _page(payload, properties if kind == "page" else {}, rules)
    if kind == "page":
        rest = {key: value for key, value in properties.items() if key not in _PAGE_KEYS}
        return "page_view", {**page, **_named("page", payload, rules), **_plain(rest, rules)}
    if kind == "screen":
        return "screen_view", {**_named("screen", payload, rules), **page, **_plain(properties, rules)}
    if kind == "identify":
        return limits.event_name(rules.identify_event), page
    if kind == "group":
        group = limits.scalar(payload.get("groupId"), personal=rules.personal)
        return "join_group", {**({"group_id": group} if group is not None else {}), **page}
    if kind != "track":
        raise Reject(f'Google Analytics knows no {kind[:40]}: leave it out in the route, as with when: type == "track"')
    event = payload.get("event")
    if not isinstance(event, str) or not event.strip():
        raise Reject("a track event without a name")
    name = google_name(event)
    known, used = commerce_params(name, properties, currency=rules.currency, personal=rules.personal)
    rest = {key: value for key, value in properties.items() if key not in used}
    if name == "purchase":  # Google counts a purchase once by this id, so an attempt repeated does no harm
        known.setdefault("transaction_id", limits.cut(message.message_id, limits.MAX_VALUE))
    plain = {key: value for key, value in _plain(rest, rules).items() if key not in known}
    if name in COMMERCE:
        plain.pop("value", None)  # one that is no number
    return name, {**known, **page, **plain}


_PAGE_KEYS = frozenset(["url", "title", "referrer", "path", "search", "name"])
"""Properties of a page event that Google has under names of its own, or takes from the address."""


def _page(payload: dict[str, Any], properties: dict[str, Any], rules: Rules) -> dict[str, Any]:
    """Where the event happened: from a page event's own properties, else from `context.page`."""
    context = payload.get("context")
    page = context.get("page") if isinstance(context, dict) else None
    page = page if isinstance(page, dict) else {}
    made: dict[str, Any] = {}
    for key, name in (("url", "page_location"), ("referrer", "page_referrer"), ("title", "page_title")):
        text = properties.get(key) or page.get(key)
        if isinstance(text, str):
            make = limits.text_value if key == "title" else limits.url_value
            if (value := make(text, limits.LONG_VALUES[name], personal=rules.personal)) is not None:
                made[name] = value
    return made


def _named(kind: str, payload: dict[str, Any], rules: Rules) -> dict[str, Any]:
    """The name of a page or a screen."""
    name = limits.scalar(payload.get("name"), personal=rules.personal)
    return {} if name is None else {f"{kind}_name": name}


def _plain(properties: dict[str, Any], rules: Rules) -> dict[str, Any]:
    """Properties under Google's names, the first of two that come to the same name."""
    made: dict[str, Any] = {}
    for key, value in limits.flat(properties):
        name = limits.param_name(key)
        found = limits.scalar(value, personal=rules.personal)
        if found is not None and name not in made and name not in ("session_id", "engagement_time_msec"):
            made[name] = found
    return made


def _seconds(text: Any, otherwise: float) -> float:
    """An ISO 8601 time in seconds since 1970."""
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return otherwise
