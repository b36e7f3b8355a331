"""A replay: history from the warehouse to one destination, by today's rules, behind live deliveries, resumable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from .dead_letters import after_ms, digest_of_letter, mark
from .errors import DeliveryError, UnavailableError
from .events import StoredEvent, event_name, order_key, shard_of
from .feed import Feed, Work
from .once import Item, Piece, digest_of
from .records import SENT, DeadLetter, pack
from .redelivery import redelivery
from .server_time import now_ms
from .steps import Call, Steps
from .times import EPOCH, write_time
from .warehouse import Warehouse

PAGE = 200
"""Events that are read and sent at once; so many are routed again after a crash, and none of them sent twice."""
KEPT_SECONDS = 30 * 86_400
"""How long it is known how far a replay came."""
PATIENCE_SECONDS = 120.0
"""How long it waits for Redis or the warehouse that is away."""
NOTE = """#!lua flags=allow-oom
-- Notes how far a replay is, or that it has ended, unless another one has taken its place, or somebody has ended it.
-- KEYS where it is kept. ARGV its run, what to keep ('': it has ended), for how long (s)
local stored = redis.call('GET', KEYS[1])
if not stored or cjson.decode(stored).run ~= ARGV[1] then
  return 0
end
if ARGV[2] == '' then
  return redis.call('DEL', KEYS[1])
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""

T = TypeVar("T")


class Page(NamedTuple):
    """Some events in a row."""

    looked: int
    """How many they are."""
    last: StoredEvent
    events: list[StoredEvent]
    """Those of them that were chosen."""
    routed: Any
    """What today's rules make of these (`Routed`)."""


class Progress(msgspec.Struct):
    """How far a replay is, and what came of it so far; kept in Redis until it has ended."""

    run: str
    """What its deliveries are known by, so that none is sent twice."""
    began_at: str
    since: datetime | None
    until: datetime
    total: int
    """Events of that time (and person)."""
    looked: int = 0
    """Those that were looked at."""
    after: tuple[str, str, str] | None = None
    """(received_at, source, messageId) of the last of them."""
    sent: dict[str, int] = {}
    """Deliveries, by route."""
    filtered: dict[str, int] = {}
    """Events that today's rules don't send, by reason."""
    failed: dict[str, int] = {}
    """Templates that failed, by route and reason; each is a dead letter."""

    def add(self, page: Page) -> None:
        """Counts a page that was dealt with."""
        self.looked += page.looked
        self.after = page.last.event["receivedAt"], page.last.source, page.last.message_id
        for one in page.routed.deliveries:
            self.sent[one.route] = self.sent.get(one.route, 0) + 1
        for (_, reason), number in page.routed.filtered.items():
            self.filtered[reason] = self.filtered.get(reason, 0) + number
        for _, _, route, reason in page.routed.failed:
            why = f"{route}: {reason}"
            self.failed[why] = self.failed.get(why, 0) + 1


class Replay:
    """Replays to one destination; `key` is the same for a command that is given again. Iterate over `run`."""

    def __init__(
        self,
        warehouse: Warehouse,
        redis: Redis,
        feed: Feed,
        shards: int,
        route: Callable[..., Any],
        destination: str,
        rules: str,
        *,
        command: Sequence[str],
        holds: Callable[[StoredEvent], bool] = lambda _: True,
        person: str | None = None,
        new_keys: bool = False,
        patience: float = PATIENCE_SECONDS,
        waiting: Callable[[str], None] = lambda why: None,
    ) -> None:
        """`route` is `Router.route`; `command` are the words by which the same replay is known.

        `holds` chooses events; `waiting` is told what is away, for `patience` seconds at most.
        """
        self._warehouse = warehouse
        self._redis = redis
        self._feed = feed
        self._shards = shards
        self._route = route
        self._name = destination
        self._rules = rules
        self._holds = holds
        self._person = person
        self._new_keys = new_keys
        self._patience = patience
        self._waiting = waiting
        self._steps = Steps(redis, {"note": NOTE})
        self._stored = ""
        """The run that is kept in Redis, or was."""
        self._key = f"er:{{dest:{destination}}}:replay:{digest_of(*command).hex()}"

    async def resume(self) -> Progress | None:
        """How far the same replay came that was broken off; None: there is none."""
        stored = await self._redis.get(self._key)
        if not stored:
            return None
        progress = msgspec.json.decode(stored, type=Progress)
        self._stored = progress.run
        return progress

    async def begin(self, since: datetime | None, until: datetime) -> Progress:
        """A new one, instead of what was there. Raises what the warehouse raises when it is away."""
        total = await self._warehouse.count_events(since=since, until=until, person=self._person)
        began = write_time(EPOCH + timedelta(milliseconds=now_ms()))
        return Progress(uuid4().hex, began, since, until, total)

    async def pages(self, progress: Progress) -> AsyncIterator[Page]:
        """What is left, page by page; nothing is sent, and `progress` is left as it is."""
        after = None
        if progress.after:
            received_at, source, message_id = progress.after
            after = StoredEvent(source, {"receivedAt": received_at, "messageId": message_id})
        bounds: dict[str, Any] = {"since": progress.since, "until": progress.until, "person": self._person}
        while True:
            found = await self._patiently(partial(self._warehouse.scan_events, limit=PAGE, after=after, **bounds))
            if not found:
                return
            after = found[-1]
            chosen = [event for event in found if self._holds(event)]
            yield Page(len(found), after, chosen, self._route(chosen, [self._name]))

    async def run(self, progress: Progress) -> AsyncIterator[int]:
        """Sends what is left; yields the number of events that were dealt with since.

        Several may run the same `progress`: what one has sent the others don't send, and the first that ends ends it.
        After a crash, or when it ends by an error, the same `progress` goes on. Raises what stays away: the warehouse
        (`DeliveryError`, `UnavailableError`), or Redis (`RedisError`, `OSError`).
        """
        await self._save(progress)
        async for page in self.pages(progress):
            await self._patiently(partial(self._send, progress, page))
            progress.add(page)
            await self._patiently(partial(self._save, progress))
            yield page.looked
        await self._patiently(partial(self._note, progress.run, b""))

    async def _save(self, progress: Progress) -> None:
        data = msgspec.json.encode(progress)
        if self._stored == progress.run:
            await self._note(progress.run, data)
        else:  # a new one takes the place of another
            await self._redis.set(self._key, data, ex=KEPT_SECONDS)
            self._stored = progress.run

    async def _note(self, run: str, data: bytes) -> None:
        await self._steps.run("note", Call([self._key], [run, data, KEPT_SECONDS]))

    async def _send(self, progress: Progress, page: Page) -> None:
        run, events, routed = progress.run, page.events, page.routed
        letters = await self._letters(events)
        work = []
        for one in routed.deliveries:
            event = events[one.index]
            letter = letters.get((event.source, event.message_id))
            if letter and letter["outcome"] == SENT and letter["replayed_at"] >= progress.began_at:
                continue  # by this replay, before it was broken off
            again = run if self._new_keys else ""
            key = order_key(event.event)
            floor_ms = after_ms(letter["last_at"]) if letter else 0
            item = redelivery(
                event, self._name, one.data, one.route, self._rules, key=key, again=again, floor_ms=floor_ms
            )
            work.append(Work(self._shard(event), self._name, self._piece(run, event, item, letter)))
        for _, index, route, reason in routed.failed:
            event = events[index]
            letter = letters.get((event.source, event.message_id))
            if letter is None or letter["replayed_at"]:  # else it is a dead letter already
                at_ms = max(now_ms(), after_ms(letter["last_at"]) if letter else 0)
                work.append(Work(self._shard(event), "", self._dead(run, event, route, reason, at_ms)))
        await self._feed(work)

    async def _letters(self, events: Sequence[StoredEvent]) -> dict[tuple[str, str], Mapping[str, Any]]:
        """Those of the events that are dead letters, or were: what is sent of one is the dead letter, sent again."""
        ids = [event.message_id for event in events]
        find = self._warehouse.find_dead_letters
        found = await find(destination=self._name, message_id=ids, replayed=True, limit=100 * PAGE)
        return {(row["source"], row["message_id"]): row for row in found}

    def _shard(self, event: StoredEvent) -> int:
        return shard_of(order_key(event.event), self._shards)

    def _piece(self, run: str, event: StoredEvent, item: Item, row: Mapping[str, Any] | None) -> Piece:
        if row is not None and not row["replayed_at"]:
            counts = {f"replayed:{self._name}:{row['class']}": 1}
            return Piece(digest_of_letter(row), [item, mark(row, SENT)], counts)
        return Piece(self._digest(run, event), [item], {f"replayed:{self._name}:again": 1})

    def _digest(self, run: str, event: StoredEvent) -> bytes:
        return digest_of("replay", run, event.source, event.message_id, self._name)

    def _dead(self, run: str, event: StoredEvent, route: str, reason: str, at_ms: int) -> Piece:
        name, at = self._name, write_time(EPOCH + timedelta(milliseconds=at_ms))
        letter = DeadLetter(
            source=event.source,
            message_id=event.message_id,
            destination=name,
            route=route,
            class_="template",
            reason=reason,
            attempts=0,
            first_at=at,
            last_at=at,
            event_type=event.event["type"],
            event_name=event_name(event.event),
            rules=self._rules,
            again=run if self._new_keys else "",
        )
        item = Item("warehouse", "", 1, pack([letter]), "to:warehouse")
        counts = {f"to:{name}": 1, f"dead:{name}:template": 1, f"replayed:{name}:again": 1}
        return Piece(self._digest(run, event), [item], counts)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Does it, again and again while something is away: nothing is done twice by that."""
        ends = time.monotonic() + self._patience
        while True:
            try:
                return await work()
            except (DeliveryError, UnavailableError, RedisError, OSError, TimeoutError) as error:
                if time.monotonic() >= ends:
                    raise
                self._waiting(str(error) or type(error).__name__)
            await asyncio.sleep(1.0)
