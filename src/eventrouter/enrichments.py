"""The enrichments of a worker, run one after the other over each batch; one that fails harms no event."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import structlog

from .config_model import EnrichmentConfig
from .enrichment import PROTECTED, Enrichment
from .errors import Retry, is_cancellation
from .events import StoredEvent, order_key
from .merge_patch import merged
from .records import AnyRecord, pack, unpack

log = structlog.get_logger("eventrouter.enrichments")

PATIENCE_SECONDS = 60.0
"""How long one enrichment may take for a batch."""
SLICE = 50
"""After so many patches others get a turn, when `SLICE_SECONDS` have passed."""
SLICE_SECONDS = 0.02

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[StoredEvent])


Made = dict[str, tuple[EnrichmentConfig, Enrichment]]
"""Enrichments by name, with what they were made of."""


def made_of(configs: Mapping[str, EnrichmentConfig], before: Made) -> Made:
    """The enrichments that are configured; one whose configuration is the same as `before` stays."""
    return {
        name: before[name] if name in before and before[name][0] == one else (one, one.cls(one.options))
        for name, one in configs.items()
    }


class Enrichments:
    """`run` is called once for a batch of a shard, `settled` when its events are on their way."""

    def __init__(self, enrichments: Sequence[Enrichment], *, patience: float = PATIENCE_SECONDS) -> None:
        self._all = enrichments
        self._left_out: list[Enrichment] = []
        self._patience = patience
        self._runs: set[asyncio.Future[None]] = set()
        """Batches under way."""
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Starts each. A required one that can't start is tried all the same, batch by batch; another is left out.

        What is left out counts as failed, event by event.
        """
        self._all, self._left_out = await self._started(self._all)

    async def use(self, enrichments: Sequence[Enrichment]) -> None:
        """From the next batch on these are run, in this order; those that were not there before are started.

        What is no more is closed once the batches under way are done.
        """
        before = [*self._all, *self._left_out]
        fresh, left_out = await self._started([one for one in enrichments if one not in before])
        known = [*fresh, *self._all]
        self._left_out = [one for one in enrichments if one in left_out or one in self._left_out]
        self._all = [one for one in enrichments if one in known]
        if gone := [one for one in before if one not in enrichments]:
            task = asyncio.create_task(self._close_later(gone, set(self._runs)))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close_later(self, enrichments: list[Enrichment], runs: set[asyncio.Future[None]]) -> None:
        """Closes these once the batches that they may be at work on are done."""
        if runs:
            await asyncio.wait(runs)
        await self._close(enrichments)

    async def _started(self, enrichments: Iterable[Enrichment]) -> tuple[list[Enrichment], list[Enrichment]]:
        """Those that were started, and those that are left out."""
        started: list[Enrichment] = []
        left_out: list[Enrichment] = []
        for enrichment in enrichments:
            try:
                async with asyncio.timeout(self._patience):
                    await enrichment.start()
            except BaseException as error:
                if is_cancellation(error):
                    raise
                log.error("an enrichment can't start", enrichment=enrichment.name, error=_told(error))
                if not enrichment.required:
                    left_out.append(enrichment)
                    continue
            started.append(enrichment)
        return started, left_out

    async def close(self) -> None:
        """Closes each."""
        await self._close(self._all)
        await asyncio.gather(*self._closing)

    async def _close(self, enrichments: Iterable[Enrichment]) -> None:
        for enrichment in enrichments:
            try:
                await enrichment.close()
            except BaseException as error:
                if is_cancellation(error):
                    raise
                log.warning("an enrichment failed to close", enrichment=enrichment.name, error=_told(error))

    async def run(
        self, shard: int, events: list[StoredEvent]
    ) -> tuple[list[StoredEvent], list[AnyRecord], Counter[str]]:
        """The enriched events, records for the warehouse, and by enrichment how many events went on without it.

        Raises `Retry` when a required enrichment fails: routing has to wait. Without another, the events go on as they
        were before it. `events` may be changed.
        """
        run: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._runs.add(run)
        try:
            return await self._run(shard, events)
        finally:
            self._runs.discard(run)
            run.set_result(None)

    async def _run(
        self, shard: int, events: list[StoredEvent]
    ) -> tuple[list[StoredEvent], list[AnyRecord], Counter[str]]:
        records: list[AnyRecord] = []
        counts: Counter[str] = Counter({_failed(enrichment): len(events) for enrichment in self._left_out})
        for enrichment in self._all:
            failed = 0
            try:
                if makes_patches(type(enrichment)):
                    failed = await self._patch(enrichment, events)
                elif enrichment.required:
                    async with asyncio.timeout(self._patience):
                        records += await enrichment.enrich(shard, events)
                else:
                    events, found = await self._on_a_copy(enrichment, shard, events)
                    records += found
            except BaseException as error:
                if is_cancellation(error):
                    raise
                if enrichment.required:
                    if isinstance(error, Retry):
                        raise
                    log.exception("an enrichment failed; routing waits", enrichment=enrichment.name)
                    raise Retry(f"{enrichment.name}: {_told(error)}", after=5.0) from error
                failed = len(events)
                _tell(enrichment, failed, error)
            if failed:
                counts[_failed(enrichment)] += failed
        return events, records, counts

    async def _patch(self, enrichment: Enrichment, events: Sequence[StoredEvent]) -> int:
        """Patches each event; how many went on without it. Raises what a required enrichment raises."""
        failed, done = 0, 0
        first: BaseException | None = None
        began = time.monotonic()
        patch = enrichment.patch
        try:
            async with asyncio.timeout(self._patience):
                for done, one in enumerate(events):
                    if done % SLICE == 0 and time.monotonic() - began > SLICE_SECONDS:
                        await asyncio.sleep(0)
                        began = time.monotonic()
                    try:
                        change = patch(one.event)
                        if not change:
                            continue
                        if not PROTECTED.isdisjoint(change):
                            raise ValueError(f"it may not change {', '.join(sorted(PROTECTED & set(change)))}")
                        one.event = merged(one.event, change)
                    except BaseException as error:
                        if enrichment.required or is_cancellation(error):
                            raise
                        failed += 1
                        first = first or error
        except TimeoutError as error:
            if enrichment.required:
                raise
            failed += len(events) - done
            first = first or error
        if first is not None:
            _tell(enrichment, failed, first)
        return failed

    async def _on_a_copy(
        self, enrichment: Enrichment, shard: int, events: list[StoredEvent]
    ) -> tuple[list[StoredEvent], list[AnyRecord]]:
        """The events and records that it made, once they are whole and can be stored."""
        async with asyncio.timeout(self._patience):
            copies = _decoder.decode(_encoder.encode(events))
            found = unpack(pack(list(await enrichment.enrich(shard, copies))))
            copies = _decoder.decode(_encoder.encode(copies))
            _check_same(events, copies)
            return copies, found

    async def settled(self, shard: int) -> None:
        """The events of the last `run` of this shard are on their way, and the records are kept."""
        for enrichment in self._all:
            try:
                await enrichment.settled(shard)
            except BaseException as error:
                if is_cancellation(error):
                    raise
                log.warning("an enrichment failed to settle", enrichment=enrichment.name, error=_told(error))


async def patched(configured: Iterable[EnrichmentConfig], event: StoredEvent) -> StoredEvent:
    """What the enrichments that make patches make of one event, for somebody who wants to see it. It may be changed.

    Others may write somewhere, or ask somebody.
    """
    enrichments = Enrichments([one.cls(one.options) for one in configured if makes_patches(one.cls)])
    await enrichments.start()
    try:
        (found,), _, _ = await enrichments.run(0, [event])
    finally:
        await enrichments.close()
    return found


def makes_patches(cls: type[Enrichment]) -> bool:
    """Whether it is `patch` that an enrichment defines, rather than `enrich`."""
    return cls.patch is not Enrichment.patch


def _check_same(before: Sequence[StoredEvent], after: Sequence[StoredEvent]) -> None:
    """Raises `ValueError` when `after` aren't the same events any more, or can't be routed."""
    for one, other in zip(before, after, strict=True):
        old, new = one.event, other.event
        if one.source != other.source or any(old[name] != new.get(name) for name in ("messageId", "type")):
            raise ValueError(f"it changed which event {old['messageId']} is")
        if not all(isinstance(new.get(name), str) for name in ("timestamp", "receivedAt")) or not order_key(new):
            raise ValueError(f"it took what every event has from event {old['messageId']}")
        if not isinstance(new.get("person_id", ""), str):
            raise ValueError(f"the person_id of event {old['messageId']} is no text")


def _failed(enrichment: Enrichment) -> str:
    return f"enrichment_failed:{enrichment.name}"


def _tell(enrichment: Enrichment, failed: int, error: BaseException) -> None:
    log.warning("events go on without an enrichment", enrichment=enrichment.name, events=failed, error=_told(error))


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
