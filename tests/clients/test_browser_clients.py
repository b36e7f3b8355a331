"""@segment/analytics-next and @rudderstack/analytics-js in a real browser, on a page of another origin."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from arrivals import Event, Source
from front import Fault, Front
from pages import Pages
from playwright.sync_api import BrowserContext, Page
from programs import PACKAGES
from system import steadily, until

HAPPENED = datetime(2026, 3, 29, 1, 30, 0, 123000, tzinfo=UTC)
SEARCH = "?utm_source=news&utm_campaign=spring&q=%C3%BC"

SEGMENT = """
<script src="/npm/@segment/analytics-next/dist/umd/index.js"></script>
<script>
  window.analytics = AnalyticsNext.AnalyticsBrowser.load({ writeKey: "KEY", cdnURL: "HOST" }, OPTIONS)
</script>
"""

RUDDER = """
<script src="/npm/@rudderstack/analytics-js/dist/npm/modern/bundled/umd/index.js"></script>
<script>
  window.analytics = new rudderanalytics.RudderAnalytics()
  analytics.load("KEY", "HOST", { configUrl: "HOST", ...OPTIONS })
</script>
"""

PROPERTIES = """{
    total: 12.5, tiny: 5e-324, wide: Number.MAX_VALUE, exact: 2 ** 53 - 1, edge: -(2 ** 53 - 1), large: 1e21,
    paid: true, free: false, empty: "",
    text: "Grüße, 世界 😀 \\u0001 \\u2028 \\\\ \\" e\\u0301",
    größe: { höhe: 1, tief: { tiefer: ["a", { b: [[]] }] } },
    items: [{ sku: "a-1", price: 9.99 }, { sku: "ß" }, 2 ** 53, 0.1],
    at: new Date("2026-02-28T23:59:59.999Z"),
}"""

ARRIVES = {
    "total": 12.5,
    "tiny": 5e-324,
    "wide": 1.7976931348623157e308,
    "exact": 2**53 - 1,
    "edge": -(2**53 - 1),
    "large": 1e21,
    "paid": True,
    "free": False,
    "empty": "",
    "text": 'Grüße, 世界 😀 \u0001 \u2028 \\ " e\u0301',
    "größe": {"höhe": 1, "tief": {"tiefer": ["a", {"b": [[]]}]}},
    "items": [{"sku": "a-1", "price": 9.99}, {"sku": "ß"}, 2**53, 0.1],
    "at": "2026-02-28T23:59:59.999Z",
}

TRAITS = {"email": "ä@example.com", "name": "Zoë", "age": 30, "address": {"city": "Köln"}}


class Kind(NamedTuple):
    """One of the two libraries."""

    html: str
    is_rudder: bool
    visitor: str
    """JavaScript for the anonymous id."""
    unload: str
    """Options by which events wait for company, and go by a beacon or the like when the page ends."""

    def open(self, page: Page, pages: Pages, source: Source, host: str = "", options: str = "{}") -> str:
        """Opens a page that has loaded the library; returns its URL."""
        html = self.html.replace("KEY", source.key).replace("HOST", host or source.system.url)
        url = pages.add("<title>Über</title>" + html.replace("OPTIONS", options))
        url = url.replace("127.0.0.1", "www.shop.test") + SEARCH
        page.goto(url)
        return url

    def finds(self, page: Page, url: str) -> Event:
        """What the library puts into all events, of what it finds in the browser."""
        where = {"path": url.split("?")[0].split(":", 2)[2].lstrip("0123456789"), "search": SEARCH, "title": "Über"}
        where["url"] = url
        context: dict[str, Any] = {
            "page": where,
            "userAgent": page.evaluate("navigator.userAgent"),
            "locale": "de-DE",
            "campaign": {"source": "news", "name": "spring"},
            "ip": "127.0.0.1",
        }
        common: Event = {"anonymousId": page.evaluate(self.visitor), "context": context}
        if not self.is_rudder:
            where["referrer"] = ""
            context |= {"timezone": "Europe/Berlin", "library": {"name": "analytics.js", "version": f"next-{SEGMENTS}"}}
            metadata = {"bundled": ["Segment.io"], "unbundled": [], "bundledIds": []}
            return {**common, "integrations": {}, "_metadata": metadata}
        where |= {"tab_url": url, "referrer": "$direct", "referring_domain": ""}
        where |= {"initial_referrer": "$direct", "initial_referring_domain": ""}
        name = "RudderLabs JavaScript SDK"
        size = {"width": 1280, "height": 720, "density": 1, "innerWidth": 1280, "innerHeight": 720}
        app = {"name": name, "namespace": "com.rudderlabs.javascript", "version": RUDDERS, "installType": "npm"}
        library = {"name": name, "version": RUDDERS, "variant": "bundled"}
        context |= {"app": app, "library": library, "screen": size, "os": {"name": "", "version": ""}}
        context |= {"timezone": page.evaluate(TIMEZONE), "traits": {}}
        return {**common, "integrations": {"All": True}, "channel": "web"}


TIMEZONE = "'GMT' + (/GMT([+-]\\d+)/.exec(new Date().toString()) || [])[1]"


def version(package: str) -> str:
    """The installed version of an npm package."""
    return str(json.loads((PACKAGES / package / "package.json").read_text("utf-8"))["version"])


SEGMENTS = version("@segment/analytics-next")
RUDDERS = version("@rudderstack/analytics-js")
KINDS = {
    "segment": Kind(
        SEGMENT,
        False,
        "analytics.user().then((user) => user.anonymousId())",
        "{integrations: {'Segment.io': {deliveryStrategy: {strategy: 'batching', config: {size: 9, timeout: 60000}}}}}",
    ),
    "rudder": Kind(
        RUDDER,
        True,
        "new Promise((then) => analytics.ready(() => then(analytics.getAnonymousId())))",
        "{ useBeacon: true }",
    ),
}


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    """One of the libraries."""
    return KINDS[request.param]


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "when the page ends"])
def test_every_field_of_every_call_arrives(
    kind: Kind, source: Source, pages: Pages, page: Page, now: datetime, together: bool
) -> None:
    url = kind.open(page, pages, source, options=kind.unload if together else "{}")
    user, group = f"{source.name}-user", f"{source.name}-group"
    page.evaluate(
        f"""async ([user, group, traits, clock, time]) => {{
            analytics.page("Docs", "Home", {{ section: "Größe" }})
            await analytics.identify(user, traits)
            analytics.track("Order Completed", {PROPERTIES}, {{ context: {{ ip: "203.0.113.7" }},
                [clock]: time, integrations: {{ All: false, Acme: {{ a: [1] }} }} }})
            analytics.group(group, {{ plan: "pro", seats: 2 ** 53 - 1 }})
            await analytics.alias(user + "-new", user)
        }}""",
        [user, group, TRAITS, "originalTimestamp" if kind.is_rudder else "timestamp", "2026-03-29T01:30:00.123Z"],
    )
    common = kind.finds(page, url)
    if together:
        page.close(run_before_unload=True)
    told: list[Event] = [
        {"type": "page", "name": "Home", "category": "Docs"},
        {"type": "identify", "traits": TRAITS},
        {"type": "track", "event": "Order Completed", "properties": ARRIVES},
        {"type": "group", "groupId": group, "traits": {"plan": "pro", "seats": 2**53 - 1}},
        {"type": "alias", "previousId": user},
    ]
    for event in told:
        event |= {**common, "userId": user} | event
        event["context"] = dict(common["context"])
    view, _, track, _, alias = told
    view["properties"] = {**common["context"]["page"], "section": "Größe", "name": "Home", "category": "Docs"}
    track["context"]["ip"] = "203.0.113.7"
    track["integrations"] = {"All": False, "Acme": {"a": [1]}}
    track["timestamp"] = HAPPENED
    if kind.is_rudder:
        del view["userId"]
        view["context"]["sessionStart"] = True
        for event in told[1:]:
            event["context"]["traits"] = TRAITS
        alias["userId"] = f"{user}-new"
    else:
        alias["userId"] = user  # Segment's library says who the user is now, whatever `alias` was told
        if together:  # and lists the options of its load
            for event in told:
                event["integrations"] = {"Segment.io": True, **event["integrations"]}
    source.has(told, since=now, made_up=["context.sessionId"] if kind.is_rudder else [])


@pytest.mark.parametrize("end", ["closed", "left"])
def test_what_is_under_way_when_the_page_ends_arrives_once(
    kind: Kind, source: Source, pages: Pages, context: BrowserContext, end: str
) -> None:
    """One by one: the request of the last event has only begun; what did not go comes with the visitor's next page."""
    page = context.new_page()
    url = kind.open(page, pages, source)
    page.evaluate("analytics.track('First')")
    source.events(1)
    if end == "closed":
        page.evaluate("() => { analytics.track('Last') }")
        page.close(run_before_unload=True)
        context.new_page().goto(url)
    else:
        page.evaluate("(next) => { analytics.track('Last'); setTimeout(() => location.assign(next)) }", url + "&next")
        page.wait_for_url(url + "&next")
    assert sorted(event["event"] for event in source.events(2)) == ["First", "Last"]


@pytest.mark.parametrize(
    "fault", [Fault(503, retry_after="1"), Fault(429, retry_after="1"), Fault(), Fault(after=True)], ids=str
)
def test_a_failed_request_is_repeated_and_arrives_once(
    kind: Kind, source: Source, pages: Pages, page: Page, front: Front, fault: Fault
) -> None:
    kind.open(page, pages, source, front.url)
    front.faults.append(fault)
    duplicates = source.system.count("events_duplicates_total")
    page.evaluate("analytics.track('Once')")
    front.until_posts(2)
    assert [event["event"] for event in source.events(1)] == ["Once"]
    if fault.after:
        source.system.until_count(duplicates + 1, "events_duplicates_total")
        source.events(1)
    assert (front.posts, front.taken) == (2, 1 + fault.after)


def test_a_refused_event_is_not_sent_for_ever(
    kind: Kind, source: Source, pages: Pages, page: Page, front: Front
) -> None:
    kind.open(page, pages, source, front.url)
    page.evaluate("analytics.track(' ')")
    page.evaluate("analytics.track('After')")
    assert [event["event"] for event in source.events(1)] == ["After"]
    [refused] = source.system.rows(1, "SELECT code FROM rejected_events WHERE source = ?", source.name)
    assert refused["code"] == "event_not_defined"
    assert steadily(lambda: front.posts == 2)


def test_an_unknown_key_is_not_asked_for_for_ever(
    kind: Kind, source: Source, pages: Pages, page: Page, front: Front
) -> None:
    kind.open(page, pages, source._replace(name="nobody"), front.url)
    page.evaluate("() => { analytics.track('Lost') }")
    until(lambda: front.gets)
    assert steadily(lambda: front.gets == 1)
    assert front.taken == 0


def test_the_client_asks_nobody_but_the_collector(kind: Kind, source: Source, pages: Pages, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    kind.open(page, pages, source)
    page.evaluate("analytics.track('Here')")
    source.events(1)
    assert [url for url in asked if pages.url().split(":")[2] not in url and source.system.url not in url] == []
