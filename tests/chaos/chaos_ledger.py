"""The count after a chaos run: what was acknowledged against what is in the warehouse, at the sink, in the counters."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from chaos_load import Sent
from chaos_sink import TAKEN, Arrival

from eventrouter.events import idempotency_key

SOURCE = "app"
TYPED = {"page": "pages", "identify": "identifies"}
SHOWN = 5
"""How many examples of a fault are told."""


class Ledger:
    """Compares; `faults` says what does not add up."""

    def __init__(
        self,
        events: Mapping[str, Sent],
        faulty: set[str],
        arrivals: Iterable[Arrival],
        status: dict[str, Any],
        data: Path | str,
    ) -> None:
        """`data` is the data directory, or the URL of a warehouse on PostgreSQL."""
        self.events = events
        self.faulty = faulty
        self.arrivals = list(arrivals)
        self.status = status
        self.data = data
        self.faults: list[str] = []

    def check(self) -> list[str]:
        """Everything; the faults that were found."""
        with closing(_warehouse(self.data)) as connection:
            self._check_events(connection)
            self._check_typed_tables(connection)
            self._check_identities(connection)
            self._check_dead_letters(connection)
            self._check_rejected(connection)
        for destination in ("one", "many"):
            self._check_arrivals(destination)
            self._check_order(destination)
            self._check_keys(destination)
        self._check_counters()
        return self.faults

    def expected(self, destination: str) -> tuple[set[str], set[str]]:
        """The ids of the events that reach a destination, and of those that must become dead letters there."""
        reach, dead = set(), set()
        for message_id, sent in self.events.items():
            if destination == "one" and sent.name == "Broken":
                dead.add(message_id)  # its template fails
                continue
            if destination == "many" and sent.name == "Unrouted":
                continue
            reach.add(message_id)
            if sent.poison:
                dead.add(message_id)
        return reach, dead

    def _same(self, what: str, expected: Any, actual: Any) -> None:
        if expected == actual:
            return
        if isinstance(expected, set):
            missing, surplus = sorted(expected - actual), sorted(actual - expected)
            self.faults.append(
                f"{what}: {len(missing)} missing ({', '.join(map(str, missing[:SHOWN]))}),"
                f" {len(surplus)} too many ({', '.join(map(str, surplus[:SHOWN]))})"
            )
        else:
            self.faults.append(f"{what}: expected {expected}, found {actual}")

    def _once(self, what: str, expected: set[str], found: Iterable[str]) -> None:
        counts = Counter(found)
        self._same(what, expected, set(counts))
        twice = [one for one, number in counts.items() if number > 1]
        if twice:
            self.faults.append(f"{what}: {len(twice)} more than once ({', '.join(twice[:SHOWN])})")

    def _check_events(self, connection: Any) -> None:
        unacknowledged = [sent.message_id for sent in self.events.values() if not sent.acknowledged_at]
        self._same("events without an answer", [], unacknowledged)
        self._once("events", set(self.events), _column(connection, "SELECT id FROM events"))

    def _check_typed_tables(self, connection: Any) -> None:
        expected: dict[str, set[str]] = defaultdict(set)
        for message_id, sent in self.events.items():
            if sent.type == "track":
                expected["tracks"].add(message_id)
                expected[sent.name.lower().replace(" ", "_")].add(message_id)
            else:
                expected[TYPED[sent.type]].add(message_id)
        for table, ids in expected.items():
            self._once(f"table {table}", ids, _column(connection, f"SELECT id FROM {table}"))
        users = {sent.user for sent in self.events.values() if sent.type == "identify"}
        self._once("table users", users, _column(connection, "SELECT id FROM users"))

    def _check_identities(self, connection: Any) -> None:
        persons: dict[str, set[str]] = defaultdict(set)
        users: dict[str, set[str]] = defaultdict(set)
        rows = connection.execute("SELECT user_id, person_id FROM resolved_events WHERE user_id IS NOT NULL")
        for user, person in rows:
            persons[user].add(person)
            users[person].add(user)
        self._same("users with several persons", {}, {user: ids for user, ids in persons.items() if len(ids) > 1})
        self._same("persons with several users", {}, {person: ids for person, ids in users.items() if len(ids) > 1})
        nobody = _column(connection, "SELECT id FROM events WHERE person_id IS NULL")
        self._same("events without a person", [], nobody)
        known: dict[str, set[str]] = defaultdict(set)
        roots = dict(connection.execute("SELECT person_id, root_person_id FROM identity_merges").fetchall())
        for type_, value, person in connection.execute("SELECT type, value, person_id FROM identities"):
            if type_ in ("user", "user_id", "userId"):
                known[roots.get(person, person)].add(value)
        self._same("persons with several users in identities", [], [ids for ids in known.values() if len(ids) > 1])
        self._same(
            "users in identities", {sent.user for sent in self.events.values()} - {""}, set().union(*known.values())
        )

    def _check_dead_letters(self, connection: Any) -> None:
        for destination in ("one", "many"):
            _, dead = self.expected(destination)
            query = f"SELECT message_id FROM dead_letters WHERE destination = '{destination}'"
            found = _column(connection, query)
            self._once(f"dead letters of {destination}", dead, found)
            self._same(f"dead letters counted for {destination}", len(found), self._row(destination, "dead"))

    def _check_rejected(self, connection: Any) -> None:
        found = _column(connection, "SELECT message_id FROM rejected_events")
        self._once("rejected events", self.faulty, found)
        counted = sum(self.status["sources"][SOURCE]["rejected"].values())
        self._same("rejected events counted, repeats included", max(counted, len(found)), counted)

    def _check_arrivals(self, destination: str) -> None:
        reach, _ = self.expected(destination)
        arrived = {one for arrival in self._of(destination) for one in arrival.message_ids}
        self._same(f"arrivals at {destination}", reach, arrived)

    def _check_order(self, destination: str) -> None:
        """First arrivals, and first arrivals that were taken."""
        for what, answers in (("first arrivals", None), ("first taken", TAKEN)):
            last: dict[str, int] = defaultdict(int)
            seen: set[str] = set()
            faults = []
            for arrival in self._of(destination):
                if answers and (arrival.refused or arrival.answer not in answers):
                    continue
                for message_id in arrival.message_ids:
                    if message_id in seen:
                        continue
                    seen.add(message_id)
                    sent = self.events[message_id]
                    if sent.number < last[sent.key]:
                        faults.append(f"{message_id} after {last[sent.key]}")
                    last[sent.key] = max(last[sent.key], sent.number)
            self._same(f"{what} out of order at {destination}", [], faults[:SHOWN])

    def _check_keys(self, destination: str) -> None:
        """A receiver that remembers each `webhook-id` takes no event twice.

        What was refused was not taken: a part of it has another id.
        """
        bodies: dict[str, set[str]] = defaultdict(set)
        ids: dict[str, set[str]] = defaultdict(set)
        for arrival in self._of(destination):
            bodies[arrival.webhook_id].add(arrival.body)
            for message_id in arrival.message_ids:
                if not arrival.refused:
                    ids[message_id].add(arrival.webhook_id)
                if destination == "one":
                    expected = idempotency_key(SOURCE, message_id, destination)
                    self._same("webhook-id", expected, arrival.webhook_id)
        self._same(
            f"bodies that changed at {destination}", [], [key for key, found in bodies.items() if len(found) > 1]
        )
        several = [message_id for message_id, keys in ids.items() if len(keys) > 1]
        if several:
            told = "\n  ".join(self._history(destination, message_id) for message_id in several[:SHOWN])
            self.faults.append(f"{len(several)} events under several keys at {destination}:\n  {told}")

    def _history(self, destination: str, message_id: str) -> str:
        """How an event came."""
        came = [arrival for arrival in self._of(destination) if message_id in arrival.message_ids]
        return f"{message_id}: " + ", ".join(
            f"{arrival.webhook_id[-6:]} ({len(arrival.message_ids)}) {arrival.answer} at {arrival.at:.2f}"
            for arrival in came
        )

    def _check_counters(self) -> None:
        """P2: what came is what went."""
        events = self.status["events"]
        routed = events["routed"]
        self._same("accepted", events["in_log"] + events["duplicates"] + routed, events["accepted"])
        self._same("routed", len(self.events), routed)
        for destination in ("one", "many"):
            waiting, delivered = self._row(destination, "waiting"), self._row(destination, "delivered")
            dead, filtered = self._row(destination, "dead"), self._row(destination, "filtered")
            reach, buried = self.expected(destination)
            self._same(f"routed for {destination}", routed, self._row(destination, "routed"))
            self._same(f"sum of {destination}", routed, delivered + waiting + filtered + dead)
            self._same(f"delivered to {destination}", len(reach - buried), delivered)
        self._same("sum of the warehouse", self._row("warehouse", "routed"), self._row("warehouse", "delivered"))

    def _row(self, destination: str, field: str) -> int:
        value = self.status["destinations"][destination][field]
        return sum(value.values()) if isinstance(value, dict) else int(value)

    def _of(self, destination: str) -> Iterable[Arrival]:
        return (arrival for arrival in self.arrivals if arrival.destination == destination)


def _warehouse(data: Path | str) -> Any:
    return psycopg.connect(data) if isinstance(data, str) else sqlite3.connect(data / "warehouse.sqlite3")


def _column(connection: Any, query: str) -> list[str]:
    return [row[0] for row in connection.execute(query)]
