"""The count after a chaos run: what was acknowledged against what is in the warehouse, at the sink, in the counters."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from chaos_fates import Fates, Letter
from chaos_findings import SHOWN, Findings
from chaos_load import Sent
from chaos_operator import Dealt, Replay, is_harmless
from chaos_rules import FILTERED, Variant
from chaos_sink import TAKEN, Arrival
from chaos_tables import Tables, column

from eventrouter.events import idempotency_key

SOURCE = "app"


class Ledger:
    """Compares; `faults` says what does not add up."""

    def __init__(
        self,
        events: Mapping[str, Sent],
        faulty: set[str],
        arrivals: Iterable[Arrival],
        status: dict[str, Any],
        data: Path | str,
        *,
        variants: Mapping[str, Variant] | None = None,
        replays: Sequence[Replay] = (),
        dealt: Sequence[Dealt] = (),
    ) -> None:
        """`data` is the data directory, or the URL of a warehouse on PostgreSQL.

        `variants` are the rules there were, by version (None: `Variant()`); `replays` and `dealt` what operators did.
        """
        self.events = events
        self.faulty = faulty
        self.arrivals = list(arrivals)
        self.status = status
        self.data = data
        self.faults = Findings()
        self._variants = variants
        self._replays = replays
        self._dealt = dealt
        self.exempt: Counter[str] = Counter()
        """Arrivals whose order says nothing, since an operator may have sent them."""

    def check(self) -> list[str]:
        """Everything; the faults that were found."""
        with closing(_warehouse(self.data)) as connection:
            Tables(connection, self.events, self.faults).check()
            self._check_rejected(connection)
            every = [self._fates(connection, destination) for destination in ("one", "many")]
        for fates in every:
            self.faults += fates.faults()
            self._check_ends(fates)
            self._check_dealt(fates)
            self._check_replays(fates)
            self._check_order(fates)
            self._check_keys(fates)
            self._check_versions(fates)
            self._check_counters(fates)
        self._check_sums()
        return self.faults

    def _fates(self, connection: Any, destination: str) -> Fates:
        rules: dict[str, Variant] = {}
        received: dict[str, str] = {}
        for message_id, version, came in connection.execute("SELECT id, rules, received_at FROM events"):
            received[message_id] = str(came)
            if self._variants is not None and version not in self._variants:
                self.faults.append(f"{message_id} was routed by rules that there never were: {version}")
            rules[message_id] = (self._variants or {}).get(version, Variant())
        letters = {}
        for message_id, class_, last_at, replayed_at, outcome in connection.execute(
            "SELECT message_id, class, last_at, replayed_at, outcome FROM dead_letters"
            f" WHERE destination = '{destination}'"
        ):
            end = str(outcome).partition(":")[0] if replayed_at else "dead"
            letters[message_id] = Letter(class_, str(last_at), end)
        return Fates(destination, self.events, rules, received, letters, self._replays)

    def _check_rejected(self, connection: Any) -> None:
        found = column(connection, "SELECT message_id FROM rejected_events")
        self.faults.once("rejected events", self.faulty, found)
        counted = sum(self.status["sources"][SOURCE]["rejected"].values())
        self.faults.same("rejected events counted, repeats included", max(counted, len(found)), counted)

    def _check_ends(self, fates: Fates) -> None:
        """Each delivery has one end: taken, or a dead letter and what became of that."""
        destination, may = fates.destination, fates.replayed()
        came = {one for arrival in self._of(destination) for one in arrival.message_ids}
        expected = fates.arrived()
        self.faults.same(f"arrivals at {destination}", expected, came - (may - expected))
        taken = {one for arrival in self._taken(destination) for one in arrival.message_ids}
        expected = fates.taken()
        self.faults.same(f"taken by {destination}", expected, taken - (may - expected))

    def _check_dealt(self, fates: Fates) -> None:
        """What an operator dealt with is none any more, or died again."""
        for dealt in self._dealt:
            if dealt.destination != fates.destination:
                continue
            left = {
                message_id
                for message_id, last_at in dealt.letters.items()
                if message_id not in dealt.skipped and fates.letters[message_id][1:] == (last_at, "dead")
            }
            self.faults.same(f"left by dead {dealt.command} of {dealt.destination}", set(), left)

    def _check_replays(self, fates: Fates) -> None:
        """What was there when a replay began came once more, unless it is refused."""
        for replay in self._replays:
            if replay.destination != fates.destination:
                continue
            since = {
                one
                for arrival in self._taken(fates.destination)
                if arrival.at >= replay.began
                for one in arrival.message_ids
            }
            wanted = {one for one in replay.found if is_harmless(self.events[one]) and fates.of(one) != FILTERED}
            self.faults.same(f"sent by the replay {replay.since}..{replay.until}", wanted, wanted & since)

    def _check_order(self, fates: Fates) -> None:
        """First arrivals, and first arrivals that were taken; but for those that an operator may have sent.

        What was refused for good holds up nothing behind it. It may still come again, when nobody lived to settle that,
        and be taken by a receiver that was mended meanwhile.
        """
        destination = fates.destination
        refused: set[str] = set()
        for what, taken in (("first arrivals", False), ("first taken", True)):
            last: dict[str, int] = defaultdict(int)
            seen: set[str] = set()
            faults = []
            for arrival in self._of(destination):
                if taken and (arrival.refused or arrival.answer not in TAKEN):
                    refused.update(arrival.message_ids if arrival.refused and len(arrival.message_ids) == 1 else ())
                    continue
                for message_id in arrival.message_ids:
                    if message_id in seen:
                        continue
                    seen.add(message_id)
                    if message_id in refused or fates.is_exempt(message_id, arrival.at, taken=taken):
                        self.exempt[what] += 1
                        continue
                    sent = self.events[message_id]
                    if sent.number < last[sent.key]:
                        faults.append(f"{message_id} after {last[sent.key]}")
                    last[sent.key] = max(last[sent.key], sent.number)
            told = "\n  ".join(self._history(destination, one.split()[0]) for one in faults[:SHOWN])
            self.faults.same(f"{what} out of order at {destination}: {told}", [], faults[:SHOWN])

    def _check_keys(self, fates: Fates) -> None:
        """A receiver that remembers each `webhook-id` takes no event twice, but for replays.

        What was refused was not taken: a part of it has another id, even where the receiver takes it in the end.
        """
        destination = fates.destination
        bodies: dict[str, set[str]] = defaultdict(set)
        members: dict[str, tuple[str, ...]] = {}
        ids: dict[str, set[str]] = defaultdict(set)
        refused = {arrival.webhook_id for arrival in self._of(destination) if arrival.refused}
        for arrival in self._of(destination):
            bodies[arrival.webhook_id].add(arrival.body)
            self.faults.same(
                "members of a batch", members.setdefault(arrival.webhook_id, arrival.message_ids), arrival.message_ids
            )
            for message_id in arrival.message_ids:
                if arrival.webhook_id not in refused:
                    ids[message_id].add(arrival.webhook_id)
                if destination == "one":
                    expected = idempotency_key(SOURCE, message_id, destination)
                    self.faults.same("webhook-id", expected, arrival.webhook_id)
        again = fates.replayed() | set(fates.letters)
        changed = [key for key, found in bodies.items() if len(found) > 1 and again.isdisjoint(members[key])]
        self.faults.same(f"bodies that changed at {destination}", [], changed)
        several = [message_id for message_id, keys in ids.items() if len(keys) > 1 + fates.replays(message_id)]
        if several:
            told = "\n  ".join(self._history(destination, message_id) for message_id in several[:SHOWN])
            self.faults.append(f"{len(several)} events under several keys at {destination}:\n  {told}")

    def _check_versions(self, fates: Fates) -> None:
        """What a delivery holds was made by the rules that routed it; by others only when an operator sent it.

        A replay goes on with the rules that it began with, also for what is routed meanwhile by later ones.
        """
        wrong = set()
        for arrival in self._of(fates.destination):
            for message_id, version in zip(arrival.message_ids, arrival.versions, strict=True):
                routed = fates.rules[message_id].version
                again = version > routed and message_id in fates.letters
                if version != routed and not again and not fates.replays(message_id, arrival.at):
                    wrong.add(f"{message_id}: {version} instead of {routed}")
        self.faults.same(f"rules of what came at {fates.destination}", set(), wrong)

    def _history(self, destination: str, message_id: str) -> str:
        """How an event came."""
        came = [arrival for arrival in self._of(destination) if message_id in arrival.message_ids]
        return f"{message_id}: " + ", ".join(
            f"{arrival.webhook_id[-6:]} ({len(arrival.message_ids)}) {arrival.answer} at {arrival.at:.2f}"
            for arrival in came
        )

    def _check_sums(self) -> None:
        """P2: what came is what went."""
        events = self.status["events"]
        self.faults.same("accepted", events["in_log"] + events["duplicates"] + events["routed"], events["accepted"])
        self.faults.same("routed", len(self.events), events["routed"])
        self.faults.same("sum of the warehouse", self._row("warehouse", "routed"), self._row("warehouse", "delivered"))

    def _check_counters(self, fates: Fates) -> None:
        """P2 at a destination; and the counters tell what the warehouse and the receiver know."""
        name, slack = fates.destination, fates.slack()
        routed, again = self._row(name, "routed"), self.status["destinations"][name]["replayed"].get("again", 0)
        fields = ("waiting", "delivered", "dead", "filtered", "discarded")
        waiting, delivered, dead, filtered, discarded = (self._row(name, field) for field in fields)
        self.faults.same(f"routed for {name}", self.status["events"]["routed"], routed)
        self.faults.same(f"sum of {name}", routed + again, delivered + waiting + filtered + dead + discarded)
        replays = [one for one in self._replays if one.destination == name]
        reported, more = sum(one.sent for one in replays), sum(one.more for one in replays)
        self.faults.near(f"replayed to {name}", reported, again, -slack, more)
        self.faults.near(f"dead letters counted for {name}", len(fates.ends("dead")), dead, 0, slack)
        self.faults.near(f"discarded for {name}", len(fates.ends("discarded")), discarded, 0, slack)
        lost = len(fates.all_of(FILTERED)) + len(fates.ends("filtered"))
        self.faults.near(f"filtered for {name}", lost, filtered, 0, slack)
        self.faults.near(f"delivered to {name}", len(fates.taken()), delivered - again, -slack, slack)

    def _row(self, destination: str, field: str) -> int:
        value = self.status["destinations"][destination][field]
        return sum(value.values()) if isinstance(value, dict) else int(value)

    def _of(self, destination: str) -> Iterable[Arrival]:
        return (arrival for arrival in self.arrivals if arrival.destination == destination)

    def _taken(self, destination: str) -> Iterable[Arrival]:
        return (arrival for arrival in self._of(destination) if not arrival.refused and arrival.answer in TAKEN)


def _warehouse(data: Path | str) -> Any:
    return psycopg.connect(data) if isinstance(data, str) else sqlite3.connect(data / "warehouse.sqlite3")
