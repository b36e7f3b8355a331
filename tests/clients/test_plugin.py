"""`analytics` with our plugin in Node.js, against the real server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from arrivals import Event, Source
from front import Fault, Front
from programs import node

PLUGIN = (Path(__file__).parents[2] / "browser" / "src" / "index.js").as_uri()

START = f"""
    import {{ Analytics }} from "analytics"
    import eventrouter, {{ reducers, VERSION }} from {json.dumps(PLUGIN)}
    const [writeKey, host] = process.argv.slice(2)
    const retry = {{ initial: 50, max: 200 }}
    const analytics = Analytics({{ app: "test", reducers, plugins: [eventrouter({{ writeKey, host, retry }})] }})
    const {{ group, alias, consent, flush }} = analytics.plugins.eventrouter
"""


def test_every_field_of_every_call_arrives(source: Source, now: datetime) -> None:
    user, group = f"{source.name}-user", f"{source.name}-group"
    script = f"""
        const user = "{user}"
        consent({{ marketing: true, chat: false }})
        analytics.page({{ name: "Start", category: "Docs", url: "https://shop.example/" }}, {{ userId: user }})
        analytics.identify(user, {{ email: "ä@example.com", age: 30, address: {{ city: "Köln" }} }})
        const properties = {{ exact: 2 ** 53 - 1, tiny: 5e-324, items: [{{ sku: "ß" }}], text: "世界 😀", none: null }}
        const own = {{ timestamp: "2026-03-29T01:30:00.123Z", integrations: {{ All: false }}, anonymousId: "a-1",
            context: {{ ip: "203.0.113.7" }} }}
        analytics.track("Order Completed", properties, own)
        group("{group}", {{ plan: "pro" }})
        alias(user + "-new")
        console.log(await flush(), VERSION)
    """
    flushed, version = node(START + script, source.key, source.system.url).split()
    assert flushed == "true"
    preferences = {"categoryPreferences": {"marketing": True, "chat": False}}
    context = {"library": {"name": "eventrouter.js", "version": version}, "consent": preferences}
    page = {"name": "Start", "category": "Docs", "url": "https://shop.example/"}
    told: list[Event] = [
        {"type": "page", "name": "Start", "category": "Docs", "properties": page},
        {"type": "identify", "traits": {"email": "ä@example.com", "age": 30, "address": {"city": "Köln"}}},
        {
            "type": "track",
            "event": "Order Completed",
            "properties": {
                "exact": 2**53 - 1,
                "tiny": 5e-324,
                "items": [{"sku": "ß"}],
                "text": "世界 😀",
                "none": None,
            },
            "anonymousId": "a-1",
            "integrations": {"All": False},
            "context": {**context, "ip": "203.0.113.7"},
            "timestamp": datetime(2026, 3, 29, 1, 30, 0, 123000, tzinfo=UTC),
        },
        {"type": "group", "groupId": group, "traits": {"plan": "pro"}},
        {"type": "alias", "previousId": user},
    ]
    told = [{"userId": user, "context": context, **event} for event in told]
    told[-1]["userId"] = f"{user}-new"
    source.has(told, since=now)


@pytest.mark.parametrize("fault", [Fault(503), Fault(429, retry_after="1"), Fault(), Fault(after=True)], ids=str)
def test_a_failed_request_is_repeated_and_arrives_once(source: Source, front: Front, fault: Fault) -> None:
    front.faults.append(fault)
    script = """
        analytics.track("Once", {}, { userId: "u" })
        console.log(await flush())
        while (!(await flush())) await new Promise((resolve) => setTimeout(resolve, 20))
    """
    assert node(START + script, source.key, front.url) == "false\n"
    assert [event["event"] for event in source.events(1)] == ["Once"]
    assert front.posts == 2


def test_a_process_that_ends_by_itself_sends_first_what_waits(source: Source) -> None:
    node(START + "analytics.track('Last', {}, { userId: 'u' })", source.key, source.system.url)
    assert [event["event"] for event in source.events(1)] == ["Last"]
