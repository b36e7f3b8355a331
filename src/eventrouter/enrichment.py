"""What an enrichment plugin builds on: a step that adds to events before they are routed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from .events import StoredEvent
from .records import AnyRecord


class Enrichment:
    """The base of every enrichment plugin. One instance serves all shards of one worker process."""

    name: ClassVar[str]
    """How logs and metrics call it."""
    required: ClassVar[bool] = False
    """True: routing waits while it fails. False: a failure is counted and the events go on without it."""

    class Options(BaseModel):
        """What the enrichment reads from routes.yaml; the built-in identity reads `state:`."""

        model_config = ConfigDict(extra="forbid")

    def __init__(self, options: BaseModel) -> None:
        """`options` is a validated instance of `Options`."""
        self.options = options

    async def start(self) -> None:
        """Runs once before the first batch, in the worker's event loop."""

    async def close(self) -> None:
        """Runs once when the worker ends."""

    async def enrich(self, shard: int, events: Sequence[StoredEvent]) -> Sequence[AnyRecord]:
        """Adds to `event` of each of `events` in place and returns records for the warehouse.

        May run again for the same events after a crash and must then come to the same result.
        """
        raise TypeError(f"{type(self).__name__} does not define enrich()")

    async def settled(self, shard: int) -> None:
        """The records that the last `enrich` of `shard` returned are kept; they need not be returned again."""
