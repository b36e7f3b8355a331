"""Dead letters sent again: by today's rules or as they were, under the same id, each marked in the same step."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from eventrouter import dead_letters
from eventrouter.builtin.warehouse.base import SqlWarehouse
from eventrouter.dead_letters import DONE, DeadLetters, Replayed
from eventrouter.delivery import dead_letter, decode, in_hand
from eventrouter.errors import UnavailableError
from eventrouter.events import StoredEvent, idempotency_key, lane_key, shard_of
from eventrouter.feed import Feed
from eventrouter.lane import Item, Lane
from eventrouter.records import DeadLetter, DeadLetterReplayed, unpack
from eventrouter.times import EPOCH, write_time
from eventrouter.warehouse import Warehouse
from lane_kit import counts
from warehouse_kit import letter as warehouse_letter
from warehouse_kit import messages, warehouse_at
from warehouse_kit import record as warehouse_record

SHARDS = 2


def event(number: int, **fields: Any) -> StoredEvent:
    body = {
        "type": "track",
        "event": "Order Completed",
        "messageId": f"m{number}",
        "anonymousId": f"anon{number}",
        "timestamp": "2026-11-24T17:00:00.000Z",
    }
    return StoredEvent("web", {**body, **fields})


def letter(number: int, **fields: Any) -> dict[str, Any]:
    row = {
        "source": "web",
        "message_id": f"m{number}",
        "destination": "crm",
        "route": "orders",
        "class": "permanent",
        "payload": f'{{"old":{number}}}',
        "event_type": "track",
        "event_name": "Order Completed",
        "last_at": "2026-11-24T17:00:00.000Z",
        "replayed_at": None,
        "outcome": None,
    }
    return {**row, **fields}


class Shelf(Warehouse):
    """A warehouse that knows these events."""

    name = "shelf"

    def __init__(self, *events: StoredEvent) -> None:
        super().__init__(self.Options(url="shelf:"))
        self.events = {(one.source, one.message_id): one for one in events}
        self.asked: list[dict[str, Any]] = []
        self.letters: list[dict[str, Any]] = []

    async def find_events(self, ids):
        return [self.events[one] for one in ids if one in self.events]

    async def find_dead_letters(self, *, limit=1000, after=None, **filters):
        self.asked.append(filters)
        behind = [row for row in self.letters if after is None or after[2] < row["message_id"]]
        return behind[:limit]


def by_todays_rules(events, destinations=None):
    deliveries, failed, filtered = [], [], {}
    for index, one in enumerate(events):
        if one.event.get("broken"):
            failed.append(("crm", index, "orders", "no total"))
        elif one.event.get("event") == "Order Completed":
            data = msgspec.Raw(msgspec.json.encode({"new": one.message_id}))
            deliveries.append(SimpleNamespace(destination="crm", index=index, data=data, route="orders today"))
        else:
            filtered["crm", "no_route"] = 1
    return SimpleNamespace(deliveries=deliveries, failed=failed, filtered=filtered)


@pytest.fixture
async def make(lanes):
    shelves = []

    def one(*events: StoredEvent, claims: list | None = None, consent: bool = False, enabled: bool = True):
        shelves.append(Shelf(*events))
        crm = SimpleNamespace(
            consent=("marketing",) if consent else (),
            enabled=enabled,
            batch_size=9,
            concurrency=9,
            rate_limit=None,
            calls=None,
        )

        async def enqueue(found):
            if claims is not None:
                claims.extend(found)

        feed = Feed(lanes, SHARDS, {"crm": crm}, enqueue)
        return DeadLetters(shelves[-1], feed, SHARDS, by_todays_rules, {"crm": crm}, "rules 2")

    yield one
    for shelf in shelves:
        await shelf.close()


async def sent(redis, name="crm") -> list[Any]:
    """The items of all shards, or the records."""
    found: list[Any] = []
    for shard in range(SHARDS):
        for item, fields in await redis.xrange(Lane(shard, name).key):
            if name == "warehouse":
                found += unpack(fields[b"d"])
            else:
                found.append(Item(item.decode(), False, fields[b"k"].decode(), int(fields[b"n"]), fields[b"d"]))
    return found


async def test_a_dead_letter_is_sent_by_todays_rules_under_its_old_id(make, redis):
    claims: list = []
    assert Replayed(1, [], []) == await make(event(1), claims=claims).replay([letter(1)])
    [item] = await sent(redis)
    delivery = decode(item.data)
    assert ({"new": "m1"}, "orders today", "rules 2", True) == (
        msgspec.json.decode(delivery.payload),
        delivery.route,
        delivery.rules,
        delivery.replay,
    )
    [message] = in_hand(item, "crm").messages
    assert (idempotency_key("web", "m1", "crm"), True, "2026-11-24T17:00:00.000Z") == (
        message.id,
        message.replay,
        message.timestamp,
    )
    assert {"crm", "warehouse"} == {claim.lane.name for claim in claims}


async def test_what_had_a_new_key_keeps_it(make, redis):
    await make(event(1), event(2)).replay([letter(1, again="run 1"), letter(2, again=None)])
    again = {one.message_id: one.again for one in [decode(item.data) for item in await sent(redis)]}
    assert {"m1": "run 1", "m2": ""} == again


async def test_a_page_keeps_its_name(make, redis):
    page = event(1, type="page", name="Home", event=None)
    await make(page).replay([letter(1, event_type="page", event_name="Home")], as_was=True)
    assert ["Home"] == [decode(item.data).name for item in await sent(redis)]
    await redis.flushall()
    await make(page).replay([letter(1, event_type="page", event_name=None)], as_was=True)
    assert ["Home"] == [decode(item.data).name for item in await sent(redis)]


async def test_the_mark_names_what_it_marks_and_is_later_by_any_clock(make, redis):
    ahead = "2999-11-24T17:00:00.000Z"
    rows = [letter(1, last_at=ahead), letter(2, last_at=ahead), letter(3, replayed_at=ahead)]
    letters = make(event(1), event(2, event="Other"), event(3))
    await letters.replay(rows)
    await letters.discard([letter(4, last_at=ahead)])
    marks = sorted(await sent(redis, "warehouse"), key=lambda one: one.message_id)
    assert [ahead, ahead, letter(3)["last_at"], ahead] == [mark.last_at for mark in marks]
    assert ["2999-11-24T17:00:00.001Z"] * 4 == [mark.replayed_at for mark in marks]


async def test_what_dies_again_is_later_by_any_clock_and_not_before_the_end_of_what_is_sent(make, redis):
    letters, until = make(event(1), event(2)), datetime(2026, 11, 24, 18, tzinfo=UTC)
    await letters.replay([letter(1)])
    await letters.replay([letter(2)], until=until)
    floors = {one.message_id: one.floor_ms for one in [decode(item.data) for item in await sent(redis)]}
    last_at = datetime(2026, 11, 24, 17, tzinfo=UTC).timestamp() * 1000
    assert {"m1": last_at + 1, "m2": until.timestamp() * 1000} == floors


async def test_it_is_marked_and_counted_in_the_same_step(make, redis):
    await make(event(1)).replay([letter(1)])
    [mark] = await sent(redis, "warehouse")
    assert isinstance(mark, DeadLetterReplayed)
    assert ("web", "m1", "crm") == (mark.source, mark.message_id, mark.destination)
    assert mark.replayed_at.endswith("Z")
    expected = {"to:crm": 1, "replayed:crm:permanent": 1, "to:warehouse": 1}
    assert expected == await counts(redis, shard_of("anon1", SHARDS))


async def test_it_holds_up_nothing_of_its_order_key(make, redis):
    await make(event(1)).replay([letter(1)])
    [item] = await sent(redis)
    assert lane_key("anon1") != item.key


async def test_it_may_be_sent_as_it_was(make, redis):
    assert Replayed(2, [], []) == await make(event(1), event(2)).replay([letter(1), letter(2)], as_was=True)
    found = [decode(item.data) for item in await sent(redis)]
    assert [(b'{"old":1}', "orders"), (b'{"old":2}', "orders")] == sorted(
        (bytes(one.payload), one.route) for one in found
    )


async def test_what_cannot_be_sent_is_told_with_its_reason_and_stays(make, redis):
    result = await make(event(3, broken=True)).replay([letter(1), letter(3), letter(4, destination="gone")])
    assert [
        ("m1", "its event is not in the warehouse (yet)"),
        ("m3", "the template still fails: no total"),
        ("m4", "there is no destination gone in routes.yaml any more"),
    ] == result.skipped
    result = await make(event(1), enabled=False).replay([letter(1)])
    assert [("m1", "the destination crm is switched off")] == result.skipped
    assert [] == await sent(redis) == await sent(redis, "warehouse")


async def test_what_todays_rules_send_nowhere_is_filtered_and_dead_no_more(make, redis):
    result = await make(event(1, event="Other")).replay([letter(1)])
    assert Replayed(0, [("m1", "no_route")], []) == result
    assert [] == await sent(redis)
    [mark] = await sent(redis, "warehouse")
    assert ("m1", "filtered: no_route") == (mark.message_id, mark.outcome)
    expected = {"replayed:crm:permanent": 1, "filtered:crm:no_route": 1, "to:warehouse": 1}
    assert expected == await counts(redis, shard_of("anon1", SHARDS))


async def test_twice_at_once_or_after_a_crash_it_is_sent_once(make, redis):
    letters = make(event(1), event(2, event="Other"))
    rows = [letter(1), letter(2)]
    await letters.replay(rows)
    for again in (letters.replay(rows), letters.replay(rows, as_was=True)):
        assert Replayed(0, [], [("m1", DONE), ("m2", DONE)]) == await again
    assert 0 == await letters.discard(rows)
    assert 1 == len(await sent(redis))


async def test_one_that_died_again_may_be_sent_again(make, redis):
    letters = make(event(1))
    await letters.replay([letter(1)])
    assert 1 == (await letters.replay([letter(1, last_at="2026-11-24T18:00:00.000Z")])).sent
    assert 2 == len(await sent(redis))


async def test_who_asks_for_it_gets_those_that_were_sent_before(make, redis):
    letters = make(event(1), event(2, event="Other"))
    done = {"replayed_at": "2026-11-24T18:00:00.000Z", "outcome": "sent"}
    for _ in range(2):
        result = await letters.replay([letter(1, **done), letter(2, **done)])
        assert Replayed(1, [("m2", "no_route")], []) == result
    expected = {"to:crm": 2, "replayed:crm:again": 2, "to:warehouse": 2}
    assert expected == await counts(redis, shard_of("anon1", SHARDS))
    assert 1 == len({in_hand(item, "crm").messages[0].id for item in await sent(redis)})


async def test_discarded_ones_are_marked_and_counted_once_and_sent_nowhere(make, redis):
    letters = make(event(1))
    rows = [letter(1), letter(2, destination="gone", **{"class": "max_age"})]
    assert (2, 0) == (await letters.discard(rows), await letters.discard(rows))
    assert [("m1", "discarded"), ("m2", "discarded")] == sorted(
        (mark.message_id, mark.outcome) for mark in await sent(redis, "warehouse")
    )
    assert {"discarded:crm:permanent": 1, "to:warehouse": 1} == await counts(redis, shard_of("anon1", SHARDS))
    assert {"discarded:gone:max_age": 1, "to:warehouse": 1} == await counts(redis, shard_of("m2", SHARDS))
    assert [("m1", DONE)] == (await letters.replay([letter(1)])).skipped


async def test_pages_follow_one_another_up_to_the_limit(make, monkeypatch):
    monkeypatch.setattr(dead_letters, "PAGE", 2)
    letters = make()
    shelf = letters._warehouse
    shelf.letters = [letter(number) for number in range(5)]

    async def ids(limit: int | None = None) -> list[list[str]]:
        return [[row["message_id"] for row in page] async for page in letters.pages(limit, destination="crm")]

    assert [["m0", "m1"], ["m2", "m3"], ["m4"]] == await ids()
    assert [["m0", "m1"], ["m2"]] == await ids(3)
    assert [["m0", "m1"]] == await ids(2)
    assert {"destination": "crm"} == shelf.asked[0]
    shelf.letters = []
    assert [] == await ids()


async def test_one_whose_payload_was_not_stored_needs_todays_rules(make):
    result = await make(event(1)).replay([letter(1, payload=None)], as_was=True)
    assert [("m1", "its payload was not stored; replay it by today's rules")] == result.skipped


async def test_as_it_was_it_is_not_sent_without_its_event_or_without_todays_consent(make, redis):
    agreed = {"consent": {"categoryPreferences": {"marketing": True}}}
    letters = make(event(1), event(2, context=agreed), consent=True)
    result = await letters.replay([letter(1), letter(2), letter(3)], as_was=True)
    assert [("m1", "consent")] == result.filtered
    assert [("m3", "its event is not in the warehouse (yet)")] == result.skipped
    assert ["m2"] == [decode(item.data).message_id for item in await sent(redis)]


async def test_nothing_to_send_is_no_error(make):
    assert Replayed(0, [], []) == await make().replay([])


async def test_without_room_it_says_so_and_what_was_sent_is_served(make, redis):
    claims: list = []
    letters = make(*(event(number) for number in range(20)), claims=claims)
    await redis.set(Lane(1, "crm").key, "not a stream")
    with pytest.raises(Exception, match="WRONGTYPE"):
        await letters.replay([letter(number) for number in range(20)])
    kept = await redis.xlen(Lane(0, "crm").key)
    assert bool(kept) == bool(claims)
    used = (await redis.info("memory"))["used_memory"]
    await redis.config_set("maxmemory", used)
    try:
        with pytest.raises(UnavailableError):
            await letters.replay([letter(1)])
    finally:
        await redis.config_set("maxmemory", 256 * 1024 * 1024)


class Story:
    """Two dead letters in a real warehouse, and what becomes of them where clocks are apart."""

    def __init__(self, warehouse: SqlWarehouse, letters: DeadLetters, redis: Any, monkeypatch: pytest.MonkeyPatch):
        self.warehouse = warehouse
        self.letters = letters
        self._redis = redis
        self._monkeypatch = monkeypatch
        self._loaded = 0
        self._dead = 0

    def tell(self, ms: int) -> None:
        """From now on this is the time by the operator's clock."""
        self._monkeypatch.setattr(dead_letters, "now_ms", lambda: START + ms)

    async def die(self, ms: int) -> list[DeadLetter]:
        """What was sent again dies, at this time by a worker's clock; its letters aren't loaded yet."""
        hands = [in_hand(item, "crm") for item in (await sent(self._redis))[self._dead :]]
        self._dead += len(hands)
        return [dead_letter(hand, "crm", class_="permanent", reason="again", now_ms=START + ms) for hand in hands]

    async def load(self, *letters: DeadLetter) -> None:
        """Loads the marks that there are by now, and behind them these letters, as one batch."""
        marks = (await sent(self._redis, "warehouse"))[self._loaded :]
        self._loaded += len(marks)
        await self.warehouse.deliver(messages(*marks, *letters))

    async def listed(self, **filters: Any) -> list[tuple[str, str]]:
        pages = [page async for page in self.letters.pages(**filters)]
        return [(row["message_id"], row["reason"]) for page in pages for row in page]


START = 1_790_000_000_000


def first_death(number: int, ms: int) -> DeadLetter:
    at = write_time(EPOCH + timedelta(milliseconds=START + ms))
    return warehouse_letter(f"m{number}", source="web", reason="first", first_at=at, last_at=at)


@pytest.fixture
async def story(warehouse_url, lanes, redis, monkeypatch):
    warehouse = warehouse_at(warehouse_url)
    crm = SimpleNamespace(consent=(), enabled=True, batch_size=9, concurrency=9, rate_limit=None, calls=None)

    async def enqueue(found):
        pass

    feed = Feed(lanes, 1, {"crm": crm}, enqueue)
    letters = DeadLetters(warehouse, feed, 1, by_todays_rules, {"crm": crm}, "rules 2")
    await warehouse.deliver(messages(*(warehouse_record(f"m{number}", source="web") for number in (1, 2))))
    yield Story(warehouse, letters, redis, monkeypatch)
    await warehouse.close()


async def test_one_that_died_again_is_listed_though_the_operators_clock_is_ahead(story):
    await story.load(first_death(1, 0))
    story.tell(11_500)
    await story.letters.replay(await story.warehouse.find_dead_letters())
    await story.load(*await story.die(10_500))
    assert [("m1", "again")] == await story.listed()


async def test_one_that_died_again_is_listed_though_that_workers_clock_is_behind(story):
    await story.load(first_death(1, 2_000))
    story.tell(3_000)
    await story.letters.replay(await story.warehouse.find_dead_letters())
    await story.load()
    await story.load(*await story.die(1_500))
    assert [("m1", "again")] == await story.listed()


async def test_one_that_died_by_a_clock_that_is_ahead_is_marked_as_sent(story):
    await story.load(first_death(1, 2_000))
    story.tell(500)
    await story.letters.replay(await story.warehouse.find_dead_letters())
    await story.load()
    assert [] == await story.listed()
    assert ["sent"] == [row["outcome"] for row in await story.warehouse.find_dead_letters(replayed=True)]


async def test_what_dies_again_at_once_is_not_sent_a_second_time_by_the_same_command(story, monkeypatch):
    monkeypatch.setattr(dead_letters, "PAGE", 1)
    await story.load(first_death(1, 0), first_death(2, 100))
    until = datetime.fromtimestamp((START + 2_000) / 1000, UTC)
    story.tell(200)
    sent_again = []
    async for page in story.letters.pages(until=until):
        sent_again += [row["message_id"] for row in page]
        await story.letters.replay(page, until=until)
        await story.load(*await story.die(300 + len(sent_again)))
    assert ["m1", "m2"] == sent_again
    assert [("m1", "again"), ("m2", "again")] == await story.listed()
