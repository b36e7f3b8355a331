"""Microseconds per event of the router, with 10 and with 1,000 routes. Run it as a script."""

from __future__ import annotations

import time

from figures import Figures

from eventrouter.config import loads
from eventrouter.destination import Destination
from eventrouter.events import StoredEvent
from eventrouter.hookspecs import hookimpl
from eventrouter.plugins import Plugins
from eventrouter.route import Router


class Sink(Destination):
    """Takes everything."""

    name = "sink"
    batch_size = 100

    async def deliver(self, messages):
        return None


class SinkPlugin:
    """Registers the sink."""

    @hookimpl
    def register_destinations(self):
        return [Sink]


HEAD = """
version: 1
sources: { website: { write_key: dev } }
destinations:
  crm: { plugin: sink }
  alerts: { plugin: sink }
routes:
"""
MAP = """
    map:
      id: "{{ messageId }}"
      user: "{{ userId }}"
      person: "{{ person_id }}"
      total_cents: "{{ (properties.total * 100) | round | int }}"
      currency: "{{ properties.currency | default('EUR') }}"
      text: "Order {{ properties.order_id }}: {{ properties.total }}"
      url: "{{ context.page.url }}"
      first: "{{ properties.products[0].name }}"
"""


def routes(count: int, kind: str) -> str:
    """`count` routes: half of them to each of two destinations, the last of which matches the event."""
    lines = [HEAD]
    for number in range(count):
        to = "crm" if number % 2 else "alerts"
        name = "Order Completed" if number >= count - 2 else f"Event {number}"
        when = {
            "event": f'event == "{name}" and properties.total >= 10',
            "property": f'properties.store == "{name}" and type == "track"',
        }[kind]
        lines.append(f"  - name: route {number}\n    to: {to}\n    when: {when}{MAP}")
    return "".join(lines)


EVENT = {
    "type": "track",
    "event": "Order Completed",
    "messageId": "m-1",
    "anonymousId": "a-1",
    "userId": "u-1",
    "person_id": "p-1",
    "timestamp": "2026-11-24T17:00:00.123Z",
    "receivedAt": "2026-11-24T17:00:00.123Z",
    "properties": {
        "order_id": "o-1",
        "store": "Order Completed",
        "total": 99.5,
        "products": [{"name": "Shoe", "price": 50, "sku": f"s{i}"} for i in range(5)],
    },
    "context": {"page": {"url": "https://example.com/a", "title": "A page"}, "userAgent": "Mozilla/5.0 (X11)"},
}


def measure(router: Router, event: dict, batches: int = 100) -> float:
    """The best of five runs, in microseconds per event, in batches of 100."""
    batch = [StoredEvent("website", event) for _ in range(100)]
    router.route(batch)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(batches):
            router.route(batch)
        best = min(best, (time.perf_counter() - began) / (batches * 100))
    return best * 1e6


def main() -> None:
    """Prints the figures."""
    plugins = Plugins(SinkPlugin())
    miss = {**EVENT, "event": "Something else", "properties": {**EVENT["properties"], "store": "x"}}
    with Figures("route") as figures:
        for kind in ("event", "property"):
            for count, target in ((10, "<= 25"), (1000, "<= 1.5 x that of 10")):
                router = Router(loads(routes(count, kind), plugins, {}))
                what = f"routing, {count:,} routes, conditions on {kind}"
                figures.row(f"{what}, 2 matches", measure(router, EVENT), "µs/event", target)
                figures.row(f"{what}, no match", measure(router, miss), "µs/event", target)


if __name__ == "__main__":
    main()
