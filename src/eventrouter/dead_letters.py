"""Dead letters: finding them in the warehouse, and sending them again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from .delivery import FORMAT, Delivery, encode
from .events import StoredEvent, event_name, lane_key, order_key, shard_of
from .lane import Append, Claim
from .lanes import Lanes
from .records import DeadLetterReplayed, pack
from .server_time import now_ms
from .times import write_time
from .warehouse import Warehouse

WITHHELD = ("consent", "disabled", "integrations")
"""The router's reasons for which an event may not leave at all."""


class Replayed(NamedTuple):
    """What came of a replay."""

    sent: int
    skipped: list[tuple[str, str]]
    """(message_id, why) of each dead letter that was not sent."""


class DeadLetters:
    """Sends dead letters again, behind what waits already; order is not promised for them."""

    def __init__(
        self,
        warehouse: Warehouse,
        lanes: Lanes,
        shards: int,
        route: Callable[..., Any],
        destinations: Mapping[str, Any],
        enqueue: Callable[[Sequence[Claim]], Awaitable[None]],
        rules: str,
    ) -> None:
        """`route` is `Router.route`: events, and the destinations to look at (all by default)."""
        self._warehouse = warehouse
        self._lanes = lanes
        self._shards = shards
        self._route = route
        self._destinations = destinations
        self._enqueue = enqueue
        self._rules = rules

    async def replay(self, letters: Sequence[Mapping[str, Any]], *, as_was: bool = False) -> Replayed:
        """Sends `letters` (rows of `Warehouse.find_dead_letters`) again, by today's rules or with the stored payload.

        Each one that is sent is marked as replayed in the same atomic step. The idempotency keys stay the same. Raises
        `UnavailableError` when Redis has no room, `Retry` when the warehouse is away.
        """
        ids = list({(str(row["source"]), str(row["message_id"])) for row in letters})
        events = {(event.source, event.message_id): event for event in await self._warehouse.find_events(ids)}
        routed = {} if as_was else self._routed(list(events.values()))
        skipped: list[tuple[str, str]] = []
        shards: dict[int, list[tuple[Mapping[str, Any], StoredEvent | None, Any, str]]] = {}
        for row in letters:
            identity = str(row["source"]), str(row["message_id"])
            event = events.get(identity)
            made = self._payload(row, event, routed, as_was=as_was)
            if isinstance(made, str):
                skipped.append((identity[1], made))
                continue
            key = order_key(event.event) if event else identity[1]
            shards.setdefault(shard_of(key, self._shards), []).append((row, event, *made))
        claims: list[Claim] = []
        sent = 0
        try:
            for shard, work in shards.items():
                claims += await self._lanes.append(shard, *self._appends(work))
                sent += len(work)
        finally:
            await self._enqueue(claims)
        return Replayed(sent, skipped)

    def _routed(self, events: Sequence[StoredEvent]) -> dict[tuple[str, str, str], tuple[Any, str] | str]:
        """By source, message id and destination: the payload and the route's name, or why there is none."""
        result = self._route(events)
        made: dict[tuple[str, str, str], tuple[Any, str] | str] = {}
        for one in result.deliveries:
            event = events[one.index]
            made[event.source, event.message_id, one.destination] = one.payload, one.route
        for destination, index, _, reason in result.failed:
            event = events[index]
            made[event.source, event.message_id, destination] = f"the template still fails: {reason}"
        return made

    def _payload(
        self,
        row: Mapping[str, Any],
        event: StoredEvent | None,
        routed: Mapping[tuple[str, str, str], tuple[Any, str] | str],
        *,
        as_was: bool,
    ) -> tuple[Any, str] | str:
        destination = str(row["destination"])
        if destination not in self._destinations:
            return f"there is no destination {destination} in routes.yaml any more"
        if event is None:
            return "its event is not in the warehouse (yet)"
        if as_was:
            if not row.get("payload"):
                return "its payload was not stored; replay it by today's rules"
            if (reason := self._withheld(event, destination)) is not None:
                return f"it may not be sent any more: {reason}"
            return msgspec.json.decode(row["payload"]), str(row.get("route") or "")
        identity = event.source, event.message_id, destination
        return routed.get(identity, "today's rules send it nowhere")

    def _withheld(self, event: StoredEvent, destination: str) -> str | None:
        """Why an event may not leave, whatever its payload: consent may have been withdrawn since. None: it may."""
        filtered = self._route([event], [destination]).filtered
        for name, reason in filtered:
            if name == destination and reason in WITHHELD:
                return str(reason)
        # No route of today tells of the destination's own consent.
        context = event.event.get("context")
        consent = context.get("consent") if isinstance(context, dict) else None
        given = consent.get("categoryPreferences") if isinstance(consent, dict) else None
        wanted = self._destinations[destination].consent
        return None if all(isinstance(given, dict) and given.get(one) is True for one in wanted) else "consent"

    def _appends(
        self, work: Sequence[tuple[Mapping[str, Any], StoredEvent | None, Any, str]]
    ) -> tuple[list[Append], Counter[str]]:
        lanes: dict[str, list[tuple[str, int, bytes]]] = {}
        counts: Counter[str] = Counter()
        marks = []
        now = write_time(datetime.now(UTC).replace(tzinfo=None))
        for row, event, payload, route in work:
            name, message_id, source = str(row["destination"]), str(row["message_id"]), str(row["source"])
            body = event.event if event else {}
            delivery = Delivery(
                FORMAT,
                message_id,
                source,
                str(body.get("type") or row.get("event_type") or ""),
                event_name(body) or row.get("event_name"),
                route,
                str(body.get("timestamp") or now),
                now_ms(),
                self._rules,
                True,
                payload,
            )
            key = lane_key(f"replay:{source}:{message_id}")
            lanes.setdefault(name, []).append((key, 1, encode(delivery)))
            marks.append(DeadLetterReplayed(source=source, message_id=message_id, destination=name, replayed_at=now))
            counts[f"replayed:{name}:{row.get('class') or ''}"] += 1
        appends = [Append(name, items, f"to:{name}") for name, items in lanes.items()]
        appends.append(Append("warehouse", [("", len(marks), pack(marks))], "to:warehouse"))
        return appends, counts
