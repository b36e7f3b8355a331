"""What pages of other sites can do to a visitor's cookie, in a real browser: nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from pages import Pages
from playwright.sync_api import BrowserContext
from system import System

EVENT = {"writeKey": "key-s0", "type": "track", "event": "Opened", "anonymousId": "chosen"}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system that sets a cookie, for its host alone and for a site."""
    rules = (
        "version: 1\nsources:\n  s0: { write_key: key-s0, cookie: true }\n"
        "  s1: { write_key: key-s1, cookie: { domain: .shop.test } }\n"
    )
    with System(tmp_path_factory.mktemp("foreign"), rules) as running:
        yield running


def form(host: str) -> str:
    """A page whose form sends the event as text, as soon as it is shown."""
    text = json.dumps(EVENT | {"x": ""})[:-2]
    return (
        f"<form method=post enctype=text/plain action={host}/v1/track>"
        f"<input name='{text}' value='\"}}'></form><script>document.forms[0].submit()</script>"
    )


def picture(host: str, key: str = "key-s0") -> str:
    """A page that shows a pixel."""
    query = f"writeKey={key}&anonymousId=chosen&event=Opened"
    return f"<img src='{host}/v1/pixel/track?{query}' onload='document.title = 1' onerror='document.title = 1'>"


def script(host: str, key: str) -> str:
    """A page whose script sends the event with credentials."""
    body = json.dumps(EVENT | {"writeKey": key})
    options = f"{{method: 'POST', credentials: 'include', body: JSON.stringify({body})}}"
    return f"<script>fetch('{host}/v1/track', {options}).finally(() => (document.title = 1))</script>"


@pytest.mark.parametrize(
    ("page_host", "host", "kind", "key", "known"),
    [
        ("localhost", "127.0.0.1", "form", "key-s0", False),
        ("localhost", "127.0.0.1", "picture", "key-s0", False),
        ("localhost", "127.0.0.1", "script", "key-s0", False),
        ("127.0.0.1", "127.0.0.1", "form", "key-s0", False),
        ("127.0.0.1", "127.0.0.1", "picture", "key-s0", True),
        ("127.0.0.1", "127.0.0.1", "script", "key-s0", True),
        # Plain http beyond the own machine: browsers do not say who asks.
        ("evil.test", "events.shop.test", "form", "key-s0", False),
        ("evil.test", "events.shop.test", "picture", "key-s1", False),
        ("evil.test", "events.shop.test", "script", "key-s1", False),
        ("www.shop.test", "events.shop.test", "script", "key-s1", True),
    ],
)
def test_only_a_page_of_the_site_has_its_id_kept(
    system: System, pages: Pages, context: BrowserContext, page_host: str, host: str, kind: str, key: str, known: bool
) -> None:
    url = f"http://{host}:{system.port}"
    html = form(url) if kind == "form" else picture(url, key) if kind == "picture" else script(url, key)
    page = context.new_page()
    page.goto(pages.add(html).replace("127.0.0.1", page_host))
    if kind == "form":
        page.wait_for_url("**/v1/track")
        assert json.loads(page.inner_text("body")) == {"success": True}
    else:
        page.wait_for_function("document.title == 1")
    assert [cookie["value"] for cookie in context.cookies()] == ["chosen"] * known
