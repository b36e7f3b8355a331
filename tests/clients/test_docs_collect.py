"""docs/collect.md: each client's change is made as the page shows it, and what the client then sends arrives."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from arrivals import Source
from pages import Pages
from playwright.sync_api import Page
from programs import HERE, PACKAGES, node, path
from rudderstack.analytics.client import Client
from system import System

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "collect.md").read_text("utf-8")
BLOCKS = re.findall(r'^```(\w+)(?: title="([^"\n]+)")?\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)
CHANGES = {title: text for language, title, text in BLOCKS if language == "diff"}

PYTHON = ("segment-analytics-python", "rudder-sdk-python")
NODE = ("@segment/analytics-node", "@rudderstack/rudder-sdk-node")
BROWSER = ("@segment/analytics-next", "@rudderstack/analytics-js", "analytics")

SNIPPET = """
!function(){var i="analytics",analytics=window[i]=window[i]||[];if(!analytics.initialize)if(analytics.invoked)
window.console&&console.error&&console.error("Segment snippet included twice.");else{analytics.invoked=!0;
analytics.methods=["trackSubmit","trackClick","trackLink","trackForm","pageview","identify","reset","group","track",
"ready","alias","debug","page","screen","once","off","on","addSourceMiddleware","addIntegrationMiddleware",
"setAnonymousId","addDestinationMiddleware","register"];analytics.factory=function(e){return function(){
if(window[i].initialized)return window[i][e].apply(window[i],arguments);
var n=Array.prototype.slice.call(arguments);if(["track","screen","alias","group","page","identify"].indexOf(e)>-1){
var c=document.querySelector("link[rel='canonical']");n.push({__t:"bpc",c:c&&c.getAttribute("href")||void 0,
p:location.pathname,u:location.href,s:location.search,t:document.title,r:document.referrer})}n.unshift(e);
analytics.push(n);return analytics}};for(var n=0;n<analytics.methods.length;n++){var key=analytics.methods[n];
analytics[key]=analytics.factory(key)}analytics.load=function(key,n){var t=document.createElement("script");
t.type="text/javascript";t.async=!0;t.setAttribute("data-global-segment-analytics-key",i);
t.src="https://cdn.segment.com/analytics.js/v1/" + key + "/analytics.min.js"
;var r=document.getElementsByTagName("script")[0];r.parentNode.insertBefore(t,r);analytics._loadOptions=n};
analytics._writeKey="SEGMENT_WRITE_KEY";
;analytics.SNIPPET_VERSION="5.2.1";
analytics.load("SEGMENT_WRITE_KEY");
analytics.page("Home");
}}();
"""
"""Segment's snippet, with a line's end where the page shows one."""


def changed(title: str, source: Source, before: str = "") -> str:
    """A change as it stands on the page, made; with this source's key and system. `before`: what it is made in."""
    lines = CHANGES[title].splitlines()
    if before:
        for old, new in zip(lines[::2], lines[1::2], strict=True):
            assert (old[0], new[0], before.count(old[1:])) == ("-", "+", 1)
            before = before.replace(old[1:], new[1:])
    code = before or "\n".join(line[1:] for line in lines if not line.startswith("-"))
    return code.replace("https://events.example.com", source.system.url).replace("YOUR_WRITE_KEY", source.key)


def check_order(source: Source) -> None:
    """Fails unless the one event that the examples send is in the warehouse."""
    [event] = source.events(1)
    assert (event["event"], event["properties"]["total"]) == ("Order Completed", 42.5)


def bundle(code: str) -> str:
    """What a build makes of a module that imports npm packages."""
    command = [PACKAGES / ".bin" / "esbuild", "--bundle", "--format=esm", "--log-level=error"]
    done = subprocess.run(
        command, input=code, cwd=HERE, env={"PATH": path()}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_shows_every_client_and_nothing_that_is_not_run() -> None:
    assert sorted(CHANGES) == sorted([*PYTHON, *NODE, *BROWSER, "the snippet"])
    assert [language for language, _, _ in BLOCKS if language != "diff"] == ["bash", "json", "html"]
    for title in CHANGES:
        assert f"`{title}`" in PAGE or title == "the snippet"


def test_every_link_leads_somewhere() -> None:
    for name, anchor in re.findall(r"\]\(([\w.]*)(?:#([\w-]+))?\)", PAGE):
        text = (DOCS / name).read_text("utf-8") if name else PAGE
        headings = [
            re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall("^#+ (.*)", text, re.M)
        ]
        assert not anchor or anchor in headings, (name, anchor)


@pytest.mark.parametrize("title", PYTHON)
def test_python(title: str, source: Source) -> None:
    done = subprocess.run([sys.executable, "-c", changed(title, source)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    check_order(source)


@pytest.mark.parametrize("title", NODE)
def test_node(title: str, source: Source) -> None:
    node(changed(title, source))
    check_order(source)


@pytest.mark.parametrize("title", BROWSER)
def test_browsers(title: str, source: Source, pages: Pages, page: Page) -> None:
    script = pages.add(bundle(changed(title, source)), kind="text/javascript")
    page.goto(pages.add(f'<script type="module" src="{script}"></script>'))
    check_order(source)


def test_the_snippet_of_segment(source: Source, pages: Pages, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.split("/")[2]))
    pages.add((PACKAGES / "@segment/analytics-next/dist/umd/standalone.js").read_text("utf-8"), "/standalone.js")
    page.goto(pages.add(f"<script>{changed('the snippet', source, SNIPPET)}</script>"))
    page.evaluate("analytics.track('Order Completed')")
    assert sorted(event.get("event") or event["name"] for event in source.events(2)) == ["Home", "Order Completed"]
    assert set(asked) == {pages.url().split("/")[2], source.system.url.split("/")[2]}


def test_the_request_of_curl_and_its_answer(source: Source) -> None:
    command, answer = (text for language, _, text in BLOCKS if language in ("bash", "json"))
    command = command.replace("https://events.example.com", source.system.url).replace("YOUR_WRITE_KEY", source.key)
    done = subprocess.run(
        ["sh", "-c", command.replace("curl ", "curl -s ")], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == answer.strip()
    check_order(source)


def test_the_pixel(source: Source, pages: Pages, page: Page) -> None:
    [image] = (text for language, _, text in BLOCKS if language == "html")
    image = image.replace("https://events.example.com", source.system.url).replace("YOUR_WRITE_KEY", source.key)
    page.goto(pages.add(image))
    assert page.evaluate("document.images[0].naturalWidth") == 1
    [event] = source.events(1)
    told: dict[str, Any] = {"userId": "user-1", "event": "Mail Opened", "properties": {"mail": "welcome"}}
    assert {name: event[name] for name in told} == told


def test_a_collector_that_takes_5_mb_takes_what_rudderstacks_python_library_puts_together(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    assert "`EVENTROUTER_MAX_BATCH_BYTES`](cli.md) to `5MB`" in PAGE
    rules = "version: 1\nsources: { large: { write_key: key-large } }\n"
    with System(tmp_path_factory.mktemp("large"), rules, {"EVENTROUTER_MAX_BATCH_BYTES": "5MB"}) as system:
        errors: list[Any] = []
        client = Client("key-large", host=system.url, on_error=lambda error, _: errors.append(error))
        for number in range(200):
            client.track("u", "Large", {"number": number, "text": "ü" * 14_000})
        client.shutdown()
        assert errors == []
        assert len(system.rows(200, "SELECT id FROM events")) == 200
