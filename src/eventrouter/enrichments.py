"""The enrichments of a worker, run one after the other over each batch; one that fails harms no event."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import msgspec
import structlog

from .enrichment import Enrichment
from .errors import Retry
from .events import StoredEvent, order_key
from .records import AnyRecord, pack, unpack

log = structlog.get_logger("eventrouter.enrichments")

PATIENCE_SECONDS = 60.0
"""How long one enrichment may take for a batch."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[StoredEvent])


class Enrichments:
    """`run` is called once for a batch of a shard, `settled` when its events are on their way."""

    def __init__(self, enrichments: Sequence[Enrichment], *, patience: float = PATIENCE_SECONDS) -> None:
        self._all = enrichments
        self._patience = patience

    async def start(self) -> None:
        """Starts each. A required one that can't start is tried all the same, batch by batch; another is left out."""
        started: list[Enrichment] = []
        for enrichment in self._all:
            try:
                async with asyncio.timeout(self._patience):
                    await enrichment.start()
            except Exception as error:
                log.error("an enrichment can't start", enrichment=enrichment.name, error=_told(error))
                if not enrichment.required:
                    continue
            started.append(enrichment)
        self._all = started

    async def close(self) -> None:
        """Closes each."""
        for enrichment in self._all:
            try:
                await enrichment.close()
            except Exception as error:
                log.warning("an enrichment failed to close", enrichment=enrichment.name, error=_told(error))

    async def run(
        self, shard: int, events: list[StoredEvent]
    ) -> tuple[list[StoredEvent], list[AnyRecord], Counter[str]]:
        """The enriched events, records for the warehouse, and counters of what failed.

        Raises `Retry` when a required enrichment fails: routing has to wait. Without another, the events go on as they
        were before it.
        """
        records: list[AnyRecord] = []
        counts: Counter[str] = Counter()
        for enrichment in self._all:
            try:
                async with asyncio.timeout(self._patience):
                    if enrichment.required:
                        records += await enrichment.enrich(shard, events)
                        continue
                    # On a copy, taken over only when it is whole and can be stored.
                    copies = _decoder.decode(_encoder.encode(events))
                    found = unpack(pack(list(await enrichment.enrich(shard, copies))))
                    copies = _decoder.decode(_encoder.encode(copies))
                    _check_same(events, copies)
                    events = copies
                    records += found
            except Exception as error:
                counts[f"enrichment_failed:{enrichment.name}"] += 1
                if enrichment.required:
                    if isinstance(error, Retry):
                        raise
                    log.exception("an enrichment failed; routing waits", enrichment=enrichment.name)
                    raise Retry(f"{enrichment.name}: {_told(error)}", after=5.0) from error
                log.warning("events go on without an enrichment", enrichment=enrichment.name, error=_told(error))
        return events, records, counts

    async def settled(self, shard: int) -> None:
        """The events of the last `run` of this shard are on their way, and the records are kept."""
        for enrichment in self._all:
            try:
                await enrichment.settled(shard)
            except Exception as error:
                log.warning("an enrichment failed to settle", enrichment=enrichment.name, error=_told(error))


def _check_same(before: Sequence[StoredEvent], after: Sequence[StoredEvent]) -> None:
    """Raises `ValueError` when `after` aren't the same events any more, or can't be routed."""
    for one, other in zip(before, after, strict=True):
        old, new = one.event, other.event
        if one.source != other.source or any(old[name] != new.get(name) for name in ("messageId", "type")):
            raise ValueError(f"it changed which event {old['messageId']} is")
        if not all(isinstance(new.get(name), str) for name in ("timestamp", "receivedAt")) or not order_key(new):
            raise ValueError(f"it took what every event has from event {old['messageId']}")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
