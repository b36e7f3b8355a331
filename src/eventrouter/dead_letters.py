"""Dead letters: found in the warehouse, sent again or discarded, each of them once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from .events import StoredEvent, order_key, shard_of
from .feed import Feed, Work
from .once import Item, Piece, digest_of
from .records import DISCARDED, SENT, DeadLetterReplayed, pack
from .redelivery import redelivery
from .server_time import now_ms
from .times import EPOCH, read_time, utc, write_time
from .warehouse import Warehouse

PAGE = 500
"""Dead letters that are read and dealt with at once."""
WITHHELD = ("consent", "integrations")
"""The router's reasons for which an event may not leave, whatever its payload."""
DONE = "it was sent again or discarded a moment ago"

Letter = Mapping[str, Any]
"""A row of `Warehouse.find_dead_letters`."""


class Replayed(NamedTuple):
    """What came of a replay: (message id, why) of each dead letter that was not sent."""

    sent: int
    filtered: list[tuple[str, str]]
    """Today's rules send these nowhere: they are dead letters no more."""
    skipped: list[tuple[str, str]]
    """These stay."""


class _Filtered(NamedTuple):
    reason: str


class DeadLetters:
    """Finds dead letters, and does what operators want done with them: each thing in one step with its counter."""

    def __init__(
        self,
        warehouse: Warehouse,
        feed: Feed,
        shards: int,
        route: Callable[..., Any],
        destinations: Mapping[str, Any],
        rules: str,
    ) -> None:
        """`route` is `Router.route`: events, and the destinations to look at; `rules` the version of the rules."""
        self._warehouse = warehouse
        self._feed = feed
        self._shards = shards
        self._route = route
        self._destinations = destinations
        self._rules = rules

    async def pages(self, limit: int | None = None, **filters: Any) -> AsyncIterator[list[dict[str, Any]]]:
        """Dead letters, oldest first, page by page; at most `limit`. Raises `Retry` when the warehouse is away.

        The filters are those of `Warehouse.find_dead_letters`. Whoever sends them again sets `until`, here and for
        `replay`, for some of them may die again and would be met once more.
        """
        after = None
        while limit is None or limit > 0:
            size = PAGE if limit is None else min(PAGE, limit)
            page = await self._warehouse.find_dead_letters(**filters, limit=size, after=after)
            if page:
                yield page
            if len(page) < size:
                return
            limit = limit and limit - len(page)
            last = page[-1]
            after = (last["last_at"], last["source"], last["message_id"], last["destination"])

    async def replay(
        self, letters: Sequence[Letter], *, as_was: bool = False, until: datetime | None = None
    ) -> Replayed:
        """Sends `letters` again behind what waits, by today's rules or with the stored payload.

        Returns when all of them lie in their lanes. Those that die again count as last tried at `until` or later.

        Each that is sent is marked in the same atomic step; whoever sends the same ones again, at once or after a
        crash, sends none twice. Those that were dealt with before are sent once more. The idempotency keys stay the
        same. Raises `UnavailableError` when Redis has no room, `Retry` when the warehouse is away.
        """
        events = await self._events(letters)
        result = Replayed(0, [], [])
        work: list[Work] = []
        ids: list[tuple[str, str]] = []
        for row in letters:
            event = events.get((row["source"], row["message_id"]))
            made = self._made(row, event, as_was=as_was)
            if isinstance(made, str):
                result.skipped.append((row["message_id"], made))
            elif isinstance(made, _Filtered) and row["replayed_at"]:
                result.filtered.append((row["message_id"], made.reason))
            else:
                work.append(self._work(row, event, made, until))
                ids.append((row["message_id"], made.reason if isinstance(made, _Filtered) else ""))
        sent = 0
        for (message_id, reason), done in zip(ids, await self._feed(work), strict=True):
            if not done:
                result.skipped.append((message_id, DONE))
            elif reason:
                result.filtered.append((message_id, reason))
            else:
                sent += 1
        return result._replace(sent=sent)

    async def discard(self, letters: Sequence[Letter]) -> int:
        """Gives `letters` up for good, as counted and kept as what they were; returns how many. Raises as `replay`."""
        events = await self._events(letters)
        work = []
        for row in letters:
            counts = {f"discarded:{row['destination']}:{row['class']}": 1}
            piece = Piece(digest_of_letter(row), [mark(row, DISCARDED)], counts)
            work.append(Work(self._shard(row, events.get((row["source"], row["message_id"]))), "", piece))
        return sum(await self._feed(work))

    async def _events(self, letters: Sequence[Letter]) -> dict[tuple[str, str], StoredEvent]:
        ids = list(dict.fromkeys((row["source"], row["message_id"]) for row in letters))
        return {(event.source, event.message_id): event for event in await self._warehouse.find_events(ids)}

    def _shard(self, row: Letter, event: StoredEvent | None) -> int:
        return shard_of(order_key(event.event) if event else row["message_id"], self._shards)

    def _made(self, row: Letter, event: StoredEvent | None, *, as_was: bool) -> tuple[Any, str] | _Filtered | str:
        """The payload and the route's name, or why there is none."""
        name = row["destination"]
        if name not in self._destinations:
            return f"there is no destination {name} in routes.yaml any more"
        if not self._destinations[name].enabled:
            return f"the destination {name} is switched off"
        if event is None:
            return "its event is not in the warehouse (yet)"
        if as_was and not row["payload"]:
            return "its payload was not stored; replay it by today's rules"
        routed = self._route([event], [name])
        if as_was:
            if (reason := self._withheld(routed, event, name)) is not None:
                return _Filtered(reason)
            return msgspec.Raw(row["payload"].encode()), row["route"]
        for one in routed.deliveries:
            return one.data, one.route
        for _, _, _, reason in routed.failed:
            return f"the template still fails: {reason}"
        return _Filtered(next(reason for (_, reason), number in routed.filtered.items() if number))

    def _withheld(self, routed: Any, event: StoredEvent, name: str) -> str | None:
        """Why an event may not leave, whatever its payload: consent may have been withdrawn since. None: it may."""
        for _, reason in routed.filtered:
            if reason in WITHHELD:
                return str(reason)
        # No route of today tells of the destination's own consent.
        context = event.event.get("context")
        consent = context.get("consent") if isinstance(context, dict) else None
        given = consent.get("categoryPreferences") if isinstance(consent, dict) else None
        wanted = self._destinations[name].consent
        return None if all(isinstance(given, dict) and given.get(one) is True for one in wanted) else "consent"

    def _work(
        self, row: Letter, event: StoredEvent | None, made: tuple[Any, str] | _Filtered, until: datetime | None
    ) -> Work:
        name, shard = row["destination"], self._shard(row, event)
        counts = {f"replayed:{name}:{'again' if row['replayed_at'] else row['class']}": 1}
        if isinstance(made, _Filtered):
            counts[f"filtered:{name}:{made.reason}"] = 1
            return Work(shard, "", Piece(digest_of_letter(row), [mark(row, f"filtered: {made.reason}")], counts))
        assert event is not None
        key = f"{event.source}:{event.message_id}"
        floor_ms = max(after_ms(row["last_at"]), _ms(until) if until else 0)
        again = row.get("again") or ""
        item = redelivery(event, name, *made, self._rules, key=key, again=again, floor_ms=floor_ms)
        return Work(shard, name, Piece(digest_of_letter(row), [item, mark(row, SENT)], counts))


def digest_of_letter(row: Letter) -> bytes:
    """The same until it dies again; of one that was dealt with before, always another."""
    again = uuid4().hex if row["replayed_at"] else row["last_at"]
    return digest_of("dead letter", row["source"], row["message_id"], row["destination"], again)


def after_ms(time: str | None) -> int:
    """The next millisecond after a time of a dead letter, since the epoch; 0 when there is none that can be read.

    What follows from a dead letter is not earlier, even where it follows on a machine whose clock is behind.
    """
    moment = read_time(time)
    return 0 if moment is None else _ms(moment) + 1


def _ms(time: datetime) -> int:
    return (utc(time) - EPOCH) // timedelta(milliseconds=1)


def mark(row: Letter, outcome: str) -> Item:
    """What tells the warehouse that a dead letter was dealt with, and which: not one of the same delivery since."""
    at_ms = max(now_ms(), after_ms(row["last_at"]), after_ms(row["replayed_at"]))
    record = DeadLetterReplayed(
        source=row["source"],
        message_id=row["message_id"],
        destination=row["destination"],
        replayed_at=write_time(EPOCH + timedelta(milliseconds=at_ms)),
        outcome=outcome,
        last_at=row["last_at"],
    )
    return Item("warehouse", "", 1, pack([record]), "to:warehouse")
