"""Measures the identity enrichment on SQLite: `python tests/benchmarks/bench_identity.py [known persons]`.

Batches of 1,000 events that carry an anonymous id, half of them a user id, too: of known ids only, with 5% new
visitors, and of new ids only. Prints µs per event, median of the batches.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from figures import Figures

from eventrouter.builtin.identity import IdentityEnrichment
from eventrouter.events import StoredEvent

BATCH = 1000


def event(visitor: int, *, user: bool) -> StoredEvent:
    """An event of one visitor, with ids of the usual length."""
    ids = {"anonymousId": f"5f3c1a52-7c1e-4f6a-9a55-{visitor:012d}"}
    if user:
        ids["userId"] = f"user-{visitor:09d}"
    return StoredEvent(
        "bench",
        {"type": "track", "messageId": f"m{visitor}", "receivedAt": "2026-11-24T17:00:00.123Z", **ids},
    )


async def measure(identity: IdentityEnrichment, batches: list[list[StoredEvent]]) -> float:
    """The median µs per event over `batches`."""
    took = []
    for batch in batches:
        begun = time.perf_counter()
        await identity.enrich(0, batch)
        await identity.settled(0)
        took.append((time.perf_counter() - begun) / len(batch) * 1e6)
    return statistics.median(took)


async def main(figures: Figures, known: int) -> None:
    """Fills a state database with `known` visitors and measures."""
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'state.sqlite3'}"
        identity = IdentityEnrichment(IdentityEnrichment.Options(url=url))
        await identity.start()
        filling = [
            [event(visitor, user=visitor % 2 == 0) for visitor in range(start, min(start + BATCH, known))]
            for start in range(0, known, BATCH)
        ]
        figures.note(f"{known:,} known visitors, batches of {BATCH:,}")
        figures.row("identity, new ids only (writes every batch)", await measure(identity, filling), "µs/event")

        def mixed(fresh: float, start: int) -> list[list[StoredEvent]]:
            batches = []
            for _ in range(30):
                visitors = []
                for _ in range(BATCH):
                    if chance.random() < fresh:
                        start += 1
                        visitors.append(start)
                    else:
                        visitors.append(chance.randrange(known))
                batches.append([event(visitor, user=visitor % 2 == 0) for visitor in visitors])
            return batches

        for what, fresh, start in (("5% new visitors (writes every batch)", 0.05, known), ("known ids only", 0.0, 0)):
            figures.row(f"identity, {what}", await measure(identity, mixed(fresh, start)), "µs/event")
        await identity.close()


if __name__ == "__main__":
    with Figures("identity") as figures:
        asyncio.run(main(figures, int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
