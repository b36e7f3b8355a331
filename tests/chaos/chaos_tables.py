"""The count of the warehouse's tables after a chaos run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from chaos_findings import Findings
from chaos_load import Sent

TYPED = {"page": "pages", "identify": "identifies"}


class Tables:
    """`check` them, through a `connection` to the database."""

    def __init__(self, connection: Any, events: Mapping[str, Sent], findings: Findings) -> None:
        self._connection = connection
        self._events = events
        self._findings = findings

    def check(self) -> None:
        """Each event is there once, in each of its tables, and belongs to one person."""
        self._check_events(self._connection)
        self._check_typed_tables(self._connection)
        self._check_identities(self._connection)

    def _check_events(self, connection: Any) -> None:
        unacknowledged = [sent.message_id for sent in self._events.values() if not sent.acknowledged_at]
        self._findings.same("events without an answer", [], unacknowledged)
        self._findings.once("events", set(self._events), column(connection, "SELECT id FROM events"))

    def _check_typed_tables(self, connection: Any) -> None:
        expected: dict[str, set[str]] = defaultdict(set)
        for message_id, sent in self._events.items():
            if sent.type == "track":
                expected["tracks"].add(message_id)
                expected[sent.name.lower().replace(" ", "_")].add(message_id)
            else:
                expected[TYPED[sent.type]].add(message_id)
        for table, ids in expected.items():
            self._findings.once(f"table {table}", ids, column(connection, f"SELECT id FROM {table}"))
        users = {sent.user for sent in self._events.values() if sent.type == "identify"}
        self._findings.once("table users", users, column(connection, "SELECT id FROM users"))

    def _check_identities(self, connection: Any) -> None:
        persons: dict[str, set[str]] = defaultdict(set)
        users: dict[str, set[str]] = defaultdict(set)
        rows = connection.execute("SELECT user_id, person_id FROM resolved_events WHERE user_id IS NOT NULL")
        for user, person in rows:
            persons[user].add(person)
            users[person].add(user)
        self._findings.same(
            "users with several persons", {}, {user: ids for user, ids in persons.items() if len(ids) > 1}
        )
        self._findings.same(
            "persons with several users", {}, {person: ids for person, ids in users.items() if len(ids) > 1}
        )
        nobody = column(connection, "SELECT id FROM events WHERE person_id IS NULL")
        self._findings.same("events without a person", [], nobody)
        known: dict[str, set[str]] = defaultdict(set)
        roots = dict(connection.execute("SELECT person_id, root_person_id FROM identity_merges").fetchall())
        for type_, value, person in connection.execute("SELECT type, value, person_id FROM identities"):
            if type_ in ("user", "user_id", "userId"):
                known[roots.get(person, person)].add(value)
        self._findings.same(
            "persons with several users in identities", [], [ids for ids in known.values() if len(ids) > 1]
        )
        self._findings.same(
            "users in identities", {sent.user for sent in self._events.values()} - {""}, set().union(*known.values())
        )


def column(connection: Any, query: str) -> list[str]:
    """The first column of what is found."""
    return [row[0] for row in connection.execute(query)]
