"""What tests of deliveries share: a destination whose answers the test decides, and a small stand-in for arq."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from redis.asyncio import Redis

from eventrouter.attempts import Attempts
from eventrouter.calls import Calls
from eventrouter.deliver import DeliveryTurn
from eventrouter.delivery import FORMAT, Delivery, InHand, Tries, encode, in_hand
from eventrouter.destination import Destination, Message, Outcome, RateLimit
from eventrouter.events import lane_key
from eventrouter.health import Health
from eventrouter.lane import Append, Claim, Item, Lane
from eventrouter.lanes import Lanes, Turn
from eventrouter.records import DeadLetter, unpack
from eventrouter.target import Policy, Target
from eventrouter.throttle import Throttle

Answer = Callable[[Sequence[Message]], Mapping[str, Outcome] | None]


class Sink(Destination):
    """Keeps what it gets, and answers as it is told."""

    name = "sink"

    def __init__(self, answer: Answer | None = None, seconds: float = 0.0) -> None:
        super().__init__(self.Options())
        self.answer = answer or (lambda _: None)
        self.seconds = seconds
        """How long a delivery takes."""
        self.batches: list[list[str]] = []
        """The message ids of each attempt."""
        self.messages: list[Message] = []
        self.at_once = 0
        self.most_at_once = 0

    async def deliver(self, messages: Sequence[Message]) -> Mapping[str, Outcome] | None:
        self.batches.append([message.message_id for message in messages])
        self.messages += messages
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await asyncio.sleep(self.seconds)
            return self.answer(messages)
        finally:
            self.at_once -= 1

    @property
    def got(self) -> list[str]:
        """The message ids in the order of their attempts."""
        return [one for batch in self.batches for one in batch]


def delivery(message_id: str, key: str = "", *, age: float = 0.0, payload: Any = None, **fields: Any) -> Delivery:
    """A delivery that was routed `age` seconds ago."""
    values: dict[str, Any] = {
        "v": FORMAT,
        "message_id": message_id,
        "source": "web",
        "type": "track",
        "name": "Order Completed",
        "route": "orders",
        "timestamp": "2026-11-24T17:00:00.000Z",
        "since_ms": int((time.time() - age) * 1000),
        "rules": "abc",
        "replay": False,
        "payload": msgspec.Raw(msgspec.json.encode({"n": message_id} if payload is None else payload)),
        **fields,
    }
    return Delivery(**values)


def item_of(one: Delivery, key: str = "k", item: str = "1-0", tries: bytes = b"") -> Item:
    """A lane's item as a turn reads it."""
    return Item(item, bool(tries), lane_key(key), 1, encode(one), tries)


def hand_of(message_id: str, key: str = "k", **tries: int) -> InHand:
    """A delivery in hand."""
    hand = in_hand(item_of(delivery(message_id), key, f"{int(message_id, 36)}-0"), "crm")
    hand.tries = Tries(**tries)
    return hand


class Post:
    """A lane of one destination, with a stand-in for arq: it serves claims until nothing is left to do."""

    def __init__(self, redis: Redis, sink: Destination, *, shard: int = 0, name: str = "crm", **options: Any) -> None:
        self.redis = redis
        self.lanes = Lanes(redis)
        self.sink = sink
        self.lane = Lane(shard, name)
        self.claims: list[Claim] = []
        self.finished: list[dict[str, Any]] = []
        self.dropped: list[DeadLetter] = []
        self.stopping = asyncio.Event()
        health = {"initial": 0.002, "max_interval": 0.01}
        health |= {name: options.pop(name) for name in list(options) if name in health}
        pinned = bool(options.get("pin"))
        attempts = Attempts(sink, options.pop("timeout", 5.0), pinned=pinned, secrets=options.pop("secrets", ()))
        self.health = Health(self.lanes, name, **health)
        rate: RateLimit | None = options.pop("rate", None)
        calls: int = options.pop("calls", 0)
        self.target = Target(
            name,
            Policy(**{"batch_size": 1, "concurrency": 1, **options}),
            attempts,
            self.health,
            in_hand,
            self.enqueue,
            finished=lambda **told: self.finished.append(told),
            dropped=self.dropped.append,
            throttle=Throttle(self.lanes, name, rate) if rate else None,
            calls=Calls(self.lanes, name, calls) if calls else None,
        )

    async def enqueue(self, claims: Sequence[Claim]) -> None:
        """Keeps the claims of its own lane; nobody serves the warehouse here."""
        self.claims += [claim for claim in claims if claim.lane == self.lane]

    async def put(self, *ids: str | tuple[str, str], **fields: Any) -> None:
        """Appends deliveries: a message id, or (message id, order key)."""
        pairs = [(one, one) if isinstance(one, str) else one for one in ids]
        items = [(lane_key(key), 1, encode(delivery(one, **fields))) for one, key in pairs]
        await self.enqueue(
            await self.lanes.append(self.lane.shard, [Append(self.lane.name, items, f"to:{self.lane.name}")])
        )

    async def begin(self) -> Turn | None:
        """Begins the turn of the next claim; None when that claim is old."""
        claim = self.claims.pop(0)
        return await self.lanes.begin(claim.lane, claim.token)

    async def turn(self) -> Claim | None:
        """One turn of the lane."""
        begun = await self.begin()
        return await DeliveryTurn(begun, self.target, self.stopping).run() if begun else None

    async def run(self, seconds: float = 10.0) -> None:
        """Turn after turn until the lane is empty."""
        while (await self.lanes.look(self.lane.shard, [], [self.lane.name]))[1] != [0]:
            await self.serve(seconds=seconds)

    async def _turn_until(self, until: Callable[[], bool]) -> Claim | None:
        """One turn of the lane, which is stopped once a condition holds."""
        turn = asyncio.create_task(self.turn())
        while not (await asyncio.wait({turn}, timeout=0.02))[0]:
            if until():
                self.stopping.set()
        self.stopping.clear()
        return turn.result()

    async def serve(self, until: Callable[[], bool] | None = None, seconds: float = 5.0) -> None:
        """Turns, with their delays, and the sweep: until a condition holds; without one until a turn ends for good."""
        async with asyncio.timeout(seconds):
            while True:
                while not self.claims:
                    claims, soonest = await self.lanes.sweep(self.lane.shard)
                    await self.enqueue(claims)
                    if not claims:
                        await asyncio.sleep(min(max(soonest, 0.001), 0.05))
                await asyncio.sleep(self.claims[0].delay)
                claim = await (self._turn_until(until) if until else self.turn())
                if claim is not None:
                    self.claims.append(claim)
                if until() if until else claim is None:
                    return

    async def letters(self) -> list[DeadLetter]:
        """The dead letters so far."""
        rows = await self.redis.xrange(Lane(self.lane.shard, "warehouse").key)
        records = [record for _, fields in rows for record in unpack(fields[b"d"])]
        return [record for record in records if isinstance(record, DeadLetter)]


@asynccontextmanager
async def making(redis: Redis) -> AsyncIterator[Callable[..., Post]]:
    """Makes destinations with their lanes, and closes them in the end."""
    made: list[Post] = []

    def one(answer: Answer | None = None, *, seconds: float = 0.0, **options: Any) -> Post:
        made.append(Post(redis, Sink(answer, seconds), **options))
        return made[-1]

    yield one
    for post in made:
        await post.sink.close()
        if post.target.calls is not None:
            await post.target.calls.close()
