"""The rules by which ids become persons: pure, in memory, over what the state database knows of one batch's ids.

The graph of this version is simple: a person has at most one user id and any number of anonymous ids. A person that has
a user never goes away; so merges need no chains.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any

from eventrouter.blocked import is_blocked
from eventrouter.events import Event

ANONYMOUS_ID = "anonymous_id"
USER_ID = "user_id"

Key = bytes
"""16 bytes that stand for an identifier (type, value), whatever its length."""

Snapshot = Mapping[Key, tuple[str, Key | None]]
"""What the state database knows: identifier → (its person's id, the key of that person's user or None)."""


def key_of(type_: str, value: str) -> Key:
    """The key of an identifier; the same on every machine and in every version."""
    return hashlib.blake2b(f"{type_}\0{value}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def new_person_id() -> str:
    """A new person's id: a version 7 UUID (RFC 9562 §5.7), 32 hex digits.

    The time in front keeps new rows together in every index on it, here and in the warehouse; 74 bits are random.
    """
    chance = secrets.randbits(74)
    milliseconds = time.time_ns() // 1_000_000
    return f"{milliseconds:012x}7{chance >> 62:03x}{0x8000000000000000 | chance & 0x3FFFFFFFFFFFFFFF:016x}"


def clean(value: str) -> str:
    """`value` as a database and JSON can hold it: NUL and lone surrogates become U+FFFD."""
    if value.isascii():
        return value.replace("\0", "\ufffd")
    return value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Step:
    """What one event says about ids: the keys of those that count, None for those that are absent or blocked."""

    __slots__ = ("anonymous", "event", "previous", "user")

    def __init__(self, event: Event, anonymous: Key | None, user: Key | None, previous: tuple[Key, Key] | None) -> None:
        self.event = event
        self.anonymous = anonymous
        self.user = user
        self.previous = previous
        """An alias's previousId as an anonymous id and as a user id."""


class Batch:
    """The ids of a batch of events, in order; made once per batch, read-only afterwards."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.identifiers: dict[Key, tuple[str, str]] = {}
        """key → (type, value) of every identifier in the batch."""
        anonymous_keys: dict[Any, Key | None] = {None: None}
        user_keys: dict[Any, Key | None] = {None: None}
        self.steps: list[Step] = []
        for event in events:
            anonymous = event.get("anonymousId")
            user = event.get("userId")
            try:
                anonymous_key = anonymous_keys[anonymous]
            except (KeyError, TypeError):
                anonymous_key = self._add(anonymous_keys, ANONYMOUS_ID, anonymous)
            try:
                user_key = user_keys[user]
            except (KeyError, TypeError):
                user_key = self._add(user_keys, USER_ID, user)
            previous = None
            if event.get("type") == "alias" and user_key is not None:
                value = event.get("previousId")
                as_anonymous = self._add(anonymous_keys, ANONYMOUS_ID, value)
                as_user = self._add(user_keys, USER_ID, value)
                if as_anonymous is not None and as_user is not None and as_user != user_key:
                    previous = (as_anonymous, as_user)
            self.steps.append(Step(event, anonymous_key, user_key, previous))

    def _add(self, keys: dict[Any, Key | None], type_: str, value: Any) -> Key | None:
        """The key of `value`, remembered in `keys`; None when it is no text or a blocked one."""
        if not isinstance(value, str):
            return None
        key = keys[value] = None if is_blocked(value) else key_of(type_, value)
        if key is not None:
            self.identifiers[key] = (type_, value)
        return key


class Person:
    """One person while a batch is worked through."""

    __slots__ = ("fresh", "id", "into", "user")

    def __init__(self, id_: str, user: Key | None, *, fresh: bool) -> None:
        self.id = id_
        self.user = user
        """The key of the person's user id, None while it is anonymous."""
        self.fresh = fresh
        """True when this batch made it, so that the state database does not know it yet."""
        self.into: Person | None = None
        """The person that this one turned out to be."""


class Graph:
    """Works a batch through, event by event, and collects what is to be changed in the state database."""

    def __init__(self, snapshot: Snapshot) -> None:
        persons: dict[str, Person] = {}
        self._people: dict[Key, Person] = {}
        for key, (person_id, user) in snapshot.items():
            person = persons.get(person_id)
            if person is None:
                person = persons[person_id] = Person(person_id, user, fresh=False)
            self._people[key] = person
        self.created: list[tuple[Person, Event]] = []
        """New persons, with the event that showed each."""
        self.tied: list[tuple[Key, Person, Event]] = []
        """New identifiers; the person may meanwhile be merged: see `Person.into`."""
        self.joined: list[Person] = []
        """Persons of the state database that got their user in this batch."""
        self.merged: list[tuple[Person, Person, Event]] = []
        """(who is gone, who it turned out to be, the event that showed it)."""

    @property
    def changed(self) -> bool:
        """True when the state database has to be written."""
        return bool(self.tied or self.merged)

    def walk(self, batch: Batch) -> list[str | None]:
        """The person of each event of `batch` as known at that event; None for an event without an id that counts."""
        people = self._people
        found: list[str | None] = []
        for step in batch.steps:
            if step.previous is not None:
                self._alias(step)
            anonymous, user = step.anonymous, step.user
            if anonymous is not None and user is not None:
                person = people.get(user)
                if person is None or person is not people.get(anonymous):
                    person = self._tie(anonymous, user, step.event)
            elif user is not None:
                person = people.get(user) or self._create(user, user, step.event)
            elif anonymous is not None:
                person = people.get(anonymous) or self._create(anonymous, None, step.event)
                person = person.into or person
            else:
                found.append(None)
                continue
            found.append(person.id)
        return found

    def _tie(self, anonymous: Key, user: Key, event: Event) -> Person:
        """The person of an event that carries both ids, after tying them as far as the rules allow."""
        owner = self._people.get(user)
        visitor = self._people.get(anonymous)
        if visitor is not None and visitor.into is not None:
            visitor = visitor.into
        if owner is None:
            if visitor is None or visitor.user is not None:
                owner = self._create(user, user, event)
            else:
                owner = visitor
                owner.user = user
                if not owner.fresh:
                    self.joined.append(owner)
                self._add(user, owner, event)
        if visitor is None:
            self._add(anonymous, owner, event)
        elif visitor is not owner and visitor.user is None:
            visitor.into = owner
            self.merged.append((visitor, owner, event))
        return owner

    def _alias(self, step: Step) -> None:
        """Ties previousId, as an anonymous id, to userId; one that is known as a user's stays alone.

        Asking for the user first keeps a second run over the same events from changing anything.
        """
        assert step.previous is not None and step.user is not None
        as_anonymous, as_user = step.previous
        if as_user not in self._people:
            self._tie(as_anonymous, step.user, step.event)

    def _create(self, key: Key, user: Key | None, event: Event) -> Person:
        person = Person(new_person_id(), user, fresh=True)
        self.created.append((person, event))
        self._add(key, person, event)
        return person

    def _add(self, key: Key, person: Person, event: Event) -> None:
        self._people[key] = person
        self.tied.append((key, person, event))
