"""What the rest of eventrouter asks of the warehouse."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from eventrouter.events import StoredEvent
from eventrouter.warehouse import EventId

from . import schema
from .store import Store, chunks

_letters = schema.dead_letters.c
_decode = msgspec.json.Decoder().decode


def _run(store: Store, statement: sa.Select[Any]) -> list[tuple[Any, ...]]:
    # The driver runs it: times stay ISO text on both sides, which SQLAlchemy's types would turn into datetimes.
    compiled = statement.compile(dialect=store.dialect, compile_kwargs={"render_postcompile": True})
    return store.query(str(compiled), compiled.params)


def find_events(store: Store, ids: Sequence[tuple[str, str]]) -> list[StoredEvent]:
    """The stored events with these (source, messageId), in the order of `ids`; those not there are left out."""
    by_source: dict[str, list[str]] = {}
    for source, id_ in ids:
        by_source.setdefault(source, []).append(id_)
    found: dict[tuple[str, str], StoredEvent] = {}
    events = schema.events.c
    for source, wanted in by_source.items():
        for some in chunks(dict.fromkeys(wanted), 500):
            statement = sa.select(events.id, sa.cast(events.payload, sa.Text)).where(
                events.id.in_(some), events.source == source
            )
            for id_, payload in _run(store, statement):
                found[source, id_] = StoredEvent(source, _decode(payload))
    return [found[key] for key in dict.fromkeys(map(tuple, ids)) if key in found]


def scan_events(
    store: Store,
    *,
    since: datetime | None,
    until: datetime | None,
    newest_first: bool,
    limit: int,
    after: StoredEvent | None,
    person: str | None = None,
) -> list[StoredEvent]:
    """Stored events by (received_at, source, id), at or after `since`, before `until`, behind `after`."""
    events = schema.events.c
    order = (events.received_at, events.source, events.id)
    conditions = _received(since, until) + _of_person(person)
    if after is not None:
        place = sa.tuple_(
            sa.literal(after.event["receivedAt"], events.received_at.type),
            sa.literal(after.source),
            sa.literal(after.message_id),
        )
        conditions.append(sa.tuple_(*order) < place if newest_first else sa.tuple_(*order) > place)
    statement = (
        sa.select(events.source, sa.cast(events.payload, sa.Text))
        .where(*conditions)
        .order_by(*([column.desc() for column in order] if newest_first else order))
        .limit(limit)
    )
    return [StoredEvent(source, _decode(payload)) for source, payload in _run(store, statement)]


def count_events(
    store: Store, *, since: datetime | None = None, until: datetime | None = None, person: str | None = None
) -> int:
    """The number of stored events, at or after `since`, before `until`."""
    conditions = _received(since, until) + _of_person(person)
    [(number,)] = _run(store, sa.select(sa.func.count()).select_from(schema.events).where(*conditions))
    return int(number)


def _of_person(person: str | None) -> list[sa.ColumnElement[bool]]:
    """Of today's person: the id itself may have been merged into another since."""
    if person is None:
        return []
    merges = schema.identity_merges.c
    root = sa.select(merges.root_person_id).where(merges.person_id == person).scalar_subquery()
    today = sa.func.coalesce(root, person)
    merged = sa.select(merges.person_id).where(merges.root_person_id == today)
    return [sa.or_(schema.events.c.person_id == today, schema.events.c.person_id.in_(merged))]


def scan_ids(
    store: Store, *, since: datetime | None, until: datetime | None, limit: int, after: EventId | None
) -> list[EventId]:
    """The identities of stored events by (received_at, source, id), the newest first."""
    events = schema.events.c
    order = (events.received_at, events.source, events.id)
    conditions = _received(since, until)
    if after is not None:
        place = sa.tuple_(*map(sa.literal, after, [column.type for column in order]))
        conditions.append(sa.tuple_(*order) < place)
    statement = sa.select(*order).where(*conditions).order_by(*(column.desc() for column in order)).limit(limit)
    return [EventId(*row) for row in _run(store, statement)]


def find_stored(store: Store, message_id: str) -> list[dict[str, Any]]:
    """The rows of `events` with this id, with the person of today."""
    events, merges = schema.events, schema.identity_merges
    statement = (
        sa.select(
            *(column for column in events.columns if column.name != "payload"),
            sa.cast(events.c.payload, sa.Text),
            sa.func.coalesce(merges.c.root_person_id, events.c.person_id),
        )
        .select_from(events.outerjoin(merges, merges.c.person_id == events.c.person_id))
        .where(events.c.id == message_id)
        .order_by(events.c.source)
    )
    names = [*(column.name for column in events.columns if column.name != "payload"), "payload", "person_today"]
    return [dict(zip(names, row, strict=True)) for row in _run(store, statement)]


def find_rejected(
    store: Store, *, message_id: str | None, code: str | None, limit: int, after: str
) -> list[dict[str, Any]]:
    """Rows of `rejected_events` by id, without their payloads."""
    columns = [column for column in schema.rejected_events.columns if column.name != "payload"]
    table = schema.rejected_events.c
    wanted = ((table.message_id, message_id), (table.code, code))
    conditions = [table.id > after, *(column == value for column, value in wanted if value is not None)]
    statement = sa.select(*columns).where(*conditions).order_by(table.id).limit(limit)
    return [{column.name: cell for column, cell in zip(columns, row, strict=True)} for row in _run(store, statement)]


def count_dead_letters(store: Store, **filters: Any) -> dict[tuple[str, str], int]:
    """The number of dead letters by destination and class; the filters are those of `find_dead_letters`."""
    group = (_letters.destination, _letters["class"])
    statement = sa.select(*group, sa.func.count()).where(*_of_letters(**filters)).group_by(*group)
    return {(name, class_): number for name, class_, number in _run(store, statement)}


def _received(since: datetime | None, until: datetime | None) -> list[sa.ColumnElement[bool]]:
    """Received at or after `since`, before `until`."""
    received_at = schema.events.c.received_at
    conditions = []
    if since is not None:
        conditions.append(received_at >= sa.literal(_iso(since), received_at.type))
    if until is not None:
        conditions.append(received_at < sa.literal(_iso(until), received_at.type))
    return conditions


def _iso(moment: datetime) -> str:
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat("T", "milliseconds") + "Z"


_EXACT = {"destination": "destination", "class_": "class", "event": "event_name", "message_id": "message_id"}


def _of_letters(
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    reason: str | None = None,
    replayed: bool = False,
    **exact: str | Sequence[str] | None,
) -> list[sa.ColumnElement[bool]]:
    # A row without a class is a replay that waits for its dead letter.
    conditions = [_letters["class"] != ""]
    for name, value in exact.items():
        if value is not None:
            conditions.append(_letters[_EXACT[name]].in_([value] if isinstance(value, str) else value))
    if not replayed:
        conditions.append(_letters.replayed_at.is_(None))
    if reason is not None:
        conditions.append(sa.func.lower(_letters.reason).contains(reason.lower(), autoescape=True))
    if since is not None:
        conditions.append(_letters.last_at >= sa.literal(_iso(since), _letters.last_at.type))
    if until is not None:
        conditions.append(_letters.last_at < sa.literal(_iso(until), _letters.last_at.type))
    return conditions


def find_dead_letters(
    store: Store, *, limit: int = 1000, after: tuple[str, str, str, str] | None = None, **filters: Any
) -> list[dict[str, Any]]:
    """Dead letters as dicts of the table's columns, oldest first by `last_at` (at or after `since`, before `until`).

    Times are ISO 8601 text. Filters are those of `Warehouse.find_dead_letters`.
    """
    order = (_letters.last_at, _letters.source, _letters.message_id, _letters.destination)
    conditions = _of_letters(**filters)
    if after is not None:
        conditions.append(sa.tuple_(*order) > sa.tuple_(*map(sa.literal, after, [column.type for column in order])))
    statement = sa.select(schema.dead_letters).where(*conditions).order_by(*order).limit(limit)
    names = [column.name for column in schema.dead_letters.columns]
    return [dict(zip(names, row, strict=True)) for row in _run(store, statement)]
