"""The tests' own ground: a page of one origin, in a real browser, reaches a collector of another."""

from __future__ import annotations

import json

import pytest
from arrivals import Source
from pages import Pages
from playwright.sync_api import Page
from programs import node


@pytest.mark.parametrize("host", ["127.0.0.1", "www.shop.test"])
def test_a_page_posts_to_the_collector_of_another_origin(source: Source, pages: Pages, page: Page, host: str) -> None:
    pages.add("<title>Home</title><p>Grüße 😀", "/home")
    page.goto(pages.url("/home", host))
    assert page.inner_text("p") == "Grüße 😀"
    status = page.evaluate(
        """async ([url, writeKey]) => {
            const body = JSON.stringify({event: "Page Test", anonymousId: "a", writeKey})
            return (await fetch(url + "/v1/t", {method: "POST", body})).status
        }""",
        [source.system.url, source.key],
    )
    assert status == 200
    assert [event["event"] for event in source.events(1)] == ["Page Test"]


def test_a_page_finds_the_installed_packages_and_nothing_outside(pages: Pages, page: Page) -> None:
    page.goto(pages.url("/npm/analytics/package.json"))
    assert json.loads(page.inner_text("body"))["name"] == "analytics"
    for path in ("/npm/../conftest.py", "/npm/%2e%2e/conftest.py", "/none"):
        answer = page.request.get(pages.url(path))
        assert answer.status == 404


def test_a_name_of_the_internet_is_not_found(page: Page) -> None:
    page.goto("about:blank")
    error = page.evaluate("fetch('http://example.com').then(() => 'found', error => error.message)")
    assert error == "Failed to fetch"


def test_node_is_new_enough_and_finds_the_packages() -> None:
    script = """
        import { Analytics } from "@segment/analytics-node"
        console.log(parseInt(process.versions.node) >= 20, typeof Analytics, process.argv[2])
    """
    assert node(script, "argument") == "true function argument\n"
