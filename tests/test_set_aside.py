"""Items that nobody can read leave their lane, whole, in one step."""

from __future__ import annotations

from eventrouter.lane import Lane
from eventrouter.records import RejectedEvent, unpack
from eventrouter.set_aside import set_aside
from eventrouter.stored import UnreadableError
from lane_kit import CRM, begin, counts


async def records(redis) -> list[RejectedEvent]:
    rows = await redis.xrange(Lane(0, "warehouse").key)
    return [record for _, fields in rows for record in unpack(fields[b"d"])]


async def test_they_are_kept_for_the_warehouse_and_the_others_stay(lanes, redis):
    turn = await begin(lanes, ("k", "torn"), ("k", "good"), ("l", "worn"))
    torn, good, worn = (await turn.read()).items
    claims = []

    async def enqueue(some):
        claims.extend(some)

    await set_aside(turn, [(one, UnreadableError("it is torn", one.data)) for one in (torn, worn)], enqueue)
    assert [("torn", "unreadable", "it is torn"), ("worn", "unreadable", "it is torn")] == [
        (record.payload, record.code, record.message) for record in await records(redis)
    ]
    assert [good.id.encode()] == [item for item, _ in await redis.xrange(CRM.key)]
    assert {"to:crm": 3, "dead:crm:unreadable": 2, "to:warehouse": 2} == await counts(redis)
    assert [Lane(0, "warehouse")] == [claim.lane for claim in claims]


async def test_from_the_warehouses_own_lane_they_go_behind_what_waits_there(lanes, redis):
    turn = await begin(lanes, ("", "torn"), lane=Lane(0, "warehouse"))
    [torn] = (await turn.read()).items

    async def nobody(_):
        raise AssertionError("the lane has a turn already")

    await set_aside(turn, [(torn, UnreadableError("it is torn", torn.data))], nobody)
    assert ["torn"] == [record.payload for record in await records(redis)]
    assert {"to:warehouse": 2, "dead:warehouse:unreadable": 1} == await counts(redis)
