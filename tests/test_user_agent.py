"""The enrichment user_agent."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from eventrouter.builtin.user_agent import MAX_CHARACTERS, UserAgent

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36"
)
ANDROID = "Mozilla/5.0 (Linux; Android {}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Mobile Safari/537.36"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Mobile/15E148 Safari/604.1"
)


@pytest.fixture(scope="module")
def enrichment() -> UserAgent:
    return UserAgent(UserAgent.Options())


def patch(enrichment: UserAgent, agent: Any, **context: Any) -> Any:
    found = enrichment.patch({"type": "track", "context": {"userAgent": agent, **context}})
    return found and found["context"]


@pytest.mark.parametrize(
    ("agent", "parts"),
    [
        (CHROME, {"browser": {"name": "Chrome", "version": "129.0.0.0"}, "os": {"name": "Windows", "version": "10"}}),
        (
            IPHONE,
            {
                "browser": {"name": "Mobile Safari", "version": "17.5"},
                "os": {"name": "iOS", "version": "17.5"},
                "device": {"manufacturer": "Apple", "model": "iPhone"},
            },
        ),
        (
            ANDROID.format("14; SM-S918B"),
            {
                "browser": {"name": "Chrome Mobile", "version": "129.0.0.0"},
                "os": {"name": "Android", "version": "14"},
                "device": {"manufacturer": "Samsung", "model": "SM-S918B"},
            },
        ),
        (
            "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
            {"browser": {"name": "Firefox", "version": "130.0"}, "os": {"name": "Ubuntu"}},
        ),
    ],
)
def test_browser_system_and_device_are_read(enrichment: UserAgent, agent: str, parts: Any) -> None:
    assert parts == patch(enrichment, agent)


@pytest.mark.parametrize(
    ("agent", "device"),
    [
        (ANDROID.format("10; K"), None),
        (ANDROID.format("9; QZX-770"), {"model": "QZX-770"}),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", None),
    ],
)
def test_what_the_parser_makes_up_about_devices_is_left_out(enrichment: UserAgent, agent: str, device: Any) -> None:
    assert device == patch(enrichment, agent).get("device")


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"context": None},
        {"context": []},
        {"context": {}},
        {"context": {"userAgent": None}},
        {"context": {"userAgent": ""}},
        {"context": {"userAgent": 5}},
        {"context": {"userAgent": {"a": 1}}},
        {"context": {"userAgent": "analytics-python/2.3.3"}},
    ],
)
def test_without_one_that_can_be_read_there_is_nothing_to_add(enrichment: UserAgent, event: Any) -> None:
    assert enrichment.patch(event) is None


def test_what_the_client_sent_stays(enrichment: UserAgent) -> None:
    assert {"browser": {"name": "Mobile Safari", "version": "17.5"}} == patch(
        enrichment, IPHONE, os={"name": "iPadOS"}, device={"id": "d1"}
    )
    assert patch(enrichment, IPHONE, os={"name": "x"}, device={"id": "d"}, browser={"name": "y"}) is None


@pytest.mark.parametrize("nothing", [None, {}, "", {"name": "", "version": ""}])
def test_what_the_client_sent_empty_is_filled(enrichment: UserAgent, nothing: Any) -> None:
    assert {"name": "Windows", "version": "10"} == patch(enrichment, CHROME, os=nothing, device=nothing)["os"]


def test_an_endless_user_agent_is_read_as_far_as_it_makes_sense(enrichment: UserAgent) -> None:
    assert "Chrome" == patch(enrichment, CHROME + " x" * 10_000)["browser"]["name"]
    assert patch(enrichment, "x" * MAX_CHARACTERS + CHROME) is None


def test_many_user_agents_take_bounded_memory(enrichment: UserAgent) -> None:
    for number in range(6000):
        patch(enrichment, f"Thing/{number}")
    assert enrichment._known.cache_info().currsize == 5000


def test_the_parser_is_loaded_when_the_first_user_agent_comes() -> None:
    code = (
        "import sys; from eventrouter.builtin.user_agent import UserAgent as U; u = U(U.Options()); u.patch({}); "
        "print([name for name in sys.modules if name.startswith('ua_parser')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]\n" == done.stdout
