"""A site that carries the snippet of docs/browser.md, and what tests ask its pages."""

from __future__ import annotations

import re
from pathlib import Path

from arrivals import Event, Source
from pages import Pages
from playwright.sync_api import Page

GUIDE = (Path(__file__).parents[2] / "docs" / "browser.md").read_text("utf-8")
BLOCKS = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', GUIDE, re.MULTILINE | re.DOTALL))
STUB, TAG = BLOCKS["snippet"].strip().rsplit("\n", 1)
"""The snippet's two scripts: one keeps early calls, the other loads the file."""

WAITING = "Object.keys(localStorage).filter((key) => key.includes('.event.')).length"
"""How many events wait in a page's storage, in JavaScript."""


class Site:
    """A site whose pages carry the snippet."""

    def __init__(self, source: Source, pages: Pages) -> None:
        self.source = source
        self.pages = pages

    def add(self, host: str = "", attributes: str = "", *, calls: str = "", title: str = "Start") -> str:
        """Makes a page that loads the script from `host` (else from the system); `calls` are made before."""
        tag = TAG.replace("YOUR_WRITE_KEY", self.source.key).replace("></", f" {attributes}></")
        tag = tag.replace("https://events.example.com", host or self.source.system.url)
        html = f"<title>{title}</title>{STUB}<script>{calls}</script>{tag}"
        return self.pages.add(html).replace("127.0.0.1", "www.shop.test")

    def open(
        self, page: Page, host: str = "", attributes: str = "", *, calls: str = "", at: str = "", title: str = "Start"
    ) -> str:
        """Opens such a page, and waits until it has loaded the script; returns its URL. `at` follows its path."""
        url = self.add(host, attributes, calls=calls, title=title) + at
        page.goto(url)
        page.wait_for_function("window.eventrouter.analytics")
        if "auto-page" not in attributes:
            page.wait_for_function("eventrouter.analytics.getState('page.last.meta')")
        return url

    def events(self, count: int) -> list[Event]:
        """The source's events, by the time at which they happened."""
        return sorted(self.source.events(count), key=lambda event: event["originalTimestamp"])

    def names(self, count: int) -> list[str]:
        """What tells them apart: a page view's title, a track event's name, else their type."""
        names = (event.get("event") or event.get("properties", {}).get("title") for event in self.events(count))
        return [name or "" for name in names]
