"""The story of one event, gathered from the warehouse, the lanes and the outcome log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis

from .delivery import InHand, in_hand
from .events import StoredEvent, event_digest, event_name, lane_key, order_key, shard_of
from .fates import Fates, Traced
from .lane import Item, Lane
from .lane_search import LaneSearch
from .log_entry import decode_each
from .outcome_log import find_outcomes
from .records import DeadLetter, EventRecord, RejectedEvent, unpack_each
from .stored import FAULTS
from .times import EPOCH, write_time
from .warehouse import Warehouse

T = TypeVar("T")

STORED, ON_THE_WAY, IN_LOG = "in the warehouse", "on its way to the warehouse", "in the event log"


class Tracer:
    """Traces events. Without `redis` or `warehouse` it tells what the other one knows."""

    def __init__(
        self, fates: Fates, destinations: Sequence[str], shards: int, redis: Redis | None, warehouse: Warehouse | None
    ) -> None:
        """`destinations` are those in whose lanes it is looked."""
        self._fates = fates
        self._names = destinations
        self._shards = shards
        self._redis = redis
        self._warehouse = warehouse

    async def trace(self, message_id: str, sources: Sequence[str]) -> dict[str, Any]:
        """What is known of the events with this messageId, ready for JSON.

        `events` has one for each source that sent one; `rejected` are refusals; `remembered` tells, of an id without an
        event, when it was routed; `not_looked` what was too long to be looked through. Raises `redis.RedisError`, and
        what the warehouse raises when it is away.
        """
        search = LaneSearch(self._redis, message_id) if self._redis is not None else None
        # In the direction in which events go, so that none is missed that moves on meanwhile.
        found = await self._on_the_way(search, message_id) if search else []
        rows = await self._warehouse.find_stored(message_id) if self._warehouse else []
        stories: dict[str, dict[str, Any]] = {}
        traced: dict[str, Traced] = {}
        for stored in (one for one in found if isinstance(one, StoredEvent)):
            stories[stored.source] = self._described(stored, IN_LOG)
        for record in (one for one in found if isinstance(one, EventRecord)):
            stored = StoredEvent(record.source, record.event)
            about = {"person_id": record.person_id, "rules": record.rules}
            stories[record.source] = self._described(stored, ON_THE_WAY) | about
            traced[record.source] = self._traced(stored, record.rules)
        for row in rows:
            stored = StoredEvent(row["source"], msgspec.json.decode(row["payload"]))
            about = {name: row[name] for name in ("person_id", "person_today", "rules")}
            stories[stored.source] = self._described(stored, STORED) | about
            traced[stored.source] = self._traced(stored, row["rules"])
        for one in traced.values():
            if search is None:
                one.unseen.update(self._names)
            else:
                await self._look_for_deliveries(search, one)
        letters, rejected = await self._from_warehouse(message_id)
        letters += [msgspec.to_builtins(one) for one in found if isinstance(one, DeadLetter)]
        rejected += [
            {name: getattr(one, name) for name in ("source", "received_at", "code", "message")}
            for one in found
            if isinstance(one, RejectedEvent)
        ]
        for source, one in traced.items():
            one.letters = {letter["destination"]: letter for letter in letters if letter["source"] == source}
            stories[source]["destinations"] = msgspec.to_builtins(self._fates.of(one))
        return {
            "message_id": message_id,
            "events": list(stories.values()),
            "rejected": rejected,
            "remembered": await self._remembered(message_id, sources),
            "not_looked": [f"lane {lane.name} of shard {lane.shard}" for lane in search.cut] if search else [],
        }

    async def _from_warehouse(self, message_id: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Dead letters, those that were dealt with too, and refusals."""
        if self._warehouse is None:
            return [], []
        letters = await self._warehouse.find_dead_letters(message_id=message_id, replayed=True)
        return letters, await self._warehouse.find_rejected(message_id=message_id)

    def _described(self, stored: StoredEvent, state: str) -> dict[str, Any]:
        event = stored.event
        return {
            "state": state,
            "source": stored.source,
            "type": event.get("type"),
            "name": event_name(event),
            "received_at": event.get("receivedAt"),
            "timestamp": event.get("timestamp"),
            "shard": shard_of(order_key(event), self._shards),
            "person_id": event.get("person_id"),
            "person_today": None,
            "rules": "",
            "destinations": [],
        }

    def _traced(self, stored: StoredEvent, rules: str | None) -> Traced:
        return Traced(stored, shard_of(order_key(stored.event), self._shards), rules or "")

    async def _on_the_way(self, search: LaneSearch, message_id: str) -> list[Any]:
        """What the log and the warehouse's lanes hold about this id: events, dead letters, refusals."""
        found: list[Any] = []
        for shard in range(self._shards):
            for one in await search.find(Lane(shard, "log")):
                found += _readable(decode_each, one.item.data)
            for one in await search.find(Lane(shard, "warehouse")):
                found += _readable(unpack_each, one.item.data)
        return [one for one in found if _id_of(one) == message_id]

    async def _look_for_deliveries(self, search: LaneSearch, traced: Traced) -> None:
        assert self._redis is not None
        whole = traced.whole
        key = order_key(whole.event)
        again = (f"replay:{whole.source}:{whole.message_id}", f"replay:{key}")  # a dead letter, and history
        keys = [lane_key(one) for one in (key, *again)]
        for name in self._names:
            lane = Lane(traced.shard, name)
            for one in await search.find(lane, keys):
                hand = _in_hand(one.item, name)
                if hand and (hand.messages[0].source, hand.messages[0].message_id) == (whole.source, whole.message_id):
                    traced.waiting[name] = hand, _time(one.next_try_ms) if one.next_try_ms else None
            if lane in search.cut:
                traced.unseen.add(name)
        outcomes = await find_outcomes(self._redis, traced.shard, whole.message_id)
        traced.outcomes = [one for one in outcomes if one.source == whole.source]

    async def _remembered(self, message_id: str, sources: Sequence[str]) -> list[dict[str, Any]]:
        """When an id was routed, within some hours, as long as that is remembered."""
        if self._redis is None or not sources:
            return []
        found = []
        digests = [event_digest(source, message_id) for source in sources]
        for shard in range(self._shards):
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.lrange(f"er:{{{shard}}}:seen", 0, -1)
                (starts,) = await pipeline.execute()
                for start in starts:
                    pipeline.smismember(f"er:{{{shard}}}:seen:{start.decode()}", digests)
                flags = await pipeline.execute() if starts else []
            ends = [*(_time(int(start)) for start in starts[1:]), None]
            for start, end, row in zip(starts, ends, flags, strict=False):
                found += [
                    {"source": source, "shard": shard, "since": _time(int(start)), "until": end}
                    for source, flag in zip(sources, row, strict=True)
                    if flag
                ]
        return found


def _id_of(one: Any) -> str | None:
    if isinstance(one, StoredEvent):
        return one.message_id
    if isinstance(one, EventRecord):
        return str(one.event.get("messageId"))
    return one.message_id if isinstance(one, DeadLetter | RejectedEvent) else None


def _readable(read: Callable[[bytes], Sequence[T]], data: bytes) -> Sequence[T]:
    try:
        return read(data)
    except FAULTS:
        return []


def _in_hand(item: Item, name: str) -> InHand | None:
    try:
        return in_hand(item, name)
    except FAULTS:
        return None


def _time(ms: int) -> str:
    return write_time(EPOCH + timedelta(milliseconds=ms))
