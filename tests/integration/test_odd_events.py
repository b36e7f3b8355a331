"""Odd events, all the way: whatever is accepted can be stored and read again, and costs its neighbours nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deliver_kit import Post, Sink
from enrich_kit import Router
from eventrouter import deliver, enrich
from eventrouter.accept import accept
from eventrouter.acceptance import Acceptance
from eventrouter.attempts import Attempts
from eventrouter.builtin.warehouse import SqliteWarehouse
from eventrouter.deliver import DeliveryTurn
from eventrouter.delivery import decode
from eventrouter.events import EVENT_TYPES, StoredEvent
from eventrouter.lane import Append, Claim
from eventrouter.log_entry import decode_entry, encode_entry
from eventrouter.moves import Moves
from eventrouter.records import DeadLetter, EventRecord, unpack
from eventrouter.target import Policy, Target
from eventrouter.targets import records_in_hand
from lane_kit import counts

LINGER = 0.02
FIELDS = (
    *("event", "name", "category", "properties", "traits", "context", "integrations", "timestamp", "sentAt"),
    *("originalTimestamp", "receivedAt", "messageId", "userId", "anonymousId", "groupId", "previousId", "person_id"),
    *("version", "channel", "writeKey"),
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
"""Anything that JSON can say."""
good = st.fixed_dictionaries(
    {"type": st.sampled_from(EVENT_TYPES)}
    | {name: st.just(name) for name in ("event", "userId", "anonymousId", "groupId", "previousId")}
)
odd = st.builds(
    lambda event, fields: event | fields, good, st.dictionaries(st.sampled_from(FIELDS), values, max_size=2)
)
"""Events that are good but for some of their fields."""


def taken(*events: Any) -> Acceptance:
    body = msgspec.json.encode({"batch": events})
    return accept(body, endpoint="batch", source="web", received_at=datetime(2026, 11, 24, 17, tzinfo=UTC))


def routed_both_ways(events: Sequence[StoredEvent]) -> Any:
    """Each event to `crm`; its template for `erp` fails."""
    indexes = range(len(events))
    return SimpleNamespace(
        deliveries=[
            SimpleNamespace(
                destination="crm", index=index, data=msgspec.Raw(msgspec.json.encode(events[index].event)), route="all"
            )
            for index in indexes
        ],
        failed=[("erp", index, "all", "it failed") for index in indexes],
        filtered={},
    )


@settings(deadline=None)
@given(st.lists(odd, max_size=3))
def test_whatever_is_accepted_is_read_back_from_every_stored_form(events: list[Any]) -> None:
    accepted = taken({"type": "page", "userId": "u", "messageId": "good"}, *events).events
    stored = decode_entry(encode_entry([one.data for one in accepted]))
    assert [msgspec.json.decode(one.data) for one in accepted] == [[one.source, one.event] for one in stored]
    moves = Moves("v1", {"crm": 100})
    moves.add(stored, routed_both_ways(stored))
    lanes = {append.lane: [data for _, _, data in append.items] for append in moves.appends()}
    ids = [one.message_id for one in stored]
    assert [(one.message_id, one.event) for one in stored] == [
        (one.message_id, msgspec.json.decode(one.payload)) for one in map(decode, lanes["crm"])
    ]
    records = [record for data in lanes["warehouse"] for record in unpack(data)]
    assert [one.event for one in stored] == [one.event for one in records if isinstance(one, EventRecord)]
    assert ids == [one.message_id for one in records if isinstance(one, DeadLetter)]


# the journey

ODD: list[Mapping[str, Any]] = [
    {"type": "page", "event": 5},
    {"type": "identify", "name": {"first": "Ada"}, "event": ["x"]},
    {"type": "group", "groupId": 7, "name": 1.5, "event": False},
    {"type": "alias", "previousId": "p", "event": {"a": 2**80}, "name": []},
    {"type": "screen", "event": {}, "name": None},
    {"type": "track", "event": "Paid", "name": 5},
]


class Journey(Router):
    """One shard from the log to the warehouse and to `crm`."""

    def __init__(self, lanes: Any, redis: Any, directory: Path, **changes: Any) -> None:
        super().__init__(lanes, backlogs={"crm": 1000, "erp": 1000}, **changes)
        self.post = Post(redis, Sink())
        self.path = directory / "warehouse.sqlite3"
        self.warehouse = SqliteWarehouse(SqliteWarehouse.Options(url=f"sqlite:///{self.path}"), destination="warehouse")

    async def run_all(self) -> None:
        """Routes what is in the log, and serves every lane until all are empty."""
        await self.run()
        store = Target(
            "warehouse",
            Policy(batch_size=1000, concurrency=1, max_age=None),
            Attempts(self.warehouse, 30.0, lenient=False),
            self.post.health,
            records_in_hand,
            self._nobody,
        )
        for claim in self.ahead:
            target = store if claim.lane.name == "warehouse" else self.post.target
            turn = await self.lanes.begin(claim.lane, claim.token)
            assert turn is not None
            assert await DeliveryTurn(turn, target, asyncio.Event()).run() is None

    async def _nobody(self, claims: Sequence[Claim]) -> None:
        assert claims == []


@pytest.fixture
async def journey(lanes, redis, tmp_path, monkeypatch):
    monkeypatch.setattr(deliver, "LINGER_SECONDS", LINGER)
    monkeypatch.setattr(enrich, "LINGER_SECONDS", LINGER)
    one = Journey(lanes, redis, tmp_path, route=routed_both_ways)
    await one.warehouse.start()
    yield one
    await one.post.sink.close()
    await one.warehouse.close()


async def test_odd_events_and_their_neighbours_reach_warehouse_and_destinations(journey, lanes):
    events: list[dict[str, Any]] = []
    for number, one in enumerate(ODD):
        events += [
            {"userId": "u", "messageId": f"odd {number}", **one},
            {"userId": "u", "messageId": f"good {number}", "type": "track", "event": "Paid"},
        ]
    acceptance = taken(*events)
    assert [] == acceptance.rejections
    data = encode_entry([one.data for one in acceptance.events])
    journey.claims = await lanes.append(0, [Append("log", [("", len(events), data)], "accepted")])
    await journey.run_all()
    ids = [event["messageId"] for event in events]
    assert ids == journey.post.sink.got
    identities = [("web", message_id) for message_id in ids]
    assert set(identities) == {(one.source, one.message_id) for one in await journey.warehouse.find_events(identities)}
    letters = await journey.warehouse.find_dead_letters()
    assert set(ids) == {row["message_id"] for row in letters}


async def test_what_nobody_can_read_anywhere_stops_nothing(journey, lanes):
    event = {"userId": "u", "messageId": "good", "type": "track", "event": "Paid"}
    entry = encode_entry([one.data for one in taken(event).events] + [b'["web",{"messageId":"torn"}]'])
    torn_record = b'{"records":[{"record":"event","source":"web","event":{},"person_id":5}]}'
    items = {"log": [b"nonsense", entry], "crm": [b"nonsense"], "warehouse": [b"nonsense", torn_record]}
    claims = [
        claim
        for name, datas in items.items()
        for claim in await lanes.append(0, [Append(name, [("", 1, data) for data in datas], f"to:{name}")])
    ]
    journey.claims = [claim for claim in claims if claim.lane.name == "log"]
    journey.ahead = [claim for claim in claims if claim.lane.name != "log"]
    await journey.run_all()
    assert ["good"] == journey.post.sink.got
    assert 1 == len(await journey.warehouse.find_events([("web", "good")]))
    kept = sqlite3.connect(journey.path).execute("SELECT code, count(*) FROM rejected_events GROUP BY 1").fetchall()
    assert [("unreadable", 5)] == kept
    found = await counts(lanes.redis)
    assert 1 == found["warehouse:unreadable"]
    assert (1, 1) == (found["dead:crm:unreadable"], found["dead:warehouse:unreadable"])
