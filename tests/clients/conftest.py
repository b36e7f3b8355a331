"""What the client tests share: a whole eventrouter, a site on another origin, and a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pages import Pages
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from programs import OPTIONS, chromium
from system import System

RULES = """
version: 1
sources:
  website: { write_key: key-website }
  app: { write_key: key-app }
  server: { write_key: key-server }
  closed: { write_key: key-closed, enabled: false }
"""
"""Rules without a destination: events go to the warehouse alone."""


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A running system that all tests of this process share: each uses ids or event names of its own."""
    with System(tmp_path_factory.mktemp("clients"), RULES) as running:
        yield running


@pytest.fixture(scope="session")
def pages() -> Iterator[Pages]:
    """The site's server: another origin than the system's."""
    with Pages() as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium.

    It ends with the module: Playwright keeps an event loop in this thread, and other modules have tests with their own.
    A module that asks for it has no `async` tests.
    """
    with sync_playwright() as playwright:
        options = ["--no-sandbox", *OPTIONS]
        one = playwright.chromium.launch(executable_path=chromium(), args=options, headless=True)
        try:
            yield one
        finally:
            one.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A visitor: a browser profile without cookies or storage. `context.new_page()` opens another tab of theirs."""
    one = browser.new_context(locale="de-DE", timezone_id="Europe/Berlin")
    one.set_default_timeout(20_000)
    yield one
    one.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A tab of a new visitor."""
    return context.new_page()
