"""Those who look on see what becomes of events; while there are none, nothing is shown, and nothing waits for them."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace

import msgspec

from eventrouter import onlookers
from eventrouter.acceptance import AcceptedEvent
from eventrouter.events import StoredEvent
from eventrouter.onlookers import CHANNEL, KEY, Onlookers, decode
from eventrouter.records import RejectedEvent


def event(message_id: str = "m1", **fields):
    return {"type": "track", "event": "Order Completed", "messageId": message_id, "userId": "u", **fields}


def accepted(message_id: str = "m1", **fields) -> AcceptedEvent:
    return AcceptedEvent("u", msgspec.json.encode(["web", event(message_id, **fields)]))


@contextlib.asynccontextmanager
async def running(redis, *, watched: bool = True):
    """A process that shows, and what it publishes."""
    one = Onlookers(redis)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(CHANNEL)
        if watched:
            await redis.set(KEY, "", px=60_000)
        one.start("worker")

        async def published():
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
                if message is not None:
                    return decode(message["data"])

        if watched:
            hello = await published()
            assert (hello.process.split(":")[0], hello.rows) == ("worker", [])
        yield one, published
        await one.stop()


async def test_what_is_accepted_and_refused_is_shown_to_who_looks_on(redis):
    refused = RejectedEvent(id="1", source="web", received_at="", code="too_large", message="it is", message_id="m2")
    async with running(redis) as (one, published):
        one.accepted([accepted(properties={"total": 2**70})], [refused])
        [first, second] = (await published()).rows
    assert (first.what, first.source, first.type, first.name, first.message_id) == (
        "accepted",
        "web",
        "track",
        "Order Completed",
        "m1",
    )
    assert first.event == event(properties={"total": 2**70})
    assert (second.what, second.reason, second.message_id) == ("rejected", "too_large: it is", "m2")


async def test_where_an_event_goes_is_shown_and_that_it_came_before(redis):
    came = [StoredEvent("web", event("m1", person_id="p")), StoredEvent("web", event("m2"))]
    routed = SimpleNamespace(
        deliveries=[SimpleNamespace(destination="crm")], failed=[], filtered={("ads", "consent"): 1}
    )
    async with running(redis) as (one, published):
        one.routed(came, came[:1], lambda events: routed)
        [first, second] = (await published()).rows
    assert (first.what, first.to, first.filtered, first.event["person_id"]) == (
        "routed",
        ["crm"],
        {"ads": "consent"},
        "p",
    )
    assert (second.what, second.message_id) == ("duplicate", "m2")


async def test_nobody_is_shown_anything_when_nobody_looks_on(redis, monkeypatch):
    monkeypatch.setattr(onlookers, "LOOK_SECONDS", 0.01)
    async with running(redis, watched=False) as (one, published):
        await asyncio.sleep(0.05)
        assert not one.present
        await redis.set(KEY, "", px=60_000)
        assert (await published()).rows == []
        assert one.present
        await redis.delete(KEY)
        while one.present:
            await asyncio.sleep(0.01)


async def test_what_comes_too_fast_is_counted_and_not_even_made(redis, monkeypatch):
    monkeypatch.setattr(onlookers, "MAX_ROWS", 3)
    made = []

    def route(events):
        made.append(events)
        return SimpleNamespace(deliveries=[], failed=[], filtered={})

    events = [StoredEvent("web", event(f"m{number}")) for number in range(10)]
    async with running(redis) as (one, published):
        one.routed(events, events, route)
        shown = await published()
    assert (len(shown.rows), shown.shown, shown.skipped, len(made)) == (3, 3, 7, 3)


async def test_large_events_are_shown_as_far_as_there_is_room(redis, monkeypatch):
    monkeypatch.setattr(onlookers, "MAX_BYTES", 2000)
    async with running(redis) as (one, published):
        one.accepted([accepted(f"m{number}", x="y" * 900) for number in range(3)], [])
        shown = await published()
    assert (len(shown.rows), shown.shown, shown.skipped) == (1, 1, 2)


async def test_what_can_not_be_shown_harms_nobody(redis):
    async with running(redis) as (one, published):
        one.accepted([AcceptedEvent("u", b"?")], [])
        one.accepted([accepted()], [])
        assert [row.message_id for row in (await published()).rows] == ["m1"]


async def test_while_redis_is_away_it_goes_on_trying(redis, monkeypatch):
    monkeypatch.setattr(onlookers, "LOOK_SECONDS", 0.01)
    one = Onlookers(redis)
    one.start("worker")
    await redis.set(KEY, "")
    while not one.present:
        await asyncio.sleep(0.01)
    await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await asyncio.sleep(0.05)
    await redis.delete(KEY)
    while one.present:
        await asyncio.sleep(0.01)
    await one.stop()


def test_what_another_version_shows_is_passed_over():
    assert decode(b'{"process": 1}') is None
