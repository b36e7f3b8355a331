"""What tests of the router share: events, rules that send them on, and one shard's log with its router."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import msgspec

from eventrouter.delivery import decode
from eventrouter.enrich import RouterTurn, Rules
from eventrouter.enrichment import Enrichment
from eventrouter.enrichments import Enrichments
from eventrouter.events import StoredEvent
from eventrouter.lane import Append, Claim, Lane
from eventrouter.lanes import Lanes
from eventrouter.log_entry import encode_entry
from eventrouter.onlookers import Onlookers
from eventrouter.records import DeadLetter, EventRecord, unpack

LOG = Lane(0, "log")


def event(number: int, key: str = "anonymous", **fields: Any) -> dict[str, Any]:
    return {
        "type": "track",
        "event": "Order Completed",
        "messageId": f"m{number}",
        "anonymousId": key,
        "timestamp": "2026-11-24T17:00:00.000Z",
        "receivedAt": "2026-11-24T17:00:01.000Z",
        **fields,
    }


def everything_to(*destinations: str):
    """Rules that send every event to each of these."""

    def route(events: Sequence[StoredEvent]) -> Any:
        return SimpleNamespace(
            deliveries=[
                SimpleNamespace(
                    destination=name,
                    index=index,
                    data=msgspec.Raw(msgspec.json.encode({"of": one.message_id})),
                    route="all",
                )
                for index, one in enumerate(events)
                for name in destinations
            ],
            failed=[],
            filtered={},
        )

    return route


class Router:
    """One shard's log with its router."""

    def __init__(self, lanes: Lanes, shard: int = 0, **changes: Any) -> None:
        self.lanes = lanes
        self.shard = shard
        self.claims: list[Claim] = []
        self.ahead: list[Claim] = []
        self.dropped: list[DeadLetter] = []
        self.stopping = asyncio.Event()
        self.enrichments: list[Enrichment] = []
        self.shards = 1
        self.onlookers = Onlookers(lanes.redis)
        self.traced: Any = None
        self.places = asyncio.Semaphore()
        values = {"version": "abc", "route": everything_to("crm"), "backlogs": {"crm": 1000}, "window": 3600.0}
        self.rules = Rules(**{**values, "dedup_bytes": 1_000_000, **changes})

    async def accept(self, *events: dict[str, Any], source: str = "web") -> None:
        data = encode_entry([msgspec.json.encode([source, one]) for one in events])
        self.claims += await self.lanes.append(self.shard, [Append("log", [("", len(events), data)], "accepted")])

    async def run(self) -> Claim | None:
        async def enqueue(claims: Sequence[Claim]) -> None:
            self.ahead += claims

        claim = self.claims.pop(0)
        turn = await self.lanes.begin(claim.lane, claim.token)
        assert turn is not None
        return await RouterTurn(
            turn,
            self.lanes,
            self.shards,
            lambda: self.rules,
            Enrichments(self.enrichments),
            enqueue,
            self.stopping,
            self.dropped.append,
            self.onlookers,
            self.traced,
            self.places,
        ).run()

    async def lane(self, name: str) -> list[Any]:
        """What lies in a lane: deliveries, or the warehouse's records."""
        rows = await self.lanes.redis.xrange(Lane(self.shard, name).key)
        if name == "warehouse":
            return [record for _, fields in rows for record in unpack(fields[b"d"])]
        return [decode(fields[b"d"]) for _, fields in rows]

    async def ids(self, name: str) -> list[str]:
        """The message ids in a lane."""
        return [
            one.event["messageId"] if isinstance(one, EventRecord) else one.message_id for one in await self.lane(name)
        ]
