"""What an enrichment plugin builds on: a step that adds to events before they are routed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from .events import Event, StoredEvent
from .options import Options as BaseOptions
from .records import AnyRecord


class Enrichment:
    """The base of every enrichment plugin. One instance serves all shards of one worker process.

    A subclass defines `patch`, or `enrich` when it has to wait for something, or needs to see a batch as a whole.
    """

    name: ClassVar[str]
    """What `enrichments:` in routes.yaml, logs and metrics call it."""
    enabled: ClassVar[bool] = True
    """Whether it runs when routes.yaml says nothing about it."""
    required: ClassVar[bool] = False
    """True: routing waits while it fails. False: a failure is counted and the events go on without it."""

    class Options(BaseOptions):
        """What the enrichment reads from `enrichments:` in routes.yaml; the built-in identity reads `state:`."""

        model_config = ConfigDict(extra="forbid")

    def __init__(self, options: BaseModel) -> None:
        """`options` is a validated instance of `Options`."""
        self.options = options

    async def start(self) -> None:
        """Runs once before the first batch, in the worker's event loop."""

    async def close(self) -> None:
        """Runs once when the worker ends."""

    def patch(self, event: Event) -> Mapping[str, Any] | None:
        """What to change in one event, as a JSON merge patch (RFC 7396), or None; `event` itself must stay as it is.

        In a patch, objects are merged, null removes a key, and all else replaces what was there. It can't change
        which event it is, whose and when: see `PROTECTED`. When it fails, this one event goes on without it.
        It is called for every event, again after a crash, and must come to the same result. Never wait here.
        """
        raise TypeError(f"{type(self).__name__} does not define patch()")

    async def enrich(self, shard: int, events: Sequence[StoredEvent]) -> Sequence[AnyRecord]:
        """Adds to `event` of each of `events` in place and returns records for the warehouse.

        Unless it is `required`, it works on a copy of the events, which is taken over when it succeeds: that costs
        several times what a patch does. When it fails, the whole batch goes on without it.
        May run again for the same events after a crash and must then come to the same result.
        """
        raise TypeError(f"{type(self).__name__} does not define enrich()")

    async def settled(self, shard: int) -> None:
        """The records that the last `enrich` of `shard` returned are kept; they need not be returned again."""


PROTECTED = frozenset({"type", "messageId", "anonymousId", "userId", "person_id", "timestamp", "receivedAt"})
"""The keys of an event that a patch must not have."""


def is_empty(value: Any) -> bool:
    """Whether a client that sent `value` said nothing: null, an empty text, or an object or a list of nothing else.

    Enrichments use it to keep what the client knows better.
    """
    if isinstance(value, dict):
        return all(is_empty(part) for part in value.values())
    if isinstance(value, list):
        return all(is_empty(part) for part in value)
    return value is None or value == ""
