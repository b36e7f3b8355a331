"""The snippet of docs/browser.md in a real browser, on a page of another origin than its collector."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from arrivals import Event, Source
from front import Fault, Front
from pages import Pages
from playwright.sync_api import BrowserContext, Page
from system import System, steadily, until

GUIDE = (Path(__file__).parents[2] / "docs" / "browser.md").read_text("utf-8")
BLOCKS = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', GUIDE, re.MULTILINE | re.DOTALL))
STUB, TAG = BLOCKS["snippet"].strip().rsplit("\n", 1)
WAITING = "Object.keys(localStorage).filter((key) => key.includes('.event.')).length"
ANONYMOUS = "JSON.parse(localStorage.__anon_id)"


def close(page: Page) -> None:
    """Closes a tab as a visitor does."""
    with page.expect_event("close"):
        page.close(run_before_unload=True)


class Site:
    """A site whose pages carry the snippet."""

    def __init__(self, source: Source, pages: Pages) -> None:
        self.source = source
        self.pages = pages

    def open(
        self, page: Page, host: str = "", attributes: str = "", *, calls: str = "", at: str = "", title: str = "Start"
    ) -> str:
        """Opens a page that has loaded the script; returns its URL. `calls` are made before; `at` follows its path."""
        tag = TAG.replace("YOUR_WRITE_KEY", self.source.key).replace("></", f" {attributes}></")
        tag = tag.replace("https://events.example.com", host or self.source.system.url)
        html = f"<title>{title}</title>{STUB}<script>{calls}</script>{tag}"
        url = self.pages.add(html).replace("127.0.0.1", "www.shop.test") + at
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


@pytest.fixture
def site(source: Source, pages: Pages) -> Site:
    return Site(source, pages)


def test_every_field_of_every_call_arrives(site: Site, page: Page, now: datetime) -> None:
    search = "?utm_source=news&utm_campaign=spring&utm_term=a+b&q=%C3%BC"
    url = site.open(page, at=search, title="Über")
    page.evaluate(BLOCKS["calls"])
    page.evaluate("eventrouter.track('Grüße', {exact: 2 ** 53 - 1, items: [{sku: 'ß'}], text: '😀', none: null})")
    where = {
        "path": f"/{url.split('/')[3].split('?')[0]}",
        "referrer": "",
        "search": search,
        "title": "Über",
        "url": url,
    }
    context = {
        "library": {"name": "eventrouter.js", "version": "0.1.0"},
        "page": where,
        "campaign": {"source": "news", "name": "spring", "term": "a b"},
        "locale": "de-DE",
        "timezone": "Europe/Berlin",
        "userAgent": page.evaluate("navigator.userAgent"),
        "screen": {"width": 1280, "height": 720, "density": 1},
        "ip": "127.0.0.1",
    }
    common = {"context": context, "anonymousId": page.evaluate(ANONYMOUS)}
    view = {**where, "hash": "", "width": 1280, "height": 720}
    known = {"userId": "user-1", **common}
    told: list[Event] = [
        {"type": "page", "properties": view, **common},
        {"type": "track", "event": "Order Completed", "properties": {"order_id": "o-1", "total": 42.5}, **common},
        {"type": "identify", "traits": {"email": "ada@example.com"}, **known},
        {"type": "group", "groupId": "company-1", "traits": {"plan": "pro"}, **known},
        {"type": "page", "name": "Checkout", "properties": {**view, "name": "Checkout", "step": 2}, **known},
        {"type": "alias", "previousId": "user-1", **known, "userId": "user-2"},
        {
            "type": "track",
            "event": "Grüße",
            "properties": {"exact": 2**53 - 1, "items": [{"sku": "ß"}], "text": "😀", "none": None},
            **known,
        },
    ]
    site.source.has(told, since=now)


def test_calls_that_were_made_before_the_script_came_keep_their_times(site: Site, page: Page, now: datetime) -> None:
    calls = """
        eventrouter.consent({ marketing: true, chat: false })
        eventrouter.track("Early")
        eventrouter.identify(42)
        eventrouter.ready((loaded) => loaded.track("Ready"))
        window.kept = eventrouter
    """
    page.route("**/eventrouter.js", lambda route: (page.wait_for_timeout(1_000), route.continue_()))
    site.open(page, calls=calls)
    page.evaluate("kept.track('Kept'); kept.push(['track', 'Pushed'])")
    events = {event.get("event") or event["type"]: event for event in site.events(6)}
    assert set(events) == {"page", "Early", "identify", "Ready", "Kept", "Pushed"}
    times = {name: datetime.fromisoformat(event["originalTimestamp"]) for name, event in events.items()}
    assert (times["Ready"] - times["Early"]).total_seconds() > 0.8
    assert {event.get("userId") for event in events.values()} == {None, "42"}
    consents = [event["context"]["consent"] for event in events.values()]
    assert consents == [{"categoryPreferences": {"marketing": True, "chat": False}}] * 6


def test_a_page_without_the_first_script_works(site: Site, page: Page) -> None:
    tag = TAG.replace("YOUR_WRITE_KEY", site.source.key).replace("https://events.example.com", site.source.system.url)
    page.goto(site.pages.add(f"{tag}<title>Bare</title>"))
    assert site.names(1) == ["Bare"]


def test_single_page_navigation_is_page_views_and_the_same_address_is_none(site: Site, page: Page) -> None:
    url = site.open(page)
    page.evaluate("history.replaceState({ scroll: 1 }, '', location.href)")
    page.evaluate("history.pushState({}, '', '/cart?step=1#top'); setTimeout(() => (document.title = 'Cart'))")
    page.wait_for_timeout(200)
    page.evaluate("history.replaceState({}, '', '/cart?step=1#below'); location.hash = 'bottom'")
    page.evaluate("history.pushState({}, '', '/redirect'); history.replaceState({}, '', '/thanks')")
    page.evaluate("document.title = 'Thanks'; eventrouter.track('Bought')")
    page.go_back()
    page.wait_for_timeout(200)
    views = [event["properties"] for event in site.events(5) if event["type"] == "page"]
    base = site.pages.url("", "www.shop.test")
    assert [(view["url"], view["title"], view["referrer"]) for view in views] == [
        (url, "Start", ""),
        (f"{base}/cart?step=1", "Cart", url),
        (f"{base}/thanks", "Thanks", f"{base}/cart?step=1"),
        (f"{base}/cart?step=1", "Thanks", f"{base}/thanks"),
    ]
    [bought] = [event for event in site.events(5) if event["type"] == "track"]
    assert bought["context"]["page"]["url"] == f"{base}/thanks"


def test_with_hash_routing_the_hash_is_part_of_the_address(site: Site, page: Page) -> None:
    url = site.open(page, attributes='data-hash="true"', at="#/a")
    page.evaluate("location.hash = '/b'")
    page.wait_for_timeout(200)
    views = [event["properties"] for event in site.events(2)]
    assert [view["url"] for view in views] == [url, url.replace("#/a", "#/b")]
    assert views[1]["path"].endswith("#/b")


def test_page_views_by_hand_are_the_only_ones_when_the_site_says_so(site: Site, page: Page) -> None:
    site.open(page, attributes='data-auto-page="false"')
    page.evaluate("history.pushState({}, '', '/a')")
    page.wait_for_timeout(200)
    page.evaluate("eventrouter.page({ title: 'By Hand' })")
    assert site.names(1) == ["By Hand"]


def test_where_a_visitor_came_from_stays_known(site: Site, page: Page) -> None:
    target = site.open(page, attributes='data-auto-page="false"', at="?utm_source=ads").replace("www.", "new.")
    other = site.pages.add(f'<a href="{target}">go</a>')
    page.goto(other)
    page.click("a")
    page.wait_for_function("window.eventrouter.analytics")
    page.evaluate("history.pushState({}, '', '/later'); eventrouter.page(); eventrouter.track('Later')")
    _, event = site.events(2)
    origin = site.pages.url("/")
    assert event["context"]["campaign"] == {"source": "ads"}
    assert event["context"]["referrer"] == {"url": origin}


def test_what_a_visitor_did_before_signing_up_is_tied_to_the_user(site: Site, page: Page) -> None:
    site.open(page)
    page.evaluate("eventrouter.track('Before')")
    page.evaluate("eventrouter.identify('u-' + Math.random())")
    page.evaluate("eventrouter.track('After')")
    page.evaluate("eventrouter.reset(); eventrouter.track('Someone Else')")
    events = {event.get("event") or event["type"]: event for event in site.events(5)}
    query = "SELECT id, person_id FROM resolved_events WHERE source = ?"
    people = {row["id"]: row["person_id"] for row in site.source.system.sql(query, site.source.name)}
    persons = {name: people[event["messageId"]] for name, event in events.items()}
    assert persons["page"] == persons["Before"] == persons["identify"] == persons["After"]
    assert persons["Someone Else"] != persons["Before"]
    assert "userId" not in events["Someone Else"]
    assert page.evaluate(ANONYMOUS) == events["Someone Else"]["anonymousId"]


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


@pytest.mark.parametrize("fault", [Fault(503), Fault(429, retry_after="1"), Fault(), Fault(after=True)], ids=str)
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


def test_tabs_share_the_visitor_and_signing_out_in_one_is_signing_out_in_all(
    site: Site, context: BrowserContext
) -> None:
    one, other = context.new_page(), context.new_page()
    site.open(one, title="One")
    site.open(other, title="Other")
    one.evaluate("eventrouter.identify('u1')")
    until(lambda: other.evaluate("localStorage.__user_id"))
    other.evaluate("eventrouter.track('Other Knows')")
    one.evaluate("eventrouter.reset()")
    until(lambda: not other.evaluate("localStorage.__user_id"))
    other.evaluate("eventrouter.track('Other Forgot')")
    one.evaluate("eventrouter.track('One Forgot')")
    events = {event.get("event") or event.get("properties", {}).get("title"): event for event in site.events(6)}
    before = {events[name]["anonymousId"] for name in ("One", "Other", "Other Knows")}
    after = {events[name]["anonymousId"] for name in ("Other Forgot", "One Forgot")}
    assert (len(before), len(after), before & after) == (1, 1, set())
    assert events["Other Knows"]["userId"] == "u1"
    assert "userId" not in events["Other Forgot"]


def test_tabs_that_send_at_the_same_time_lose_nothing(site: Site, context: BrowserContext) -> None:
    tabs = [context.new_page() for _ in range(3)]
    for number, tab in enumerate(tabs):
        site.open(tab, attributes='data-auto-page="false"')
        tab.evaluate("(n) => { for (let i = 0; i < 40; i++) eventrouter.track(`T${n} ${i}`) }", number)
    expected = {f"T{number} {index}" for number in range(3) for index in range(40)}
    assert set(site.names(120)) == expected
    until(lambda: tabs[0].evaluate(WAITING) == 0)


def test_the_id_is_in_storage_and_cookie_and_comes_back_from_either(site: Site, context: BrowserContext) -> None:
    page = context.new_page()
    site.open(page)
    [cookie] = context.cookies()
    first = page.evaluate(ANONYMOUS)
    assert (cookie["name"], cookie["value"]) == ("er_anonymous_id", first)
    assert (cookie["domain"], cookie["httpOnly"], cookie["sameSite"]) == (".shop.test", False, "Lax")
    page.evaluate("localStorage.clear()")
    page.reload()
    until(lambda: page.evaluate(ANONYMOUS) == first)
    context.clear_cookies()
    page.reload()
    until(lambda: [cookie["value"] for cookie in context.cookies()] == [first])


@pytest.mark.parametrize(("signal", "option"), [("globalPrivacyControl", "gpc"), ("doNotTrack", "dnt")])
def test_a_visitor_who_says_no_is_left_alone(site: Site, page: Page, front: Front, signal: str, option: str) -> None:
    value = "'1'" if option == "dnt" else "true"
    page.add_init_script(f"Object.defineProperty(navigator, '{signal}', {{ value: {value} }})")
    tag = TAG.replace("YOUR_WRITE_KEY", site.source.key).replace("https://events.example.com", front.url)
    calls = "<script>eventrouter.track('Early'); eventrouter.ready(() => (window.called = true))</script>"
    page.goto(site.pages.add(STUB + calls + tag.replace("></", ' data-respect="gpc dnt"></')))
    page.wait_for_function("window.called")
    assert page.evaluate("eventrouter.track('Late'), eventrouter.flush()") is False
    assert page.evaluate("[document.cookie, Object.keys(localStorage).length]") == ["", 0]
    assert steadily(lambda: front.posts == 0, 1.5)


def test_an_address_cannot_speak_for_the_visitor(site: Site, page: Page) -> None:
    site.open(page, at="?an_uid=victim&an_aid=stolen&an_event=Forged&an_trait_email=x")
    page.evaluate("eventrouter.track('Real')")
    events = site.events(2)
    assert [event.get("event") for event in events] == [None, "Real"]
    assert [event.get("userId") for event in events] == [None, None]
    assert "stolen" not in [event["anonymousId"] for event in events]


@pytest.fixture(scope="module")
def prefixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system below a path prefix, whose cookie keeps the visitor."""
    rules = "version: 1\ncollect: { path_prefix: /e }\nsources:\n  s0: { write_key: key-s0, cookie: true }\n"
    with System(tmp_path_factory.mktemp("prefixed"), rules) as running:
        yield running


def test_below_a_path_prefix_of_the_same_site_the_collectors_cookie_follows_the_visitor(
    prefixed: System, pages: Pages, context: BrowserContext
) -> None:
    asked: list[str] = []
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    host = f"http://events.shop.test:{prefixed.port}/e"
    site = Site(Source(prefixed, "s0"), pages)
    site.open(page, host)
    anonymous = page.evaluate(ANONYMOUS)
    page.evaluate("eventrouter.flush()")
    assert [url for url in asked if url.startswith(host)] == [f"{host}/eventrouter.js", f"{host}/v1/batch"]
    cookies = {cookie["domain"]: cookie["value"] for cookie in context.cookies()}
    assert cookies == {".shop.test": anonymous, "events.shop.test": anonymous}
    page.evaluate("eventrouter.reset(); eventrouter.track('Again')")
    page.evaluate("eventrouter.flush()")
    anew = page.evaluate(ANONYMOUS)
    assert anew != anonymous
    assert {cookie["value"] for cookie in context.cookies()} == {anew}
    assert [event["anonymousId"] for event in site.events(2)] == [anonymous, anew]
