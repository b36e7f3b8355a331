"""@segment/analytics-node and @rudderstack/rudder-sdk-node against a whole system: one host changed, nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from arrivals import Event, Source
from front import Fault, Front
from programs import PACKAGES, node

HAPPENED = datetime(2026, 3, 29, 1, 30, 0, 123000, tzinfo=UTC)

SEGMENT = """
import { Analytics } from "@segment/analytics-node"
const [host, writeKey, user, group, visitor] = process.argv.slice(2)
const errors = []
const client = new Analytics({ writeKey, host })
client.on("error", (error) => errors.push(error.code))
const end = async () => {
    await client.closeAndFlush()
    console.log(JSON.stringify(errors))
}
"""

RUDDER = """
import Rudder from "@rudderstack/rudder-sdk-node"
const [dataPlaneUrl, key, user, group, visitor] = process.argv.slice(2)
const errors = []
process.on("unhandledRejection", (error) => errors.push(error.message)) // of the flush that the library starts itself
const client = new Rudder(key, { dataPlaneUrl, flushInterval: 50 })
const end = async () => {
    await client.flush().catch((error) => errors.push(error.message))
    console.log(JSON.stringify(errors))
}
"""

CALLS = """
client.identify({
    userId: user, anonymousId: visitor,
    traits: { email: "ä@example.com", name: "Zoë", age: 30, address: { city: "Köln" } },
    context: { locale: "de-DE" },
})
client.track({
    userId: user, anonymousId: visitor, event: "Order Completed",
    properties: {
        total: 12.5, tiny: 5e-324, wide: Number.MAX_VALUE, exact: 2 ** 53 - 1, edge: -(2 ** 53 - 1), large: 1e21,
        paid: true, free: false, nothing: null, absent: undefined, empty: "", notANumber: NaN,
        text: "Grüße, 世界 😀 \\u0001 \\u2028 \\\\ \\" </script> e\\u0301",
        größe: { höhe: 1, tief: { tiefer: ["a", null, { b: [[]] }] } },
        items: [{ sku: "a-1", price: 9.99 }, { sku: "ß" }, 2 ** 53, 0.1],
        at: new Date("2026-02-28T23:59:59.999Z"),
    },
    context: { ip: "203.0.113.7", page: { url: "https://shop.example/?q=ü" } },
    timestamp: new Date("2026-03-29T01:30:00.123Z"),
    integrations: { All: false, Acme: { a: [1] } },
})
client.page({
    userId: user, anonymousId: visitor, category: "Docs", name: "Home",
    properties: { url: "https://shop.example/", title: "Über" },
})
client.screen({ anonymousId: visitor, name: "Main" })
client.group({ userId: user, anonymousId: visitor, groupId: group, traits: { plan: "pro", seats: 2 ** 53 - 1 } })
client.alias({ userId: user, previousId: visitor })
await end()
"""

PROPERTIES = {
    "total": 12.5,
    "tiny": 5e-324,
    "wide": 1.7976931348623157e308,
    "exact": 2**53 - 1,
    "edge": -(2**53 - 1),
    "large": 1e21,
    "paid": True,
    "free": False,
    "nothing": None,
    "empty": "",
    "notANumber": None,
    "text": 'Grüße, 世界 😀 \u0001 \u2028 \\ " </script> e\u0301',
    "größe": {"höhe": 1, "tief": {"tiefer": ["a", None, {"b": [[]]}]}},
    "items": [{"sku": "a-1", "price": 9.99}, {"sku": "ß"}, 2**53, 0.1],
    "at": "2026-02-28T23:59:59.999Z",
}
"""What `CALLS` give, as JSON has it."""


class Kind(NamedTuple):
    """One of the two libraries, and what it adds to events of itself."""

    start: str
    library: dict[str, str]
    is_rudder: bool

    def run(self, source: Source, script: str, host: str = "", key: str = "") -> list[Any]:
        """Runs `script` with a `client` and `end()`; returns the errors that the client told."""
        names = [f"{source.name}-user", f"{source.name}-group", f"{source.name}-visitor"]
        answer = node(self.start + script, host or source.system.url, key or source.key, *names)
        return list(json.loads(answer.splitlines()[-1]))

    def adds(self) -> Event:
        """What is in all its events."""
        release = node("console.log(process.versions.node)").strip()
        common: Event = {"context": {"library": self.library}}
        if self.is_rudder:
            return {**common, "channel": "server", "_metadata": {"nodeVersion": release}}
        return {**common, "integrations": {}, "_metadata": {"nodeVersion": f"v{release}", "jsRuntime": "node"}}


def version(package: str) -> str:
    """The installed version of an npm package."""
    return str(json.loads((PACKAGES / package / "package.json").read_text("utf-8"))["version"])


SEGMENT_LIBRARY = {"name": "@segment/analytics-node", "version": version("@segment/analytics-node")}
RUDDER_LIBRARY = {"name": "analytics-node", "version": version("@rudderstack/rudder-sdk-node")}
KINDS = {
    "segment": Kind(SEGMENT, SEGMENT_LIBRARY, is_rudder=False),
    "rudder": Kind(RUDDER, RUDDER_LIBRARY, is_rudder=True),
}


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    """One of the libraries."""
    return KINDS[request.param]


def test_every_field_of_every_call_arrives(kind: Kind, source: Source, now: datetime) -> None:
    user, group, visitor = f"{source.name}-user", f"{source.name}-group", f"{source.name}-visitor"
    assert kind.run(source, CALLS) == []
    traits = {"email": "ä@example.com", "name": "Zoë", "age": 30, "address": {"city": "Köln"}}
    common = kind.adds()
    context = common["context"]
    told: list[Event] = [
        {"type": "identify", "traits": traits, "context": {**context, "locale": "de-DE"}},
        {
            "type": "track",
            "event": "Order Completed",
            "properties": PROPERTIES,
            "context": {**context, "ip": "203.0.113.7", "page": {"url": "https://shop.example/?q=ü"}},
            "integrations": {"All": False, "Acme": {"a": [1]}},
            "timestamp": HAPPENED,
        },
        {
            "type": "page",
            "name": "Home",
            "category": "Docs",
            "properties": {"url": "https://shop.example/", "title": "Über"},
        },
        {"type": "screen", "name": "Main", "properties": {}},
        {"type": "group", "groupId": group, "traits": {"plan": "pro", "seats": 2**53 - 1}},
        {"type": "alias", "previousId": visitor},
    ]
    if kind.is_rudder:
        told[0]["context"]["traits"] = traits
    else:
        told[2]["properties"]["category"] = "Docs"  # what Segment's library adds to a page's properties by itself
    for event in told:
        who = {} if event["type"] == "screen" else {"userId": user}
        who |= {} if event["type"] == "alias" else {"anonymousId": visitor}
        event |= who | common | event
    source.has(told, since=now)
    people = source.system.sql("SELECT DISTINCT person_id FROM resolved_events WHERE source = ?", source.name)
    assert len(people) == 1


def test_ids_of_any_kind_and_ids_that_are_not_there(kind: Kind, source: Source, now: datetime) -> None:
    script = """
        client.track({ userId: "ключ-😀", anonymousId: undefined, event: "Unicode" })
        client.track({ anonymousId: "visitor", event: "Anonymous" })
        client.track({ userId: "7", event: "Given", messageId: "given-1" })
        await end()
    """
    assert kind.run(source, script) == []
    common = {"type": "track", "properties": {}, **kind.adds()}
    told = [
        {"event": "Unicode", "userId": "ключ-😀", **common},
        {"event": "Anonymous", "anonymousId": "visitor", **common},
        {"event": "Given", "userId": "7", "messageId": "given-1", **common},
    ]
    source.has(told, since=now)


def test_large_batches_arrive_once_each_and_whole(kind: Kind, source: Source) -> None:
    script = """
        for (let number = 0; number < 600; number++)
            client.track({
                userId: `u${number % 7}`, event: "Many", properties: { number, text: `ü${number}`.repeat(100) },
            })
        await end()
    """
    assert kind.run(source, script) == []
    found = sorted((event["properties"] for event in source.events(600)), key=lambda one: one["number"])
    assert found == [{"number": number, "text": f"ü{number}" * 100} for number in range(600)]


@pytest.mark.parametrize("fault", [Fault(503, retry_after="1"), Fault(), Fault(after=True)])
def test_a_failed_request_is_repeated_and_arrives_once(kind: Kind, source: Source, front: Front, fault: Fault) -> None:
    front.faults.append(fault)
    duplicates = source.system.count("events_duplicates_total")
    assert kind.run(source, 'client.track({ userId: "u", event: "Once" })\nawait end()', front.url) == []
    assert [event["event"] for event in source.events(1)] == ["Once"]
    assert (front.posts, front.taken) == (2, 1 + fault.after)
    if fault.after:
        source.system.until_count(duplicates + 1, "events_duplicates_total")
        source.events(1)


def test_an_unknown_key_is_told_and_is_the_end_of_it(kind: Kind, source: Source, front: Front) -> None:
    errors = kind.run(source, 'client.track({ userId: "u", event: "Lost" })\nawait end()', front.url, "wrong")
    assert len(errors) == 1
    assert front.posts == 1
    assert front.taken == 0


def test_a_bad_event_costs_no_neighbour_and_no_repeat(kind: Kind, source: Source, front: Front) -> None:
    script = """
        for (const event of ["Before", " ", "After"]) client.track({ userId: "u", event })
        await end()
    """
    assert kind.run(source, script, front.url) == []
    assert sorted(event["event"] for event in source.events(2)) == ["After", "Before"]
    [refused] = source.system.rows(1, "SELECT code FROM rejected_events WHERE source = ?", source.name)
    assert refused["code"] == "event_not_defined"
    assert front.posts == front.taken
