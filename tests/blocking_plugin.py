"""A plugin that blocks the event loop, for tests of the watchdog."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from eventrouter import Destination, Enrichment, hookimpl


class Blocking(Destination):
    """Sleeps as no plugin may."""

    name = "blocking"
    seconds = 60.0

    async def deliver(self, messages: Sequence[Any]) -> None:
        self._ask(len(messages))

    def _ask(self, number: int) -> None:
        time.sleep(self.seconds)  # here it blocks


class BlockingEnrichment(Enrichment):
    """The same for an enrichment."""

    name = "slow-lookup"
    seconds = 60.0

    async def enrich(self, shard: int, events: Sequence[Any]) -> Sequence[Any]:
        time.sleep(self.seconds)  # here the enrichment blocks
        return []


@hookimpl
def register_destinations() -> list[type[Destination]]:
    return [Blocking]
