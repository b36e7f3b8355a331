"""The enrichment campaign."""

from __future__ import annotations

from typing import Any

import pytest

from eventrouter.builtin.campaign import CAMPAIGN, CLICK_IDS, Campaign

CAMPAIGNS = Campaign(Campaign.Options())


def patch(url: str, **context: Any) -> Any:
    found = CAMPAIGNS.patch({"type": "page", "context": {"page": {"url": url}, **context}})
    return found and found["context"]


def test_every_parameter_of_a_campaign_is_read() -> None:
    query = "&".join(f"{name}={name}-value" for name in CAMPAIGN)
    expected = {to: f"{name}-value" for name, to in CAMPAIGN.items()}
    assert {"campaign": expected} == patch(f"https://shop.example/a?x=1&{query}&y=2")
    assert {"name", "source", "medium", "term", "content"} < set(expected)


def test_every_click_id_is_read() -> None:
    query = "&".join(f"{name}={name}-1" for name in CLICK_IDS)
    assert {"clickIds": {name: f"{name}-1" for name in CLICK_IDS}} == patch(f"https://shop.example/?{query}")


@pytest.mark.parametrize(
    ("url", "campaign"),
    [
        (
            "https://s.example/?utm_source=news+letter&utm_campaign=Gr%C3%BC%C3%9Fe",
            {"source": "news letter", "name": "Grüße"},
        ),
        ("https://s.example/?UTM_Source=Mail", {"source": "Mail"}),
        ("https://s.example/?utm_source=a&utm_source=b", {"source": "b"}),
        ("https://s.example/?utm_source=a=b#utm_medium=c", {"source": "a=b"}),
        ("https://s.example/?utm_term=%FF", {"term": "\ufffd"}),
        ("?utm_source=a", {"source": "a"}),
    ],
)
def test_values_are_decoded(url: str, campaign: Any) -> None:
    assert {"campaign": campaign} == patch(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://s.example/utm_source=a",
        "https://s.example/?q=utm_source",
        "https://s.example/?utm_source=",
        "https://s.example/?utm_unheard_of=a",
        "https://s.example/?my_utm_source=a",
    ],
)
def test_other_urls_give_nothing(url: str) -> None:
    assert patch(url) is None


def test_what_the_client_sent_stays_as_a_whole() -> None:
    url = "https://s.example/?utm_source=a&utm_medium=b&gclid=c"
    assert {"clickIds": {"gclid": "c"}} == patch(url, campaign={"source": "first"})
    assert {"campaign": {"source": "a", "medium": "b"}} == patch(url, clickIds={"gclid": "d"}, campaign={"name": ""})
    assert patch(url, campaign={"source": "x"}, clickIds={"x": 1}) is None


@pytest.mark.parametrize(
    "event",
    [
        {"type": "track", "context": {"page": {"search": "?utm_source=a", "url": "https://s.example/"}}},
        {"type": "page", "properties": {"url": "https://s.example/?utm_source=a"}},
        {"type": "page", "properties": {"search": "?utm_source=a"}, "context": {}},
    ],
)
def test_the_url_is_found_where_clients_put_it(event: Any) -> None:
    assert {"context": {"campaign": {"source": "a"}}} == CAMPAIGNS.patch(event)


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"type": "page", "context": None, "properties": None},
        {"type": "page", "context": {"page": None}, "properties": []},
        {"type": "page", "context": {"page": {"url": 5, "search": None}}},
        {"type": "track", "properties": {"url": "https://partner.example/?utm_source=us"}},
        {
            "type": "page",
            "context": {"page": {"url": "https://s.example/"}},
            "properties": {"url": "https://other.example/?utm_source=us"},
        },
    ],
)
def test_the_url_of_something_else_is_no_campaign(event: Any) -> None:
    assert CAMPAIGNS.patch(event) is None
