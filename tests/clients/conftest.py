"""What the client tests share: a whole eventrouter, a site on another origin, and a real browser."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

pytest.register_assert_rewrite("arrivals", "programs")

from arrivals import Source  # noqa: E402
from front import Front  # noqa: E402
from pages import Pages  # noqa: E402
from programs import OPTIONS, chromium  # noqa: E402
from snippet import Site  # noqa: E402
from system import System  # noqa: E402

SOURCES = 200
"""How many tests of one process can have a source of their own."""

ALONE = "enrichments: { bots: false, campaign: false, user_agent: false }\n"
RULES = f"version: 1\n{ALONE}sources:\n" + "".join(f"  s{n}: {{ write_key: key-s{n} }}\n" for n in range(SOURCES))
"""Rules without a destination: events go to the warehouse alone, as the clients sent them."""

_numbers = itertools.count()


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A running system that all tests of this process share."""
    with System(tmp_path_factory.mktemp("clients"), RULES) as running:
        yield running


@pytest.fixture
def source(system: System) -> Source:
    """A source of the system that no other test writes to."""
    return Source(system, f"s{next(_numbers)}")


@pytest.fixture
def front(system: System) -> Iterator[Front]:
    """A front before the system whose faults the test chooses."""
    with Front(system) as one:
        yield one


@pytest.fixture
def now() -> datetime:
    """When the test began."""
    return datetime.now(UTC)


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


@pytest.fixture
def site(source: Source, pages: Pages) -> Site:
    """A site whose pages carry the snippet, with a source of its own."""
    return Site(source, pages)
