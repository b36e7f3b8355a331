"""The outcome log: each settlement tells what became of its deliveries, the newest stay, and its size is bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from deliver_kit import Post, hand_of, making
from enrich_kit import Router, event, everything_to
from eventrouter import enrich
from eventrouter.destination import Message
from eventrouter.errors import Reject, Retry
from eventrouter.lanes import Lanes
from eventrouter.outcome_log import (
    DEAD,
    DELIVERED,
    RETRY,
    Failed,
    Outcome,
    dead_entries,
    decode,
    entry,
    find_outcomes,
    key_of,
    read_outcomes,
    tried_again,
)
from eventrouter.records import DeadLetter
from lane_kit import begin

ROOM = 100_000


@pytest.fixture
async def make(redis: Redis) -> AsyncIterator[Callable[..., Post]]:
    async with making(redis) as one:

        def logging(*args: Any, **options: Any) -> Post:
            post = one(*args, **options)
            post.lanes.outcome_bytes = ROOM
            return post

        yield logging


async def all_of(redis: Redis) -> list[Outcome]:
    """What the log of shard 0 holds, in the order in which it was written."""
    pages = [data async for page in read_outcomes(redis, 0) for data in page]
    return [one for data in reversed(pages) for one in decode(data)]


def letter(message_id: str, destination: str = "crm") -> DeadLetter:
    return DeadLetter(
        source="web",
        message_id=message_id,
        destination=destination,
        route="all",
        class_="backlog_full",
        reason="it is full",
        attempts=0,
        first_at="",
        last_at="",
    )


def test_an_entry_gives_back_what_became_of_each_delivery() -> None:
    delivered = [hand_of("1"), hand_of("2", made=2, together=1), hand_of("3")]
    failed = tried_again(hand_of("4", made=1), "HTTP 503" + "x" * 500, 503)
    found = decode(entry(1000, "crm", delivered, [failed, Failed("web", "5", 9, "permanent", "HTTP 400", 400)]))
    assert [
        ("1", DELIVERED, 1, "", None),
        ("3", DELIVERED, 1, "", None),
        ("2", DELIVERED, 4, "", None),
        ("4", RETRY, 1, "", 503),
        ("5", DEAD, 9, "permanent", 400),
    ] == [(one.message_id, one.outcome, one.attempts, one.class_, one.status) for one in found]
    assert {("web", "crm", 1000)} == {(one.source, one.destination, one.at_ms) for one in found}
    assert 200 == len(found[3].reason)


def test_nothing_to_tell_makes_no_entry() -> None:
    assert b"" == entry(1000, "crm", [])


def test_dead_letters_of_several_destinations_are_told_by_destination() -> None:
    entries = dead_entries(1000, [letter("1"), letter("2", "erp"), letter("3")])
    told = [[(one.destination, one.message_id, one.class_, one.attempts) for one in decode(data)] for data in entries]
    assert [
        [("crm", "1", "backlog_full", 0), ("crm", "3", "backlog_full", 0)],
        [("erp", "2", "backlog_full", 0)],
    ] == told


@pytest.mark.parametrize("data", [b"", b"nonsense", msgspec.msgpack.encode([9, 0, "crm", [], []])])
def test_an_entry_that_this_version_cannot_read_tells_nothing(data: bytes) -> None:
    assert [] == decode(data)


async def test_each_settlement_tells_what_became_of_its_deliveries(make: Callable[..., Post], redis: Redis) -> None:
    answers: dict[str, list[Any]] = {"1": [Retry("not now", status=500), None], "2": [Reject("no", status=422)]}

    def answer(messages: list[Message]) -> dict[str, Any]:
        found = {one.id: answers[one.message_id].pop(0) for one in messages if answers.get(one.message_id)}
        return {key: value for key, value in found.items() if value is not None}

    post = make(answer, batch_size=3)
    await post.put("1", "2", "3")
    await post.run()
    assert {
        ("3", DELIVERED, 1, "", ""),
        ("1", RETRY, 1, "", "not now"),
        ("2", DEAD, 1, "permanent", "no"),
        ("1", DELIVERED, 2, "", ""),
    } == {(one.message_id, one.outcome, one.attempts, one.class_, one.reason) for one in await all_of(redis)}


async def test_the_outcomes_of_one_event_are_found_oldest_first(make: Callable[..., Post], redis: Redis) -> None:
    answers = [Retry("not now", status=500)]
    post = make(lambda messages: {messages[0].id: answers.pop()} if answers and messages[0].message_id == "1" else None)
    await post.put("1", "11", "2")
    await post.run()
    assert [RETRY, DELIVERED] == [one.outcome for one in await find_outcomes(redis, 0, "1")]
    assert [] == await find_outcomes(redis, 0, "3")
    assert [] == await find_outcomes(redis, 1, "1")


async def test_what_the_router_buries_is_told(lanes: Lanes, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrich, "LINGER_SECONDS", 0.01)
    lanes.outcome_bytes = ROOM
    router = Router(lanes, route=everything_to("crm", "erp"), backlogs={"crm": 0, "erp": 5})
    await router.accept(event(1), event(2))
    await router.run()
    assert [("m2", "crm", DEAD, "backlog_full")] == [
        (one.message_id, one.destination, one.outcome, one.class_) for one in await all_of(redis)
    ]


async def test_it_is_written_in_settlements_only_and_only_when_it_is_switched_on(
    make: Callable[..., Post], redis: Redis
) -> None:
    post = make(batch_size=10)
    post.lanes.outcome_bytes = 0
    await post.put("1", "2")
    await post.run()
    assert 0 == await redis.exists(key_of(0), key_of(0) + ":end")
    post.lanes.outcome_bytes = ROOM
    await post.put(*map(str, range(10)))
    await post.run()
    assert 1 == await redis.xlen(key_of(0))


async def test_the_oldest_make_room_by_their_bytes(lanes: Lanes, redis: Redis) -> None:
    lanes.outcome_bytes = ROOM
    turn = await begin(lanes, ("k", "1"))
    for number in range(400):
        await turn.settle(outcomes=[bytes([number % 256]) * (50 if number % 2 else 2000)])
    kept = [fields[b"d"] for _, fields in await redis.xrange(key_of(0))]
    size = sum(len(data) + 40 for data in kept)
    assert ROOM * 0.9 < size < ROOM + 3 * 4096
    assert bytes([399 % 256]) * 50 == kept[-1]
    for _ in range(5000):
        await turn.settle(outcomes=[b"x" * 60])
    assert await redis.memory_usage(key_of(0), samples=0) < 1.3 * ROOM


async def test_it_goes_on_when_somebody_has_taken_its_end_away(lanes: Lanes, redis: Redis) -> None:
    lanes.outcome_bytes = ROOM
    turn = await begin(lanes, ("k", "1"))
    await turn.settle(outcomes=[b"x" * 500, b"y"])
    await redis.delete(key_of(0) + ":end")
    await turn.settle(outcomes=[b"z"])
    await turn.settle(outcomes=[b"a"])
    assert [b"z", b"a"] == [fields[b"d"] for _, fields in await redis.xrange(key_of(0))]


async def test_a_turn_that_was_taken_over_tells_nothing(lanes: Lanes, redis: Redis) -> None:
    lanes.outcome_bytes = ROOM
    turn = await begin(lanes, ("k", "1"))
    turn.token = "another"
    with pytest.raises(Exception, match="taken over"):
        await turn.settle(outcomes=[b"x"])
    assert 0 == await redis.exists(key_of(0))
