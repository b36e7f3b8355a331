"""feed.py: what is sent again goes behind what waits, a little at a time."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from eventrouter import feed as feed_module
from eventrouter.destination import RateLimit
from eventrouter.feed import Feed, Work, room_of
from eventrouter.lane import Append, Claim, Lane, Park, Removal
from eventrouter.once import Item, Piece, digest_of
from lane_kit import CRM, append, begin


def config(
    batch_size: int = 1, concurrency: int = 3, rate_limit: RateLimit | None = None, calls: int | None = None
) -> SimpleNamespace:
    return SimpleNamespace(batch_size=batch_size, concurrency=concurrency, rate_limit=rate_limit, calls=calls)


def work(*names: str, shard: int = 0) -> list[Work]:
    items = {name: [Item("crm", name, 1, name.encode(), "to:crm")] for name in names}
    return [Work(shard, "crm", Piece(digest_of(name), items[name], {})) for name in names]


@pytest.fixture
def claims() -> list[Claim]:
    return []


@pytest.fixture
def make(lanes, claims, monkeypatch):
    monkeypatch.setattr(feed_module, "POLL_SECONDS", 0.002)
    monkeypatch.setattr(feed_module, "TELL_SECONDS", 0.02)

    async def enqueue(found):
        claims.extend(found)

    def one(crm: SimpleNamespace | None = None, **options) -> Feed:
        return Feed(lanes, 2, {"crm": crm or config()}, enqueue, **options)

    return one


@pytest.mark.parametrize(
    ("crm", "room"),
    [
        (config(), 3),
        (config(100, 8), 800),
        (config(100, 8, RateLimit(10)), 5),
        (config(100, 8, RateLimit(1, per_seconds=60)), 1),
        (config(1, 2, RateLimit(1000)), 2),
        (config(100, 8, calls=8), 400),
        (config(100, 1, calls=1), 100),
    ],
)
def test_as_much_lies_in_a_lane_as_goes_at_once_or_within_a_second(crm, room):
    assert room == room_of(crm, 2)


async def test_work_of_all_shards_is_done_and_its_claims_are_enqueued(make, claims, redis):
    assert [True] * 4 == await make()([*work("a", "b"), *work("c", "d", shard=1)])
    assert {CRM, Lane(1, "crm")} == {claim.lane for claim in claims}
    assert (2, 2) == (await redis.xlen(CRM.key), await redis.xlen(Lane(1, "crm").key))


async def test_what_was_done_before_is_told(make):
    await make()(work("a"))
    assert [False, True] == await make()(work("a", "b"))


async def test_only_so_much_lies_in_the_lane_that_live_deliveries_soon_have_their_turn(make, lanes, redis):
    turn = await begin(lanes, ("k", "live"))
    feeding = asyncio.create_task(make()(work(*"abcdefgh")))
    done: list[str] = []
    while not feeding.done() or await redis.xlen(CRM.key):
        assert await redis.xlen(CRM.key) <= 3
        items = (await turn.read()).items[:1]
        done += [item.data.decode() for item in items]
        await turn.settle([Removal(item, "delivered:crm") for item in items])
        await asyncio.sleep(0.001)
    assert ["live", *"abcdefgh"] == done
    assert [True] * 8 == await feeding


async def test_parked_deliveries_hold_up_nothing(make, lanes):
    turn = await begin(lanes, *((f"k{number}", "x") for number in range(5)))
    for item in (await turn.read()).items:
        await turn.settle(parks=[Park(item.key, 60_000, [item])])
    assert [True] * 3 == await make()(work(*"abc"))


async def test_a_lane_without_room_is_told_and_holds_up_no_other_shard(make, lanes, redis):
    told = asyncio.Event()

    async def waiting(name: str) -> None:
        assert name == "crm"
        told.set()

    turn = await begin(lanes, *((f"k{number}", "x") for number in range(3)))
    feeding = asyncio.create_task(make(waiting=waiting)([*work("a"), *work("b", shard=1)]))
    await told.wait()
    assert (3, 1) == (await redis.xlen(CRM.key), await redis.xlen(Lane(1, "crm").key))
    await turn.settle([Removal(item, "delivered:crm") for item in (await turn.read()).items])
    assert [True, True] == await feeding


async def test_work_that_needs_no_lane_needs_no_room(make, lanes):
    await lanes.append(0, [append(*((f"k{number}", "x") for number in range(9)))])
    counted = Work(0, "", Piece(digest_of("a"), [], {"discarded": 1}))
    assert [True] == await make()([counted])


async def test_the_rate_is_kept(make):
    began = time.monotonic()
    await make(config(1, 1000), rate=100)(work(*map(str, range(31))))
    assert time.monotonic() - began > 0.25


async def test_a_rate_is_kept_over_calls(make):
    feed = make(config(1, 1000), rate=50)
    began = time.monotonic()
    for number in range(8):
        await feed(work(str(number)))
    assert time.monotonic() - began > 0.1


async def test_nothing_to_do_is_done(make):
    assert [] == await make()([])


async def test_other_lanes_of_the_shard_may_be_full(make, lanes):
    await lanes.append(0, [Append("mail", [("k", 1, b"x")] * 50, "to:mail")])
    assert [True] == await make()(work("a"))
