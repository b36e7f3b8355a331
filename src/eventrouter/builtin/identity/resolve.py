"""One batch against the state database: look up, decide, and, only if something is new, write in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from eventrouter.events import Event
from eventrouter.records import Identity, IdentityMerge

from .graph import Batch, Graph, Person, clean
from .store import OUTBOX_LIMIT, Changes, Loaded, Moved, Store, next_seq

IdentityRecord = Identity | IdentityMerge
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(IdentityRecord).decode


class Resolved(NamedTuple):
    """What came of a batch."""

    person_ids: list[str | None]
    """The person of each event; None for an event without an id that counts."""
    records: list[IdentityRecord]
    """What the warehouse is to be told, waiting records of the shard first."""
    last: int
    """When these records are kept, the shard's outbox is settled up to this `seq`."""
    wrote: bool
    """True when the state database was written, and with it the outbox relieved of what was settled before."""


def resolve(store: Store, shard: int, batch: Batch, settled: Mapping[int, int]) -> Resolved:
    """Resolves `batch` and makes its changes durable. `settled` (shard → seq) is what the outbox may forget.

    The decisions are made again on what is read inside of the write transaction, so no tie of another worker is lost,
    and no identifier gets two persons. Raises what `store` raises; then nothing has changed, or all of it.
    """
    keys = list(batch.identifiers)
    after = settled.get(shard, 0)
    loaded = store.load(keys, shard, after)
    graph = Graph(loaded.snapshot)
    person_ids = graph.walk(batch)
    if not graph.changed:
        return _resolved(person_ids, loaded, [], after, wrote=False)
    try:
        last, now = store.begin(keys, shard, after)
        if now.snapshot != loaded.snapshot:
            graph = Graph(now.snapshot)
            person_ids = graph.walk(batch)
        moved = store.apply(_changes(graph, batch))
        records = _records(graph, batch, moved, next_seq(last))
        store.commit(shard, [(record.seq, _encode(record).decode()) for record in records], settled)
    except BaseException:
        store.rollback()
        raise
    return _resolved(person_ids, now, records, after, wrote=True)


def _resolved(
    person_ids: list[str | None], loaded: Loaded, new: list[IdentityRecord], after: int, *, wrote: bool
) -> Resolved:
    records: list[IdentityRecord] = [_decode(record) for _, record in loaded.waiting]
    if (
        len(records) < OUTBOX_LIMIT
    ):  # else there may be more between these and the new ones: those come with a later batch
        records += new
    return Resolved(person_ids, records, records[-1].seq if records else after, wrote)


def _changes(graph: Graph, batch: Batch) -> Changes:
    return Changes(
        persons=[(person.id, person.into.id if person.into else None, _time(event)) for person, event in graph.created],
        identifiers=[
            (key, type_, clean(value), _today(person).id, _today(person).user, _time(event))
            for key, person, event in graph.tied
            for type_, value in (batch.identifiers[key],)
        ],
        users=[(person.user, person.id) for person in graph.joined],
        merges=[(into.id, into.user, gone.id) for gone, into, _ in graph.merged if not gone.fresh],
    )


def _records(graph: Graph, batch: Batch, moved: list[Moved], seq: int) -> list[IdentityRecord]:
    records: list[IdentityRecord] = []
    times: dict[str, str] = {}
    for key, person, event in graph.tied:
        type_, value = batch.identifiers[key]
        records.append(
            Identity(
                type=type_,
                value=clean(value),
                person_id=_today(person).id,
                seq=seq + len(records),
                seen_at=_time(event),
            )
        )
    for gone, into, event in graph.merged:
        times[into.id] = merged_at = _time(event)
        reason = clean(str(event.get("messageId") or ""))
        records.append(
            IdentityMerge(
                person_id=gone.id,
                into_person_id=into.id,
                seq=seq + len(records),
                merged_at=merged_at,
                reason=reason,
            )
        )
    for type_, value, person_id in moved:
        records.append(
            Identity(type=type_, value=value, person_id=person_id, seq=seq + len(records), seen_at=times[person_id])
        )
    return records


def _today(person: Person) -> Person:
    return person.into or person


def _time(event: Event) -> str:
    """When the event was received: the same at every run over it."""
    return str(event.get("receivedAt") or datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"))
