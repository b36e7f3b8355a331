from typing import Any

import pytest

from eventrouter.acceptance import Client
from eventrouter.visitor import MAX_USER_AGENT, Visitor

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
IP = "203.0.113.7"


def filled(context: dict[str, Any], agent: str = FIREFOX, ip: str = IP, **event: Any) -> tuple[Any, Any]:
    made = {"type": "track", "context": context, **event}
    Visitor(Client(ip, agent)).fill(made)
    return made["context"].get("ip"), made["context"].get("userAgent")


SERVERS = [
    ("analytics-python", "analytics-python/2.3.3"),
    ("@segment/analytics-node", "node"),
    ("analytics-ruby", "analytics-ruby/2.4.0"),
    ("analytics-go", "analytics-go (version: 3.0.0)"),
    ("analytics-java", "analytics-java/3.5.1"),
    ("analytics-kotlin", "okhttp/4.9.1"),
    ("analytics-php", "analytics-php/3.8.1"),
    ("Analytics.NET", ".NET/3.8.1"),
]


@pytest.mark.parametrize(("library", "agent"), SERVERS)
def test_a_servers_address_is_never_taken_for_a_visitors(library: str, agent: str) -> None:
    passed_on = {"page": {"url": "https://shop.example/"}, "device": {"type": "ios"}, "locale": "de"}
    if library == "analytics-kotlin":
        del passed_on["device"]
    assert filled({"library": {"name": library}, **passed_on}, agent) == (None, None)
    assert filled({"library": {"name": library}, "userAgent": FIREFOX}, agent) == (None, FIREFOX)


@pytest.mark.parametrize("agent", ["", "curl/8.5.0", "python-requests/2.32.3", "Go-http-client/2.0", "node"])
def test_an_unknown_program_is_no_visitor(agent: str) -> None:
    assert filled({}, agent) == (None, None)


def test_a_browsers_address_and_user_agent_are_the_visitors() -> None:
    assert filled({"library": {"name": "analytics.js"}}) == (IP, FIREFOX)
    assert filled({}) == (IP, FIREFOX)


def test_what_an_event_says_itself_stays() -> None:
    assert filled({"ip": "0.0.0.0", "userAgent": "mine"}) == ("0.0.0.0", "mine")
    assert filled({"ip": "0.0.0.0"}) == ("0.0.0.0", FIREFOX)
    assert filled({"userAgent": "mine"}) == (IP, "mine")


@pytest.mark.parametrize("absent", [None, ""])
def test_null_and_nothing_count_as_lacking(absent: Any) -> None:
    assert filled({"ip": absent, "userAgent": absent}) == (IP, FIREFOX)


def test_direct_decides_before_all_else() -> None:
    assert filled({"direct": True}, "curl/8.5.0") == (IP, "curl/8.5.0")
    assert filled({"direct": True}, "curl/8.5.0", channel="server") == (IP, "curl/8.5.0")
    assert filled({"direct": False}) == (None, None)
    assert filled({"direct": "false"}) == (IP, FIREFOX)


@pytest.mark.parametrize(
    ("channel", "taken"), [("web", True), ("browser", True), ("server", False), ("sources", False)]
)
def test_the_channel_decides_before_the_user_agent(channel: str, taken: bool) -> None:
    for agent in (FIREFOX, "agent"):
        expected = (IP, agent) if taken else (None, None)
        assert filled({}, agent, channel=channel) == filled({"channel": channel}, agent) == expected


@pytest.mark.parametrize("channel", ["beacon", 5, ["web"], None, ""])
def test_an_unknown_channel_decides_nothing(channel: Any) -> None:
    assert filled({}, channel=channel) == (IP, FIREFOX)
    assert filled({}, "curl/8.5.0", channel=channel) == (None, None)


@pytest.mark.parametrize(
    ("library", "device"),
    [
        ("analytics-swift", {"type": "ios", "id": "d"}),
        ("analytics-kotlin", {"type": "android"}),
        ("@segment/analytics-react-native", {"id": "d"}),
        ("rudder-ios-library", {"type": "iOS"}),
    ],
)
def test_a_telephones_library_is_a_visitors_but_its_http_is_no_user_agent(library: str, device: Any) -> None:
    context = {"library": {"name": library}, "device": device}
    assert filled(context, "okhttp/4.9.1") == (IP, None)
    assert filled({}, "Shop/1 CFNetwork/1490 Darwin/23", channel="mobile") == (IP, None)
    assert filled({}, FIREFOX, channel="mobile") == (IP, FIREFOX)


def test_a_telephones_library_on_a_server_is_none() -> None:
    assert filled({"library": {"name": "analytics-swift"}, "device": {"type": "Linux"}}, "Swift/6") == (None, None)


@pytest.mark.parametrize("library", [None, "x", [], {"name": None}, {"name": ["analytics-swift"]}])
def test_odd_libraries_do_no_harm(library: Any) -> None:
    assert filled({"library": library, "device": {"type": "ios"}}, "okhttp/4") == (None, None)


def test_what_is_not_known_of_the_client_is_left_out() -> None:
    assert filled({"direct": True}, "", "") == (None, None)


def test_the_users_own_context_is_not_changed() -> None:
    context: dict[str, Any] = {}
    filled(context)
    assert context == {}


def test_a_long_user_agent_is_cut() -> None:
    assert len(filled({}, FIREFOX + "x" * 5000)[1]) == MAX_USER_AGENT
