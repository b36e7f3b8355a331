"""Whose event it is: Google's ids for browser, session and user, its user properties and consent."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from . import limits

INTEGRATIONS = ("Google Analytics 4", "Google Analytics 4 Cloud", "Google Analytics 4 (GA4)", "GA4", "ga4")
"""The keys of `integrations` under which clients put Google's own ids."""

PERSONAL = limits.words(
    """
    address avatar birthday date_of_birth dob email email_address family_name first_name full_name given_name ip
    last_name middle_name mobile name phone phone_number postal_code ssn street surname telephone username zip
    """
)
"""Traits that Google's terms forbid to send: they name a person."""

_COOKIE = re.compile(r"GA[0-9]\.[0-9]+\.([0-9]+\.[0-9]+)")
_SESSION_COOKIE = re.compile(r"GS[0-9]\.[0-9]+\.s?([0-9]+)")
_DIGITS = re.compile(r"[0-9]{1,20}")


def _hints(event: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of an event in which Google's own ids may be, the surest first."""
    integrations, context = _object(event, "integrations"), _object(event, "context")
    own = [_object(integrations, key) for key in INTEGRATIONS]
    return [*own, _object(context, "ga"), _object(context, "cookies"), context]


def client_id(event: dict[str, Any], fallback: str) -> str:
    """The id of the browser: Google's own where the event has it, else one made of the event's ids, always the same.

    Google's own: `clientId`, `client_id` or the `_ga` cookie in `integrations."Google Analytics 4"`, `context.ga` or
    `context.cookies`, or `context.externalIds` of type `ga_client_id`. `fallback` stands in for an event without ids.
    """
    for hints in _hints(event):
        for key in ("clientId", "client_id", "ga_client_id"):
            if found := _text(hints.get(key)):
                return found
        if cookie := _COOKIE.fullmatch(str(hints.get("_ga", ""))):
            return cookie[1]
    external = _object(event, "context").get("externalIds")
    for entry in external if isinstance(external, list) else []:
        if isinstance(entry, dict) and entry.get("type") == "ga_client_id" and (found := _text(entry.get("id"))):
            return found
    own = str(event.get("anonymousId") or event.get("userId") or fallback)
    digest = hashlib.blake2b(own.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return f"{int.from_bytes(digest[:4])}.{int.from_bytes(digest[4:])}"


def session_id(event: dict[str, Any], seconds: float, window: float) -> str | None:
    """The id of the session, in digits: Google's own where the event has it, else the start of the time window.

    Google's own: `sessionId` or `session_id` where `client_id` looks too, or the `_ga_…` cookie. `seconds` is when the
    event happened; windows of `window` seconds begin at midnight UTC. None for a `window` of 0.
    """
    for hints in [*_hints(event), _object(event, "properties")]:
        for key, value in hints.items():
            if key in ("sessionId", "session_id") and _DIGITS.fullmatch(str(value)):
                return str(value)
            if key.startswith("_ga_") and (cookie := _SESSION_COOKIE.match(str(value))):
                return cookie[1][:20]
    return str(int(seconds // window * window)) if window else None


def user_id(event: dict[str, Any], *, personal: bool) -> str | None:
    """The userId where Google takes it: up to 256 characters, and no e-mail address unless `personal`."""
    found = str(event.get("userId") or "")
    usable = 0 < limits.length(found) <= limits.MAX_USER_ID and (personal or not limits.EMAIL.search(found))
    return limits.cut(found, limits.MAX_USER_ID) or None if usable else None


def user_properties(traits: Any, *, personal: bool) -> dict[str, dict[str, Any]]:
    """`traits` as user properties, at most 25, without what names a person unless `personal`."""
    made: dict[str, dict[str, Any]] = {}
    if not isinstance(traits, dict):
        return made
    kept = {key: value for key, value in traits.items() if personal or not _is_personal(key)}
    for key, value in limits.flat(kept):
        if not personal and (_is_personal(key) or (isinstance(value, str) and limits.EMAIL.search(value))):
            continue
        name = limits.user_property_name(key)
        found = limits.scalar(value, limits.MAX_USER_PROPERTY_VALUE, personal=personal)
        if found is not None and name not in made and len(made) < limits.MAX_USER_PROPERTIES:
            made[name] = {"value": found}
    return made


def consent(event: dict[str, Any], category: str | None) -> dict[str, str]:
    """Google's `ad_user_data` and `ad_personalization` from `context.consent`; what is not said is left out.

    Both are looked for by these names in `context.consent` and its `categoryPreferences`; `category` is the category
    that speaks for both where they are not there.
    """
    given = _object(_object(event, "context"), "consent")
    preferences = _object(given, "categoryPreferences")
    made: dict[str, str] = {}
    for name in ("ad_user_data", "ad_personalization"):
        answer = given.get(name, preferences.get(name, preferences.get(category) if category else None))
        if isinstance(answer, bool):
            made[name] = "GRANTED" if answer else "DENIED"
        elif isinstance(answer, str) and answer.upper() in ("GRANTED", "DENIED"):
            made[name] = answer.upper()
    return made


def _is_personal(key: str) -> bool:
    return limits.name(key, prefix="trait", reserved=frozenset()) in PERSONAL


def _object(value: Any, key: str) -> dict[str, Any]:
    """`value[key]` where both are objects, else an empty one."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str | None:
    """An id as text of a sane length."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and value and limits.cut(value, 128) == value else None
