"""replay.py: history sent to one destination, once, behind what waits, from where it was broken off."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from eventrouter import feed as feed_module
from eventrouter import replay as replay_module
from eventrouter.delivery import decode, in_hand
from eventrouter.errors import UnavailableError
from eventrouter.events import StoredEvent, idempotency_key
from eventrouter.feed import Feed
from eventrouter.lane import Item, Lane
from eventrouter.records import DeadLetter, DeadLetterReplayed, unpack
from eventrouter.replay import Replay
from eventrouter.warehouse import Warehouse
from lane_kit import counts

UNTIL = datetime(2026, 11, 25, tzinfo=UTC)


def event(number: int, name: str = "Order", **fields: Any) -> StoredEvent:
    time = f"2026-11-24T17:00:{number:02}.000Z"
    body = {"type": "track", "event": name, "messageId": f"m{number:02}", "anonymousId": f"a{number % 2}"}
    return StoredEvent("web", {**body, "timestamp": time, "receivedAt": time, **fields})


class Shelf(Warehouse):
    """A warehouse with these events, that may be away for a while."""

    name = "shelf"

    def __init__(self, events: list[StoredEvent]) -> None:
        super().__init__(self.Options(url="shelf:"))
        self.events = events
        self.letters: list[dict[str, Any]] = []
        self.away = 0
        self.persons: list[str | None] = []

    async def count_events(self, **bounds):
        return len(self.events)

    async def scan_events(self, *, limit, after, person, **bounds):
        if self.away:
            self.away -= 1
            raise UnavailableError("the database is away")
        self.persons.append(person)
        behind = [one for one in self.events if after is None or one.message_id > after.message_id]
        return behind[:limit]

    async def find_dead_letters(self, *, destination, message_id, **filters):
        return [row for row in self.letters if row["destination"] == destination and row["message_id"] in message_id]


def route(events, destinations):
    assert ["crm"] == destinations
    deliveries, failed, filtered = [], [], {}
    for index, one in enumerate(events):
        if one.event["event"] == "Broken":
            failed.append(("crm", index, "orders", "no total"))
        elif one.event["event"] == "Order":
            data = msgspec.Raw(msgspec.json.encode({"id": one.message_id}))
            deliveries.append(SimpleNamespace(destination="crm", index=index, data=data, route="orders"))
        else:
            filtered["crm", "no_route"] = filtered.get(("crm", "no_route"), 0) + 1
    return SimpleNamespace(deliveries=deliveries, failed=failed, filtered=filtered)


@pytest.fixture
async def make(lanes, redis, monkeypatch):
    monkeypatch.setattr(replay_module, "PAGE", 3)
    monkeypatch.setattr(feed_module, "POLL_SECONDS", 0.002)
    shelves = []
    crm = SimpleNamespace(batch_size=100, concurrency=9, rate_limit=None, calls=None)

    async def enqueue(claims):
        pass

    def one(events: list[StoredEvent] | None = None, *, shelf: Shelf | None = None, command=("7d",), **options):
        shelf = shelf or Shelf(events or [])
        shelves.append(shelf)
        feed = Feed(lanes, 1, {"crm": crm}, enqueue)
        return Replay(shelf, redis, feed, 1, route, "crm", "abc", command=command, **options)

    yield one
    for shelf in shelves:
        await shelf.close()


async def play(replay: Replay, progress=None):
    progress = progress or await replay.begin(None, UNTIL)
    assert sum([number async for number in replay.run(progress)]) >= 0
    return progress


async def sent(redis) -> list[Any]:
    return [
        Item(item.decode(), False, fields[b"k"].decode(), 1, fields[b"d"])
        for item, fields in await redis.xrange(Lane(0, "crm").key)
    ]


async def records(redis) -> list[Any]:
    return [one for _, fields in await redis.xrange(Lane(0, "warehouse").key) for one in unpack(fields[b"d"])]


async def test_history_is_sent_in_order_under_its_old_keys_and_counted(make, redis):
    progress = await play(make([event(number) for number in range(7)]))
    items = await sent(redis)
    messages = [in_hand(item, "crm").messages[0] for item in items]
    assert [f"m{number:02}" for number in range(7)] == [one.message_id for one in messages]
    assert [idempotency_key("web", one.message_id, "crm") for one in messages] == [one.id for one in messages]
    assert all(one.replay for one in messages)
    assert 2 == len({item.key for item in items})
    assert (7, 7, {"orders": 7}) == (progress.total, progress.looked, progress.sent)
    assert {"to:crm": 7, "replayed:crm:again": 7} == await counts(redis)


async def test_what_the_rules_filter_is_told_and_what_fails_is_a_dead_letter(make, redis):
    progress = await play(make([event(1), event(2, "Other"), event(3, "Broken")]))
    assert ({"no_route": 1}, {"orders: no total": 1}) == (progress.filtered, progress.failed)
    [letter] = await records(redis)
    assert isinstance(letter, DeadLetter)
    assert ("m03", "crm", "template", "no total") == (
        letter.message_id,
        letter.destination,
        letter.class_,
        letter.reason,
    )
    expected = {"to:crm": 2, "dead:crm:template": 1, "replayed:crm:again": 2, "to:warehouse": 1}
    assert expected == await counts(redis)


async def test_only_events_that_are_chosen_are_sent(make, redis):
    replay = make([event(1), event(2), event(3)], holds=lambda one: one.message_id != "m02", person="p")
    progress = await play(replay)
    assert ["m01", "m03"] == [decode(item.data).message_id for item in await sent(redis)]
    assert (3, {"p"}) == (progress.looked, set(replay._warehouse.persons))


async def test_broken_off_it_goes_on_where_it_was_and_sends_nothing_twice(make, redis):
    events = [event(number) for number in range(8)]
    first = make(events)
    began = await first.begin(None, UNTIL)
    pages = first.pages(began)
    for known in (True, False):  # the second page is sent, and nobody knows yet
        page = await anext(pages)
        await first._send(began, page)
        if known:
            began.add(page)
            await first._save(began)
    again = make(events)
    progress = await again.resume()
    assert (3, {"orders": 3}) == (progress.looked, progress.sent)
    await play(again, progress)
    assert [f"m{number:02}" for number in range(8)] == [decode(item.data).message_id for item in await sent(redis)]
    assert {"orders": 8} == progress.sent
    assert {"to:crm": 8, "replayed:crm:again": 8} == await counts(redis)
    assert await again.resume() is None


async def test_one_that_is_behind_and_broken_off_leaves_nothing_when_another_has_ended(make, redis):
    events = [event(number) for number in range(8)]
    first, second = make(events), make(events)
    progress = await first.begin(None, UNTIL)
    runs = first.run(progress)
    await anext(runs)
    found = await second.resume()
    assert found is not None
    later = second.run(found)
    await anext(later)
    assert [3, 2] == [number async for number in runs]
    assert 2 == await anext(later)
    await later.aclose()
    assert await make(events).resume() is None
    assert 8 == len(await sent(redis))


async def test_one_that_was_replaced_leaves_the_new_one_alone(make, redis):
    old, new = make([event(1)]), make([event(1)])
    progress = await old.begin(None, UNTIL)
    await old._save(progress)
    await new._save(begun := await new.begin(None, UNTIL))
    await play(old, progress)
    assert begun == await make([event(1)]).resume()


async def test_another_command_is_another_replay(make, redis):
    events = [event(1)]
    first = make(events)
    await first._save(await first.begin(None, UNTIL))
    assert await make(events).resume() is not None
    assert await make(events, command=("8d",)).resume() is None


async def test_given_again_after_its_end_it_sends_all_again_under_the_same_keys(make, redis):
    for _ in range(2):
        await play(make([event(1)]))
    ids = [in_hand(item, "crm").messages[0].id for item in await sent(redis)]
    assert (2, 1) == (len(ids), len(set(ids)))


async def test_with_new_keys_each_replay_has_keys_of_its_own(make, redis):
    for _ in range(2):
        await play(make([event(1)], new_keys=True))
    ids = {in_hand(item, "crm").messages[0].id for item in await sent(redis)}
    assert 3 == len(ids | {idempotency_key("web", "m01", "crm")})


async def test_a_template_that_fails_in_a_replay_with_new_keys_is_a_dead_letter_with_its_key(make, redis):
    await play(make([event(1), event(2, "Broken")], new_keys=True))
    [item], [dead] = await sent(redis), await records(redis)
    assert "" != decode(item.data).again == dead.again


def letter(number: int, **fields: Any) -> dict[str, Any]:
    row = {"source": "web", "message_id": f"m{number:02}", "destination": "crm", "class": "attempts"}
    return {**row, "last_at": "2026-11-24T18:00:00.000Z", "replayed_at": None, "outcome": None, **fields}


async def test_an_event_that_is_a_dead_letter_is_that_sent_again(make, redis):
    replay = make([event(1), event(2, "Broken")])
    replay._warehouse.letters = [letter(1), letter(2)]
    await play(replay)
    [mark] = await records(redis)
    assert isinstance(mark, DeadLetterReplayed)
    assert ("m01", "sent") == (mark.message_id, mark.outcome)
    assert {"to:crm": 1, "replayed:crm:attempts": 1, "to:warehouse": 1} == await counts(redis)
    await play(replay)  # the mark is on its way
    assert 1 == len(await sent(redis))


async def test_a_dead_letter_that_this_replay_sent_is_not_sent_again_when_it_goes_on(make, redis):
    replay = make([event(1), event(2)])
    progress = await replay.begin(None, UNTIL)
    old = {"replayed_at": "2020-01-01T00:00:00.000Z", "outcome": "sent"}
    replay._warehouse.letters = [letter(1, replayed_at=progress.began_at, outcome="sent"), letter(2, **old)]
    await play(replay, progress)
    assert ["m02"] == [decode(item.data).message_id for item in await sent(redis)]


async def test_what_dies_again_is_later_than_the_dead_letter_by_any_clock(make, redis):
    ahead = "2999-11-24T18:00:00.000Z"
    replay = make([event(1), event(2, "Broken")])
    replay._warehouse.letters = [letter(1, last_at=ahead), letter(2, last_at=ahead, replayed_at=ahead)]
    await play(replay)
    [item] = await sent(redis)
    assert datetime(2999, 11, 24, 18, tzinfo=UTC).timestamp() * 1000 + 1 == decode(item.data).floor_ms
    assert ["2999-11-24T18:00:00.001Z"] == [one.last_at for one in await records(redis) if isinstance(one, DeadLetter)]


async def test_what_is_away_for_a_while_is_waited_for(make, redis, monkeypatch):
    async def sleep(_: float) -> None:
        pass

    monkeypatch.setattr(replay_module.asyncio, "sleep", sleep)
    told: list[str] = []
    replay = make([event(1)], waiting=told.append)
    replay._warehouse.away = 2
    await play(replay)
    assert (["the database is away"] * 2, 1) == (told, len(await sent(redis)))


async def test_what_stays_away_ends_it_and_it_can_go_on(make, redis):
    replay = make([event(number) for number in range(4)], patience=0.0)
    progress = await replay.begin(None, UNTIL)
    pages = replay.run(progress)
    await anext(pages)
    replay._warehouse.away = 1
    with pytest.raises(UnavailableError):
        await anext(pages)
    found = await replay.resume()
    assert found is not None
    assert (progress.run, 3) == (found.run, found.looked)


async def test_pages_alone_send_nothing(make, redis):
    replay = make([event(1), event(2, "Other")])
    progress = await replay.begin(None, UNTIL)
    [page] = [page async for page in replay.pages(progress)]
    assert (2, ["m01", "m02"]) == (page.looked, [one.message_id for one in page.events])
    assert 0 == progress.looked
    progress.add(page)
    assert (2, {"orders": 1}, {"no_route": 1}) == (progress.looked, progress.sent, progress.filtered)
    assert [] == await redis.keys("er:*")
