"""Whose request it is: the visitor's own device's, whose address belongs into the event, or some server's."""

from __future__ import annotations

from typing import Any

from .acceptance import Client
from .events import Event

MAX_USER_AGENT = 1000
"""Where a User-Agent is cut, in characters."""

CHANNELS = {"web": True, "browser": True, "mobile": True, "server": False, "sources": False}
"""What a `channel` says: true for a visitor's device."""

MOBILE = frozenset(
    (
        "analytics-swift",
        "analytics-kotlin",
        "analytics-ios",
        "analytics-android",
        "analytics-react-native",
        "@segment/analytics-react-native",
        "analytics_flutter",
        "com.rudderstack.ios.sdk",
        "com.rudderstack.android.sdk.core",
        "rudder-ios-library",
        "rudder-android-library",
    )
)
"""`context.library.name` of libraries for telephones, whose requests do not tell it by a browser's User-Agent."""


class Visitor:
    """Fills `context.ip` and `context.userAgent` of client-side events in from their request.

    What an event says itself stays. Client-side is an event
    - with `context.direct` true (false: it is not), else
    - whose `channel` or `context.channel` is web, browser or mobile (server and sources: it is not), else
    - that a browser sent: by its User-Agent, which begins with `Mozilla/`, else
    - of a library for telephones that names the `context.device` (some of these run on servers, too).
    A server's libraries are none of these, so a server's address is never taken for a visitor's, whatever else of the
    visitor's they pass on (`context.page`, `context.userAgent`).
    """

    def __init__(self, client: Client) -> None:
        self._ip = client.ip
        self._user_agent = client.user_agent[:MAX_USER_AGENT]
        self._browser = self._user_agent.startswith("Mozilla/")

    def fill(self, event: Event) -> None:
        """Replaces the `context` of a client-side event that lacks something by one with what it lacks."""
        context = event["context"]
        lacks_ip = not context.get("ip")
        lacks_agent = not context.get("userAgent")
        if not (lacks_ip or lacks_agent):
            return
        channel = event.get("channel") or context.get("channel")
        if type(channel) is not str:
            channel = ""
        side = context.get("direct")
        if side is not True and side is not False:
            side = CHANNELS.get(channel)
            if side is None:
                side = self._browser or _is_mobile(context)
        if not side:
            return
        if lacks_ip and self._ip:
            context = {**context, "ip": self._ip}
        # The requests of a telephone's library name the system's HTTP, which would be taken for a robot.
        if lacks_agent and self._user_agent and (self._browser or not (channel == "mobile" or _is_mobile(context))):
            context = {**context, "userAgent": self._user_agent}
        event["context"] = context


def _is_mobile(context: dict[str, Any]) -> bool:
    library = context.get("library")
    if type(library) is not dict or type(name := library.get("name")) is not str or name not in MOBILE:
        return False
    device = context.get("device")
    return type(device) is dict and bool(device) and device.get("type") != "Linux"
