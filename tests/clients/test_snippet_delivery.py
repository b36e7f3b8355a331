"""The snippet in a real browser: what it records gets through, once, and costs its page nothing."""

from __future__ import annotations

import pytest
from front import Fault, Front
from playwright.sync_api import BrowserContext, Page
from snippet import WAITING, Site
from system import steadily, until


@pytest.fixture
def errors(page: Page) -> list[str]:
    """What the page's own monitoring sees: errors and rejected promises that nobody has caught."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(error.message))
    return found


def close(page: Page) -> None:
    """Closes a tab as a visitor does."""
    with page.expect_event("close"):
        page.close(run_before_unload=True)


@pytest.mark.parametrize("end", ["close", "leave", "beacon"])
def test_what_was_recorded_a_moment_before_the_page_ends_arrives_without_another_visit(
    site: Site, page: Page, end: str
) -> None:
    if end == "beacon":  # a browser that has no other request that outlives its page
        page.add_init_script("delete Request.prototype.keepalive")
    site.open(page)
    page.evaluate("history.pushState({}, '', '/last'); document.title = 'Last'")
    if end != "leave":
        page.evaluate("eventrouter.track('Leaving')")
        close(page)
    else:
        page.evaluate("addEventListener('pagehide', () => eventrouter.track('Leaving')); location.href = 'about:blank'")
    assert sorted(site.names(3)) == ["Last", "Leaving", "Start"]


def test_an_answer_that_a_page_did_not_live_to_see_costs_nothing(
    site: Site, context: BrowserContext, front: Front
) -> None:
    page = context.new_page()
    site.open(page, front.url)
    site.events(1)
    until(lambda: page.evaluate(WAITING) == 0)
    front.faults.append(Fault(503))
    page.evaluate("eventrouter.track('Leaving')")
    close(page)
    front.until_posts(2)
    page = context.new_page()
    site.open(page, front.url)
    page.evaluate("Date.now = ((now) => () => now() + 60_000)(Date.now)")  # the lease is over
    page.evaluate("eventrouter.flush()")
    assert sorted(site.names(3)) == ["Leaving", "Start", "Start"]


@pytest.mark.parametrize("closes", [False, True])
def test_offline_events_wait_and_come_when_the_network_does(site: Site, context: BrowserContext, closes: bool) -> None:
    page = context.new_page()
    site.open(page)
    site.events(1)
    page.evaluate("eventrouter.flush()")
    context.set_offline(True)
    page.evaluate("eventrouter.track('Offline'); eventrouter.identify('u1'); eventrouter.track('Known')")
    until(lambda: page.evaluate(WAITING) == 3)
    assert page.evaluate("eventrouter.flush()") is False
    if closes:
        close(page)
    context.set_offline(False)
    if closes:
        page = context.new_page()
        site.open(page, attributes='data-auto-page="false"')
    found = {event.get("event") or event["type"]: event for event in site.events(4)}
    assert set(found) == {"page", "Offline", "identify", "Known"}
    assert "userId" not in found["Offline"]
    assert found["Known"]["userId"] == "u1"
    until(lambda: page.evaluate(WAITING) == 0)
    if not closes:
        page.wait_for_timeout(3_500)  # `analytics` looks every three seconds for calls that were made offline
        site.events(4)


@pytest.mark.parametrize(
    "fault", [Fault(503), Fault(404), Fault(429, retry_after="1"), Fault(), Fault(after=True)], ids=str
)
def test_a_failed_request_is_repeated_and_arrives_once(site: Site, page: Page, front: Front, fault: Fault) -> None:
    site.open(page, front.url)
    front.until_posts(1)
    front.faults.append(fault)
    page.evaluate("eventrouter.track('Once')")
    front.until_posts(3)
    assert site.names(2) == ["Start", "Once"]
    until(lambda: page.evaluate(WAITING) == 0)
    assert steadily(lambda: front.posts == 3)


def test_no_request_asks_for_leave_first(site: Site, context: BrowserContext, page: Page) -> None:
    asked: list[tuple[str, str]] = []
    session = context.new_cdp_session(page)
    session.on("Network.requestWillBeSent", lambda sent: asked.append((sent["request"]["method"], sent["type"])))
    session.send("Network.enable")
    site.open(page)
    page.evaluate("eventrouter.identify('u1')")
    assert page.evaluate("eventrouter.flush()") is True
    assert ("POST", "Fetch") in asked
    assert {kind for _, kind in asked} == {"Document", "Script", "Fetch"}


def test_a_wrong_write_key_is_told_in_the_console_and_not_tried_again(site: Site, page: Page, front: Front) -> None:
    site.source = site.source._replace(name="unknown")
    with page.expect_console_message(lambda message: "refused" in message.text) as said:
        site.open(page, front.url)
    assert said.value.text == "eventrouter: 1 events were refused, HTTP 401: no source has this write key"
    assert steadily(lambda: front.posts == 1)


def test_tabs_that_send_at_the_same_time_lose_nothing(site: Site, context: BrowserContext) -> None:
    tabs = [context.new_page() for _ in range(3)]
    for number, tab in enumerate(tabs):
        site.open(tab, attributes='data-auto-page="false"')
        tab.evaluate("(n) => { for (let i = 0; i < 40; i++) eventrouter.track(`T${n} ${i}`) }", number)
    expected = {f"T{number} {index}" for number in range(3) for index in range(40)}
    assert set(site.names(120)) == expected
    until(lambda: tabs[0].evaluate(WAITING) == 0)


def test_a_page_without_storage_sends_from_memory(site: Site, page: Page, errors: list[str]) -> None:
    page.add_init_script("Object.defineProperty(window, 'localStorage', { value: null })")  # as a WebView of Android
    site.open(page, calls="eventrouter.track('Early')")
    page.evaluate("eventrouter.identify('u1'); eventrouter.consent({ chat: true }); eventrouter.track('Late')")
    assert sorted(site.names(4)) == ["", "Early", "Late", "Start"]
    assert errors == []


def test_storage_that_is_taken_away_later_costs_no_event(site: Site, page: Page, errors: list[str]) -> None:
    site.open(page)
    assert page.evaluate("eventrouter.flush()") is True
    page.evaluate("for (const name of ['getItem', 'setItem', 'removeItem']) delete Storage.prototype[name]")
    page.evaluate("eventrouter.track('Late')")
    assert sorted(site.names(2)) == ["Late", "Start"]
    assert errors == []


def test_a_sandboxed_frame_without_storage_and_cookies_sends(site: Site, page: Page, errors: list[str]) -> None:
    page.goto(site.pages.add(f'<iframe sandbox="allow-scripts" src="{site.add(title="Framed")}"></iframe>'))
    frame = page.frames[1]
    frame.wait_for_function("window.eventrouter.analytics")
    frame.evaluate("eventrouter.track('One'); eventrouter.reset(); eventrouter.track('Other')")
    events = {event.get("event", "view"): event["anonymousId"] for event in site.events(3)}
    assert events["view"] == events["One"] != events["Other"]
    assert errors == []


def test_an_error_in_what_ready_calls_back_costs_no_call(site: Site, page: Page, errors: list[str]) -> None:
    calls = """
        window.kept = eventrouter
        eventrouter.track("One")
        eventrouter.ready(() => missing())
        eventrouter.ready()
        eventrouter.push(5, ["track"], ["nonsense"])
        eventrouter.track("Two")
    """
    site.open(page, calls=calls)
    page.evaluate("eventrouter.ready(({ track }) => track('Three')); kept.track('Four')")
    assert sorted(site.names(5)) == ["Four", "One", "Start", "Three", "Two"]
    assert errors == ["missing is not defined"]


@pytest.mark.parametrize(
    "call",
    ["track()", "track(5)", "track('')", "ready()", "ready(5)", "push(5)", "push(null)", "track('x', { big: 1n })"],
)
def test_a_call_that_is_wrong_is_told_in_the_console_and_nowhere_else(
    site: Site, page: Page, errors: list[str], call: str
) -> None:
    site.open(page)
    with page.expect_console_message(lambda message: message.text.startswith("eventrouter: ")):
        page.evaluate(f"void eventrouter.{call}")
    page.evaluate("eventrouter.track('Right')")
    assert site.names(2) == ["Start", "Right"]
    assert errors == []


def test_calls_with_little_in_them_do_the_page_no_harm(site: Site, page: Page, errors: list[str]) -> None:
    site.open(page)
    page.evaluate("for (const name of ['identify', 'page', 'group', 'alias', 'consent']) eventrouter[name](null)")
    page.evaluate("for (const name of ['identify', 'page', 'group', 'alias', 'consent']) eventrouter[name]()")
    page.evaluate("eventrouter.track('x', null); eventrouter.identify('u', 5); eventrouter.track('Right')")
    until(lambda: page.evaluate(WAITING) == 0)
    assert errors == []


def test_a_tag_without_an_address_is_told_in_the_console_and_nowhere_else(
    site: Site, page: Page, errors: list[str]
) -> None:
    script = page.request.get(f"{site.source.system.url}/eventrouter.js").text()
    with page.expect_console_message(lambda message: message.text.startswith("eventrouter: ")):
        page.goto(site.pages.add(f'<script data-write-key="key">{script}</script>'))
    assert errors == []
