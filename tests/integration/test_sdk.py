"""The real segment-analytics-python against a whole system."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from segment.analytics.client import Client
from system import System, names


def use(system: System, calls: Callable[[Client], Any], key: str = "key-website", **options: Any) -> list[Any]:
    """Makes `calls` on a client and ends it as its users do; returns the errors that it told."""
    errors: list[Any] = []
    client = Client(key, host=system.url, on_error=lambda error, _: errors.append(error), **options)
    calls(client)
    client.shutdown()
    return errors


def test_every_call_of_the_sdk_lands_in_its_table(plain: System) -> None:
    def calls(client: Client) -> None:
        client.identify("sdk-1", {"email": "a@example.com", "größe": 2**70}, anonymous_id="sdk-a")
        client.track("sdk-1", "Sdk Order", {"total": 12.5, "items": [1, None, "😀"]}, context={"locale": "de"})
        client.page("sdk-1", "Docs", "Home", {"url": "https://example.com"})
        client.screen("sdk-1", "App", "Main", {"dark": True})
        client.group("sdk-1", "sdk-g", {"plan": "pro"})
        client.alias("sdk-old", "sdk-1")

    assert use(plain, calls) == []
    rows = plain.rows(6, "SELECT type, person_id FROM events WHERE user_id = 'sdk-1'")
    assert sorted(names(rows, "type")) == ["alias", "group", "identify", "page", "screen", "track"]
    assert len(set(names(rows, "person_id"))) == 1
    [order] = plain.sql("SELECT total, items, context_locale, context_library_name FROM sdk_order")
    assert order == {
        "total": 12.5,
        "items": '[1,null,"😀"]',
        "context_locale": "de",
        "context_library_name": "analytics-python",
    }
    assert plain.sql("SELECT email FROM users WHERE id = 'sdk-1'") == [{"email": "a@example.com"}]
    assert plain.sql("SELECT name, category FROM pages WHERE user_id = 'sdk-1'") == [
        {"name": "Home", "category": "Docs"}
    ]
    assert plain.sql("SELECT name, dark FROM screens WHERE user_id = 'sdk-1'") == [{"name": "Main", "dark": 1}]
    assert plain.sql("SELECT plan FROM accounts WHERE id = 'sdk-g'") == [{"plan": "pro"}]
    assert plain.sql("SELECT previous_id FROM aliases WHERE user_id = 'sdk-1'") == [{"previous_id": "sdk-old"}]


def test_the_time_that_the_caller_gives_is_kept(plain: System) -> None:
    time = datetime.now(UTC).replace(microsecond=0) - timedelta(days=400)
    assert use(plain, lambda client: client.track("sdk-2", "Sdk Old", timestamp=time)) == []
    [event] = plain.events(1, "Sdk Old")
    assert abs(datetime.fromisoformat(event["timestamp"]) - time) < timedelta(seconds=10)
    assert datetime.fromisoformat(event["originalTimestamp"]) == time


def test_thousands_of_events_arrive_once_each(plain: System) -> None:
    def calls(client: Client) -> None:
        for n in range(3000):
            client.track(f"sdk-{n % 20}", "Sdk Many", {"n": n})

    assert use(plain, calls, gzip=True, max_queue_size=10_000, thread=3) == []
    plain.rows(3000, "SELECT n FROM sdk_many")
    assert plain.sql("SELECT count(DISTINCT n) AS n FROM sdk_many") == [{"n": 3000}]


def test_the_sdk_tells_a_wrong_key_and_does_not_hang(plain: System) -> None:
    errors = use(plain, lambda client: client.track("sdk-3", "Sdk Wrong"), key="wrong")
    assert [(error.status, error.code) for error in errors] == [(401, "unknown_write_key")]
