"""The enrichment bots."""

from __future__ import annotations

from typing import Any

import pytest

from eventrouter.builtin.bots import Bots

GOOGLE = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


@pytest.fixture(scope="module")
def bots() -> Bots:
    return Bots(Bots.Options())


def patch(bots: Bots, agent: Any, **context: Any) -> Any:
    found = bots.patch({"type": "page", "context": {"userAgent": agent, **context}})
    return found and found["context"]


@pytest.mark.parametrize(
    ("agent", "name", "category"),
    [
        (GOOGLE, "Googlebot", "search-engine"),
        ("Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.0)", "GPTBot", "ai-crawler"),
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/129.0 Safari/537.36",
            "HeadlessChrome",
            "browser-automation",
        ),
    ],
)
def test_known_bots_are_flagged_with_name_and_kind(bots: Bots, agent: str, name: str, category: str) -> None:
    found = patch(bots, agent)
    assert (True, name, category) == (found["isBot"], found["bot"]["name"], found["bot"]["category"])


def test_where_the_bot_is_explained_is_told(bots: Bots) -> None:
    assert "http://www.google.com/bot.html" == patch(bots, GOOGLE)["bot"]["url"]


@pytest.mark.parametrize(
    "agent",
    [
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0 Safari/537.36",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
        "Dalvik/2.1.0 (Linux; U; Android 13; Pixel 7 Build/TQ3A)",
        "Shop/1.0 CFNetwork/1474 Darwin/23.0.0",
        "okhttp/4.9.0",
        "analytics-python/2.3.3",
        "",
        None,
        5,
        "x" * 100_000,
    ],
)
def test_others_are_left_alone(bots: Bots, agent: Any) -> None:
    assert patch(bots, agent) is None


@pytest.mark.parametrize("event", [{}, {"context": None}, {"context": []}, {"context": {}}])
def test_without_a_user_agent_nothing_is_known(bots: Bots, event: Any) -> None:
    assert bots.patch(event) is None


def test_http_libraries_count_when_they_are_to() -> None:
    strict = Bots(Bots.Options(http_libraries=True))
    assert {"name": "okhttp", "category": "http-library"} == patch(strict, "okhttp/4.9.0")["bot"]


@pytest.mark.parametrize("sent", [{"isBot": False}, {"bot": {"name": "ours"}}, {"isBot": None}])
def test_what_the_client_says_stays(bots: Bots, sent: Any) -> None:
    assert patch(bots, GOOGLE, **sent) is None


def test_each_user_agent_of_the_list_is_known(bots: Bots) -> None:
    from crawleruseragents import CRAWLER_USER_AGENTS_DATA

    unknown = [
        agent
        for bot in CRAWLER_USER_AGENTS_DATA
        for agent in bot["instances"][:1]
        if "http-library" not in bot["tags"] and bots._find(agent) is None
    ]
    assert [] == unknown
