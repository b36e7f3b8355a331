"""Google's published rules on names, values and counts, and the functions that make anything keep them.

Sources: "Measurement Protocol reference" and "Send Measurement Protocol events" (developers.google.com, limitations and
reserved names), "Event collection limits", "Event naming rules" (support.google.com/analytics, 9267744 and 13316687).
What exceeds a rule is not processed by Google, which does not say so: hence everything is made to fit here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import msgspec

MAX_EVENTS = 25
"""Events in a request."""
MAX_BODY = 129_999
"""Bytes of a request's body: it must be smaller than 130 kB."""
MAX_PARAMS = 25
"""Parameters of an event."""
MAX_NAME = 40
"""Characters of an event's, a parameter's and an item parameter's name."""
MAX_VALUE = 100
"""Characters of a parameter's value, but for those of `LONG_VALUES`."""
LONG_VALUES = {"page_location": 1000, "page_referrer": 420, "page_title": 300}
MAX_USER_PROPERTIES = 25
MAX_USER_PROPERTY_NAME = 24
MAX_USER_PROPERTY_VALUE = 36
MAX_ITEMS = 200
MAX_CUSTOM_ITEM_PARAMS = 10
MAX_USER_ID = 256
MAX_AGE = 72 * 3600.0
"""Seconds: an older event would be dated 72 hours back by Google."""


def words(text: str) -> frozenset[str]:
    """The words of `text`."""
    return frozenset(text.split())


RESERVED_EVENTS = words(
    """
    ad_activeview ad_click ad_exposure ad_impression ad_query ad_reward adunit_exposure app_background
    app_clear_data app_exception app_install app_remove app_store_refund app_store_subscription_cancel
    app_store_subscription_convert app_store_subscription_renew app_update app_upgrade click dynamic_link_app_open
    dynamic_link_app_update dynamic_link_first_open error file_download firebase_campaign
    firebase_in_app_message_action firebase_in_app_message_dismiss firebase_in_app_message_impression first_open
    first_visit form_start form_submit in_app_purchase notification_dismiss notification_foreground
    notification_open notification_receive notification_send os_update scroll session_start
    session_start_with_rollout user_engagement video_complete video_progress video_start view_complete
    view_search_results
    """
)
RESERVED_PARAMS = frozenset(["firebase_conversion", "items"])
"""`items` is not Google's word, but the name of a list that only we make."""
RESERVED_USER_PROPERTIES = words(
    """
    cid customer_id customerid first_open_after_install first_open_time first_visit_time
    google_allow_ad_personalization_signals last_advertising_id_reset last_deep_link_referrer last_gclid
    lifetime_user_engagement non_personalized_ads session_id session_number sessionid sfmc_id sid uid user_id userid
    """
)
RESERVED_PREFIXES = ("_", "firebase_", "ga_", "google_", "gtag", "query_id")

EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+(?:@|%40)[\w-]+(?:\.[\w-]+)+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def length(text: str) -> int:
    """The length that Google counts at its strictest: UTF-16 units, as Java and JavaScript count."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def cut(text: str, limit: int) -> str:
    """`text` without lone surrogates, shortened to `limit` by `length`."""
    return text.encode("utf-16-le", "surrogatepass")[: 2 * limit].decode("utf-16-le", "ignore")


def name(text: str, *, prefix: str, reserved: frozenset[str], limit: int = MAX_NAME) -> str:
    """`text` in snake_case by Google's rules: letters of any script, digits and underscores, a letter first.

    What is reserved, or begins otherwise, gets `prefix` before it.
    """
    words = _CAMEL.sub("_", text).lower()
    clean = re.sub("_+", "_", "".join(c if c.isalpha() or c.isdecimal() else "_" for c in words)).strip("_")
    if not clean[:1].isalpha() or clean in reserved or clean.startswith(RESERVED_PREFIXES):
        clean = f"{prefix}_{clean}"
    return cut(clean, limit).rstrip("_")


def event_name(text: str) -> str:
    """The name of an event."""
    return name(text, prefix="event", reserved=RESERVED_EVENTS)


def param_name(text: str) -> str:
    """The name of a parameter of an event or an item."""
    return name(text, prefix="param", reserved=RESERVED_PARAMS)


def user_property_name(text: str) -> str:
    """The name of a user property."""
    return name(text, prefix="trait", reserved=RESERVED_USER_PROPERTIES, limit=MAX_USER_PROPERTY_NAME)


def text_value(text: str, limit: int = MAX_VALUE, *, personal: bool = False) -> str | None:
    """`text` cut to `limit`, e-mail addresses blotted out unless `personal`; None when nothing is left."""
    return cut(text if personal else EMAIL.sub("(redacted)", text), limit).strip() or None


def url_value(url: str, limit: int, *, personal: bool = False) -> str | None:
    """`url` with other than ASCII characters escaped (as Google counts them), then as `text_value`."""
    # The escapes of what is cut in the middle of one go whole.
    escaped = quote(url, safe="%/:?#[]@!$&'()*+,;=~", errors="replace")
    value = text_value(escaped, limit, personal=personal)
    return re.sub(r"%[0-9A-Fa-f]?$", "", value) or None if value else None


def scalar(value: Any, limit: int = MAX_VALUE, *, personal: bool = False) -> str | int | float | None:
    """A JSON value as Google takes it: numbers stay, all else becomes text of at most `limit`; None for nothing."""
    if value is None or value == [] or value == {}:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        exact = abs(value) < 2**53 if isinstance(value, int) else len(repr(value)) <= limit
        return value if exact else cut(str(value), limit)
    if isinstance(value, str):
        return text_value(value, limit, personal=personal)
    if isinstance(value, list) and not any(isinstance(item, list | dict) for item in value):
        parts = (scalar(item, limit, personal=personal) for item in value)
        return text_value(",".join(str(part) for part in parts if part is not None), limit, personal=personal)
    return text_value(msgspec.json.encode(value).decode(), limit, personal=personal)


def number(value: Any) -> int | float | None:
    """`value` as a finite number that Google can read; None when it is none."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**53:
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def flat(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of `values` with nested objects drawn up: `{"a": {"b": 1}}` is `a_b` = 1."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}{key}_")
        else:
            yield f"{path}{key}", value
