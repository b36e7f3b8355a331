"""A look for one event in the lanes: what waits of it is found where it is, within bounds."""

from __future__ import annotations

import msgspec
import pytest
from redis.asyncio import Redis

from eventrouter import lane_search
from eventrouter.lane import Append, Lane, Park
from eventrouter.lane_search import LaneSearch
from eventrouter.lanes import Lanes
from lane_kit import CRM, append, begin


async def found(redis: Redis, message_id: str, *keys: str, lane: Lane = CRM, **options: int) -> list[str]:
    search = LaneSearch(redis, message_id, **options)
    return [one.item.data.decode() for one in await search.find(lane, keys)]


async def test_what_waits_in_a_lane_is_found_by_the_id(lanes: Lanes, redis: Redis) -> None:
    await lanes.append(0, [append(("k", '["m1"]'), ("l", '["m2"]'), ("k", '["m1", "again"]'))])
    assert ['["m1"]', '["m1", "again"]'] == await found(redis, "m1")
    assert [] == await found(redis, "m3")
    assert [] == await found(redis, "m1", lane=Lane(1, "crm"))


@pytest.mark.parametrize("message_id", ['a"b', "a\\b", "a\nb", "ü🎉", "a/b", "\x01"])
async def test_ids_of_any_characters_are_found_as_they_are_stored(lanes: Lanes, redis: Redis, message_id: str) -> None:
    data = msgspec.json.encode([1, message_id, "web"])
    await lanes.append(0, [Append("crm", [("k", 1, data)], "to:crm")])
    assert [data.decode()] == await found(redis, message_id)


async def test_what_is_parked_is_found_by_its_lane_key_with_its_tries(lanes: Lanes, redis: Redis) -> None:
    turn = await begin(lanes, ("k", '["m1"]'), ("k", '["m2"]'), ("l", '["m3"]'))
    items = (await turn.read()).items
    items[0].tries = b'{"made":3}'
    await turn.settle(parks=[Park("k", 60_000, items[:2])])
    [one] = await LaneSearch(redis, "m1").find(CRM, ["other", "k"])
    assert (True, b'{"made":3}', items[0].id) == (one.item.parked, one.item.tries, one.item.id)
    assert one.next_try_ms > 1_000_000
    assert [] == await found(redis, "m1", "other")
    [one] = await LaneSearch(redis, "m3").find(CRM, ["k"])
    assert (False, b"", 0) == (one.item.parked, one.item.tries, one.next_try_ms)


async def test_a_long_lane_is_looked_through_page_by_page(
    lanes: Lanes, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_search, "LARGEST_PAGE", 50)
    await lanes.append(0, [append(*(("k", f'["m{number}"]') for number in range(500)))])
    assert ['["m499"]'] == await found(redis, "m499")
    monkeypatch.setattr(lane_search, "PAGE_BYTES", 1)
    assert ['["m499"]'] == await found(redis, "m499")


async def test_the_rest_of_a_lane_is_left_out_and_that_is_told(lanes: Lanes, redis: Redis) -> None:
    await lanes.append(0, [append(*(("k", f'["m{number}"]') for number in range(500)))])
    search = LaneSearch(redis, "m499", most_bytes=2000)
    assert [] == await search.find(CRM)
    assert [CRM] == search.cut
    assert ['["m0"]'] == await found(redis, "m0", most_bytes=2000)
