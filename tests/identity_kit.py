"""What the tests of identity share: events, a naive model of the rules, and a run that is held against it."""

from __future__ import annotations

import asyncio
import copy
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import psycopg
from hypothesis import strategies as st

from eventrouter.builtin.identity import IdentityEnrichment
from eventrouter.events import StoredEvent
from eventrouter.records import AnyRecord, Identity, IdentityMerge


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Meanwhile somebody else holds a lock that keeps every writer waiting."""
    if url.startswith("sqlite"):
        other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.close()
        return
    with psycopg.connect(url) as client:
        client.execute("LOCK TABLE eventrouter_state.clock, eventrouter_state.outbox IN ACCESS EXCLUSIVE MODE")
        yield
        client.rollback()


BLOCKED = ("null", "0")


def stored(anonymous: str | None = None, user: str | None = None, **more: Any) -> StoredEvent:
    """An accepted event with these ids."""
    event = {"type": "track", "messageId": "m1", "receivedAt": "2026-11-24T17:00:00.123Z", **more}
    if anonymous is not None:
        event["anonymousId"] = anonymous
    if user is not None:
        event["userId"] = user
    return StoredEvent("website", event)


def new_identity(url: str, **more: Any) -> IdentityEnrichment:
    """An enrichment as a worker process has it."""
    return IdentityEnrichment(IdentityEnrichment.Options(url=url), **more)


def persons(events: Sequence[StoredEvent]) -> list[str | None]:
    """The `person_id` of each."""
    return [event.event.get("person_id") for event in events]


class Warehouse:
    """What a warehouse makes of the records: the higher `seq` holds, a repeat changes nothing."""

    def __init__(self) -> None:
        self.identities: dict[tuple[str, str], Identity] = {}
        self.merges: dict[str, IdentityMerge] = {}

    def load(self, records: Sequence[AnyRecord]) -> None:
        """Takes records in, in whatever order and however often."""
        self.load_json(msgspec.json.encode(list(records)))

    def load_json(self, records: bytes | str) -> None:
        """Takes records in as they travel."""
        for record in msgspec.json.decode(records, type=list[Identity | IdentityMerge]):
            if isinstance(record, IdentityMerge):
                assert self.merges.setdefault(record.person_id, record) == record
            elif record.seq >= self.identities.get((record.type, record.value), record).seq:
                self.identities[record.type, record.value] = record

    def today(self, person_id: str | None) -> str | None:
        """Who that person is by today's knowledge."""
        while person_id is not None and person_id in self.merges:
            person_id = self.merges[person_id].into_person_id
        return person_id

    def person(self, type_: str, value: str) -> str:
        """The person of an identifier."""
        return self.identities[type_, value].person_id


class Model:
    """The rules once more, as naive as can be: a list of groups of identifiers."""

    def __init__(self) -> None:
        self.groups: list[set[tuple[str, str]]] = []

    def group(self, identifier: tuple[str, str] | None) -> set[tuple[str, str]] | None:
        """The group that holds `identifier`."""
        return next((group for group in self.groups if identifier in group), None)

    @staticmethod
    def has_user(group: set[tuple[str, str]]) -> bool:
        """True when the person is known by a user id."""
        return any(type_ == "user_id" for type_, _ in group)

    def tie(self, anonymous: tuple[str, str], user: tuple[str, str]) -> None:
        """Ties the two as far as the rules allow."""
        mine, theirs = self.group(anonymous), self.group(user)
        if mine is None and theirs is None:
            self.groups.append({anonymous, user})
        elif mine is None and theirs is not None:
            theirs.add(anonymous)
        elif mine is not None and theirs is None:
            if self.has_user(mine):
                self.groups.append({user})
            else:
                mine.add(user)
        elif mine is not None and theirs is not None and mine is not theirs and not self.has_user(mine):
            theirs |= mine
            self.groups.remove(mine)

    def event(self, event: dict[str, Any]) -> tuple[str, str] | None:
        """Takes one event in; returns an identifier of its person."""
        anonymous = self.identifier("anonymous_id", event.get("anonymousId"))
        user = self.identifier("user_id", event.get("userId"))
        if event["type"] == "alias" and user is not None:
            previous = self.identifier("anonymous_id", event.get("previousId"))
            if previous is not None and self.group(("user_id", previous[1])) is None and previous[1] != user[1]:
                self.tie(previous, user)
        if anonymous is not None and user is not None:
            self.tie(anonymous, user)
        for identifier in (anonymous, user):
            if identifier is not None and self.group(identifier) is None:
                self.groups.append({identifier})
        return user or anonymous

    @staticmethod
    def identifier(type_: str, value: str | None) -> tuple[str, str] | None:
        """The identifier, None when it does not count."""
        return None if value is None or value in BLOCKED else (type_, value)


_anonymous = st.sampled_from([None, "a", "b", "c", "x", "null"])
_users = st.sampled_from([None, "u", "v", "x", "0"])
_events = st.builds(
    lambda type_, anonymous, user, previous: stored(anonymous, user, type=type_, previousId=previous),
    st.sampled_from(["track", "identify", "alias"]),
    _anonymous,
    _users,
    st.sampled_from([None, "a", "b", "u", "x", "y", "null"]),
)
turns = st.lists(
    st.tuples(
        st.integers(0, 1),  # the worker
        st.integers(0, 2),  # the shard
        st.lists(_events, min_size=1, max_size=6),
        st.sampled_from(["settled", "lost", "crash"]),
    ),
    max_size=8,
)
"""A history: which worker ran a turn of which shard with which events, and whether what it returned was kept."""


async def check_history(
    history: Sequence[tuple[int, int, list[StoredEvent], str]], new: Callable[[], IdentityEnrichment]
) -> None:
    """Runs `history` on workers that `new` makes and holds the outcome against the model."""
    workers = [new(), new()]
    crashed: list[IdentityEnrichment] = []
    model = Model()
    warehouse = Warehouse()
    seen: list[tuple[tuple[str, str] | None, StoredEvent]] = []
    for number, shard, events, outcome in history:
        events = copy.deepcopy(events)
        worker = workers[number]
        records = await worker.enrich(shard, events)
        seen += [(model.event(event.event), event) for event in events]
        if outcome == "settled":
            warehouse.load(records)
            await worker.settled(shard)
        elif outcome == "crash":  # the state is kept, what was returned is not, and nobody says good-bye
            crashed.append(workers[number])
            workers[number] = new()
    for shard in range(3):
        warehouse.load(await workers[0].enrich(shard, []))
        await workers[0].settled(shard)

    # every identifier is known, and two are of one person exactly when the model says so
    assert set().union(*model.groups) == set(warehouse.identities)
    by_group = [{warehouse.person(*identifier) for identifier in group} for group in model.groups]
    assert [len(found) for found in by_group] == [1] * len(by_group)
    assert len(set().union(*by_group)) == len(by_group)
    # two users never share a person
    users = [record.person_id for record in warehouse.identities.values() if record.type == "user_id"]
    assert len(set(users)) == len(users)
    # every event, however early, is today the person of its ids
    for identifier, event in seen:
        then = event.event.get("person_id")
        assert warehouse.today(then) == (None if identifier is None else warehouse.person(*identifier))

    # a second run over everything changes nothing
    for _, shard, events, _ in history:
        again = copy.deepcopy(events)
        assert list(await workers[0].enrich(shard, again)) == []
    for (_, first), again_event in zip(seen, [event for _, _, events, _ in history for event in events], strict=True):
        repeat = copy.deepcopy(again_event)
        await workers[1].enrich(0, [repeat])
        assert repeat.event.get("person_id") == warehouse.today(first.event.get("person_id"))
    for worker in workers + crashed:
        await worker.close()


async def check_crowd(new: Callable[[], IdentityEnrichment], *, workers: int, batches: int) -> None:
    """Many workers tie the same few ids at once, each by its own connection: no tie is lost, no person doubled."""
    warehouse = Warehouse()
    seen: list[StoredEvent] = []

    async def work(number: int) -> None:
        chance = random.Random(number)
        worker = new()
        for _ in range(batches):
            # every anonymous id belongs to one user here, so in the end each user is one person with all of its ids
            batch = [
                stored(f"a{id_}", chance.choice([f"u{id_ % 5}", None]))
                for id_ in (chance.randrange(40) for _ in range(5))
            ]
            records = await worker.enrich(number, batch)
            warehouse.load(records)
            seen.extend(batch)
            if chance.random() < 0.8:
                await worker.settled(number)
        warehouse.load(await worker.enrich(number, []))
        await worker.close()

    await asyncio.gather(*(work(number) for number in range(workers)))
    last = new()
    ties = [stored(f"a{id_}", f"u{id_ % 5}") for id_ in range(40)]
    warehouse.load(await last.enrich(0, ties))
    await last.close()
    assert len(set(persons(ties))) == 5
    assert {key: record.person_id for key, record in warehouse.identities.items()} == {
        (type_, event.event[name]): event.event["person_id"]
        for event in ties
        for type_, name in (("anonymous_id", "anonymousId"), ("user_id", "userId"))
    }
    expected = {event.event["anonymousId"]: event.event["person_id"] for event in ties}
    for event in seen:
        assert warehouse.today(event.event["person_id"]) == expected[event.event["anonymousId"]]
