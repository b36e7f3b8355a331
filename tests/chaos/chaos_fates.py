"""What may have become of each event at one destination, by the rules that routed it and by what operators did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chaos_load import Sent
from chaos_operator import Replay, is_harmless
from chaos_rules import DEAD, DELIVERED, FILTERED, Variant


class Letter(NamedTuple):
    """A row of `dead_letters`."""

    class_: str
    last_at: str
    outcome: str
    """`dead`, or what became of it: sent, discarded, filtered."""


class Fates:
    """Of the events at `destination`."""

    def __init__(
        self,
        destination: str,
        events: Mapping[str, Sent],
        rules: Mapping[str, Variant],
        received: Mapping[str, str],
        letters: Mapping[str, Letter],
        replays: Sequence[Replay],
    ) -> None:
        """`rules` are those that routed an event, `received` is when it came, `letters` are its dead letters: by id."""
        self.destination = destination
        self.letters = letters
        self.rules = rules
        self._events = events
        self._received = received
        self._replays = [one for one in replays if one.destination == destination]

    def of(self, message_id: str) -> str:
        """What the rules made of it."""
        sent = self._events[message_id]
        return self.rules[message_id].fate(self.destination, sent.name, sent.poison)

    def all_of(self, fate: str) -> set[str]:
        """The events of which the rules made that."""
        return {message_id for message_id in self.rules if self.of(message_id) == fate}

    def may_die(self, message_id: str) -> bool:
        """Whether the receiver or a template may refuse it."""
        sent = self._events[message_id]
        return sent.poison or (self.destination == "one" and sent.name == "Broken")

    def replays(self, message_id: str, at: float = math.inf) -> int:
        """How many runs of replays may have sent it by then."""
        came, harmless = self._received[message_id], is_harmless(self._events[message_id])
        covering = [one for one in self._replays if one.began <= at and one.covers(came)]
        return sum(one.runs for one in covering if harmless or not one.harmless)

    def slack(self) -> int:
        """How many dead letters may be of events that a replay sent beside their own delivery, at most.

        Such a one may die twice, which is one dead letter; or die once and be delivered once.
        """
        return sum(self.replays(message_id) for message_id in self.rules if self.may_die(message_id))

    def ends(self, outcome: str) -> set[str]:
        """The dead letters of which that became."""
        return {message_id for message_id, letter in self.letters.items() if letter.outcome == outcome}

    def taken(self) -> set[str]:
        """What the receiver has to have taken."""
        return (self.all_of(DELIVERED) - set(self.letters)) | self.ends("sent")

    def arrived(self) -> set[str]:
        """What the receiver has to have seen."""
        refused = {message_id for message_id, letter in self.letters.items() if letter.class_ == "permanent"}
        return self.all_of(DELIVERED) | self.ends("sent") | refused

    def replayed(self) -> set[str]:
        """What a replay may have sent, whatever its rules made of it before."""
        return {message_id for message_id in self.rules if self.replays(message_id)}

    def is_exempt(self, message_id: str, at: float, *, taken: bool) -> bool:
        """Whether an arrival may be one that an operator sent, so that its order says nothing. `taken`: it was."""
        if self.replays(message_id, at):
            return True
        return message_id in self.letters and (taken or self.of(message_id) == DEAD)

    def faults(self) -> list[str]:
        """Dead letters that there can't be, or that are missing."""
        found = []
        for message_id, letter in self.letters.items():
            sent = self._events.get(message_id)
            classes = {
                *(["permanent"] if sent and sent.poison else []),
                *(["template"] if sent and self.destination == "one" and sent.name == "Broken" else []),
            }
            if letter.class_ not in classes:
                found.append(f"dead letter of {self.destination}: {message_id} is {letter}")
            elif self.of(message_id) == FILTERED and not self.replays(message_id):
                found.append(f"dead letter of {self.destination}: {message_id} was filtered, and is {letter}")
        missing = self.all_of(DEAD) - set(self.letters)
        if missing:
            found.append(f"no dead letters at {self.destination}: {sorted(missing)[:5]}")
        return found
