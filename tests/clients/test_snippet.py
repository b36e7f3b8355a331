"""The snippet in a real browser, on a page of another origin than its collector: what it records."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from arrivals import Event, Source
from front import Front
from pages import Pages
from playwright.sync_api import BrowserContext, Page
from snippet import BLOCKS, STUB, TAG, Site
from system import System, steadily, until

ANONYMOUS = "JSON.parse(localStorage.__anon_id)"


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
    page.evaluate(
        """history.pushState({}, '', '/redirect'); history.replaceState({}, '', '/thanks')
        document.title = 'Thanks'; eventrouter.track('Bought')"""
    )
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
    cookie = "{ domain: .shop.test, max_age: 300d }"
    rules = f"version: 1\ncollect: {{ path_prefix: /e }}\nsources:\n  s0: {{ write_key: key-s0, cookie: {cookie} }}\n"
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
    [cookie] = context.cookies()
    assert (cookie["domain"], cookie["value"]) == (".shop.test", anonymous)
    assert cookie["expires"] < time.time() + 301 * 86_400  # the collector's: the script says a year
    page.evaluate("eventrouter.reset(); eventrouter.track('Again')")
    page.evaluate("eventrouter.flush()")
    anew = page.evaluate(ANONYMOUS)
    assert anew != anonymous
    assert {cookie["value"] for cookie in context.cookies()} == {anew}
    assert [event["anonymousId"] for event in site.events(2)] == [anonymous, anew]
