"""`analytics` with our plugin, in Node.js, against a whole system."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from arrivals import Event, Source
from front import Fault, Front
from programs import node
from test_node_clients import PROPERTIES, version

START = """
import { Analytics } from "analytics"
import eventrouter, { reducers } from "analytics-plugin-eventrouter"
const [host, writeKey, user, group, visitor] = process.argv.slice(2)
const analytics = Analytics({
    app: "shop", reducers, plugins: [eventrouter({ writeKey, host, retry: { initial: 50, max: 100 } })],
})
const { group: toGroup, alias, consent, flush } = analytics.plugins.eventrouter
"""

CALLS = """
const who = { userId: user, anonymousId: visitor }
consent({ marketing: true, chat: false })
await analytics.identify(user, { email: "ä@example.com", name: "Zoë", age: 30, address: { city: "Köln" } }, who)
analytics.track("Order Completed", {
    total: 12.5, tiny: 5e-324, wide: Number.MAX_VALUE, exact: 2 ** 53 - 1, edge: -(2 ** 53 - 1), large: 1e21,
    paid: true, free: false, nothing: null, absent: undefined, empty: "", notANumber: NaN,
    text: "Grüße, 世界 😀 \\u0001 \\u2028 \\\\ \\" </script> e\\u0301",
    größe: { höhe: 1, tief: { tiefer: ["a", null, { b: [[]] }] } },
    items: [{ sku: "a-1", price: 9.99 }, { sku: "ß" }, 2 ** 53, 0.1],
    at: new Date("2026-02-28T23:59:59.999Z"),
}, {
    ...who, context: { ip: "203.0.113.7", locale: "de-DE" }, timestamp: "2026-03-29T01:30:00.123Z",
    integrations: { All: false, Acme: { a: [1] } },
})
analytics.page({ name: "Home", category: "Docs", url: "https://shop.example/", title: "Über" }, who)
toGroup(group, { plan: "pro", seats: 2 ** 53 - 1 }, who)
alias(user, visitor)
console.log(await flush())
"""


def run(source: Source, script: str, host: str = "", key: str = "") -> list[Any]:
    """Runs `script`; returns what it printed, line by line."""
    names = [f"{source.name}-user", f"{source.name}-group", f"{source.name}-visitor"]
    answer = node(START + script, host or source.system.url, key or source.key, *names)
    return [json.loads(line) for line in answer.splitlines()]


def test_every_field_of_every_call_arrives(source: Source, now: datetime) -> None:
    user, group, visitor = f"{source.name}-user", f"{source.name}-group", f"{source.name}-visitor"
    assert run(source, CALLS) == [True]
    traits = {"email": "ä@example.com", "name": "Zoë", "age": 30, "address": {"city": "Köln"}}
    context = {
        "library": {"name": "eventrouter.js", "version": version("analytics-plugin-eventrouter")},
        "consent": {"categoryPreferences": {"marketing": True, "chat": False}},
    }
    told: list[Event] = [
        {"type": "identify", "traits": traits},
        {
            "type": "track",
            "event": "Order Completed",
            "properties": PROPERTIES,
            "context": {**context, "ip": "203.0.113.7", "locale": "de-DE"},
            "integrations": {"All": False, "Acme": {"a": [1]}},
            "timestamp": datetime(2026, 3, 29, 1, 30, 0, 123000, tzinfo=UTC),
        },
        {"type": "page", "name": "Home", "category": "Docs"},
        {"type": "group", "groupId": group, "traits": {"plan": "pro", "seats": 2**53 - 1}},
        {"type": "alias", "previousId": visitor},
    ]
    told[2]["properties"] = {"name": "Home", "category": "Docs", "url": "https://shop.example/", "title": "Über"}
    for event in told:
        event |= {"userId": user, "anonymousId": visitor, "context": context} | event
    del told[4]["anonymousId"]
    source.has(told, since=now)


@pytest.mark.parametrize(
    "fault", [Fault(503), Fault(404), Fault(429, retry_after="1"), Fault(), Fault(after=True)], ids=str
)
def test_a_failed_request_is_repeated_and_arrives_once(source: Source, front: Front, fault: Fault) -> None:
    front.faults.append(fault)
    duplicates = source.system.count("events_duplicates_total")
    script = """
        analytics.track("Once", {}, { userId: user })
        while (!await flush()) await new Promise((resolve) => setTimeout(resolve, 20))
    """
    run(source, script, front.url)
    assert [event["event"] for event in source.events(1)] == ["Once"]
    assert front.taken == 1 + fault.after
    if fault.after:
        source.system.until_count(duplicates + 1, "events_duplicates_total")
        source.events(1)


def test_a_wrong_key_is_told_and_is_the_end_of_it(source: Source, front: Front) -> None:
    script = """
        const said = []
        console.error = (...parts) => said.push(parts.join(" "))
        analytics.track("Lost", {}, { userId: user })
        await flush()
        await flush()
        console.log(JSON.stringify(said))
    """
    [[said]] = run(source, script, front.url, "wrong")
    assert "HTTP 401" in said
    assert (front.posts, front.taken) == (1, 0)


def test_many_events_arrive_once_each_and_whole(source: Source) -> None:
    script = """
        for (let number = 0; number < 600; number++)
            analytics.track("Many", { number, text: `ü${number}`.repeat(100) }, { userId: `u${number % 7}` })
        console.log(await flush())
    """
    assert run(source, script) == [True]
    found = sorted((event["properties"] for event in source.events(600)), key=lambda one: one["number"])
    assert found == [{"number": number, "text": f"ü{number}" * 100} for number in range(600)]


def test_a_process_that_ends_by_itself_sends_first_what_waits(source: Source) -> None:
    run(source, "analytics.track('Last', {}, { userId: user })")
    assert [event["event"] for event in source.events(1)] == ["Last"]
