"""Seconds of `eventrouter preview`: `python tests/benchmarks/bench_preview.py [EVENTS]`.

Two sets of rules are applied to track events of about 1 KB, as the command reads them, page by page: with few and with
many destinations, each with a route of its own; no route of them differs, one, or each.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import msgspec
from bench_warehouse import make_messages
from figures import Figures

from eventrouter.config import Config, loads
from eventrouter.events import StoredEvent
from eventrouter.plugins import Plugins
from eventrouter.preview import Preview
from eventrouter.route import Router

PAGE = 1000


def rules(destinations: int, differing: int) -> Config:
    """A third of the routes makes small payloads, the others send the event with a change; `differing` are changed."""
    lines = ["version: 1", "sources: { website: { write_key: dev } }", "destinations:"]
    lines += [f"  to{number}: {{ plugin: webhook, options: {{ url: 'https://d{number}.example.com' }} }}"
              for number in range(destinations)]  # fmt: skip
    lines.append("routes:")
    for number in range(destinations):
        factor = 100 if number >= differing else 1000
        cents = f'"{{{{ (properties.total * {factor}) | round | int }}}}"'
        change = (
            f'map: {{ id: "{{{{ messageId }}}}", page: "{{{{ context.page.url }}}}", cents: {cents} }}'
            if number % 3 == 0
            else f"set: {{ properties.cents: {cents} }}, drop: [context.ip]"
        )
        lines.append(f"  - {{ name: r{number}, to: to{number}, when: properties.total > 10, {change} }}")
    return loads("\n".join(lines), Plugins.load(), {})


def measure(pages: Sequence[bytes], now: Config, then: Config) -> float:
    """Seconds of CPU."""
    decode = msgspec.json.Decoder(list[StoredEvent]).decode
    began = time.process_time()
    found = Preview(Router(now), Router(then))
    for page in pages:
        found.add(decode(page))
    return time.process_time() - began


def main() -> None:
    """Prints a table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    messages = make_messages(count, 1)
    events = [StoredEvent("website", {**one.payload.event, "person_id": one.payload.person_id}) for one in messages]
    pages = [msgspec.json.encode(events[begin : begin + PAGE]) for begin in range(0, count, PAGE)]
    with Figures("preview") as figures:
        figures.note(f"{count:,} events; seconds of CPU")
        for destinations in (3, 50):
            for differing in (0, 1, destinations):
                seconds = measure(pages, rules(destinations, 0), rules(destinations, differing))
                what = f"{destinations} destinations, {differing} with other rules"
                figures.row(what, seconds, "s", "< 5 s")


if __name__ == "__main__":
    main()
