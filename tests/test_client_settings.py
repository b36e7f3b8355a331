import pytest

from eventrouter.client_settings import rudderstack_settings, segment_settings
from eventrouter.source import Source


@pytest.mark.parametrize(
    ("url", "host", "protocol"),
    [
        ("http://localhost:8000", "localhost:8000/v1", "http"),
        ("https://events.shop.example/e", "events.shop.example/e/v1", "https"),
    ],
)
def test_segments_client_is_told_to_send_here_and_nowhere_else(url: str, host: str, protocol: str) -> None:
    assert segment_settings("key-1", url) == {
        "integrations": {"Segment.io": {"apiKey": "key-1", "apiHost": host, "protocol": protocol}},
        "metrics": {"sampleRate": 0},
    }


def test_rudderstacks_clients_find_what_they_need_and_no_destination() -> None:
    assert rudderstack_settings("key-1", Source("website"), "") == {
        "isHosted": False,
        "source": {
            "id": "website",
            "name": "website",
            "writeKey": "key-1",
            "enabled": True,
            "workspaceId": "eventrouter",
            "updatedAt": "2020-01-01T00:00:00.000Z",
            "config": {"statsCollection": {"errors": {"enabled": False}, "metrics": {"enabled": False}}},
            "destinations": [],
        },
    }


def test_a_source_that_is_off_says_so() -> None:
    assert rudderstack_settings("key-1", Source("website", enabled=False), "")["source"]["enabled"] is False


def test_the_operators_url_is_every_regions() -> None:
    planes = rudderstack_settings("key-1", Source("website"), "https://events.shop.example")["source"]["dataplanes"]
    assert planes["EU"] == planes["US"] == [{"url": "https://events.shop.example", "default": True}]
