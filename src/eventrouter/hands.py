"""What a turn has in hand: deliveries that were read, waiting to be tried or under way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Coroutine, Iterable, Sequence
from itertools import chain
from typing import Any

from .delivery import InHand
from .lane import Pins
from .poison import has_failed_often, is_suspected
from .target import Policy
from .verdict import Verdict


def pin_of(batch: Iterable[InHand], pins: Pins) -> str | None:
    """The pin of `batch`, if it has one."""
    ids = {hand.item.id for hand in batch}
    return next((pin for pin, parts in pins.items() if ids.issuperset(chain(*parts))), None)


class Hands:
    """Keeps order: nothing is taken whose lane key is under way, or has an older delivery waiting.

    What is suspected of poison is taken with care: one delivery, then twice as many after each success.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._units = self._bytes = self._parked_units = self._parked_bytes = 0
        """Of all that is in hand, and of what is parked of it."""
        self.pinned: deque[list[list[InHand]]] = deque()
        """Batches that have to be repeated as they were: as a whole, or in the parts that are left of them."""
        self.pending: deque[InHand] = deque()
        """Read, and waiting to be tried, in order."""
        self.tasks: dict[asyncio.Task[Verdict], list[InHand]] = {}
        """Attempts under way."""
        self._busy: set[str] = set()
        self._width = 1
        """How many go together that are suspected of poison."""

    @property
    def waiting(self) -> bool:
        """Whether anything waits to be tried."""
        return bool(self.pending or self.pinned)

    def room(self) -> tuple[int, int]:
        """How many units and bytes may be read; none when either is used up."""
        units, size = self._policy.read_units - self._units, self._policy.read_bytes - self._bytes
        return (units, size) if units > 0 and size > 0 else (0, 0)

    def room_for_parked(self) -> tuple[int, int]:
        """How many units and bytes of what is parked may be read: it fills half of the room, however much is due."""
        units = self._policy.read_units // 2 - self._parked_units
        return max(units, 0), max(self._policy.read_bytes // 2 - self._parked_bytes, 0)

    def add(self, hand: InHand) -> None:
        """`hand` was read: it waits behind all others."""
        self._count([hand])
        self.pending.append(hand)

    def repeat(self, parts: list[list[InHand]]) -> None:
        """A batch was read that has to be repeated as it was, in these parts."""
        self._count(chain(*parts))
        self.pinned.append(parts)

    def _count(self, hands: Iterable[InHand], sign: int = 1) -> None:
        for hand in hands:
            units, size = sign * len(hand.messages), sign * len(hand.item.data)
            self._units += units
            self._bytes += size
            if hand.item.parked:
                self._parked_units += units
                self._parked_bytes += size

    def parked_keys(self) -> set[str]:
        """The lane keys whose parked deliveries are in hand."""
        return self._busy | {hand.key for hand in self.pending if hand.item.parked}

    def siblings(self, key: str) -> list[InHand]:
        """What waits of a lane key."""
        return [hand for hand in self.pending if hand.key == key]

    def drop(self, keys: Collection[str]) -> None:
        """Lets go of what waits of these lane keys: it was parked."""
        if keys:
            self._count((hand for hand in self.pending if hand.key in keys), -1)
            self.pending = deque(hand for hand in self.pending if hand.key not in keys)

    def _put_back(self, hands: Sequence[InHand]) -> None:
        self.pending.extendleft(reversed(hands))

    def parked_last(self) -> None:
        """What failed before, and may be at fault itself, is taken last; the order of each key stays."""
        self.pending = deque(sorted(self.pending, key=lambda hand: hand.item.parked))

    def take(self, most: int | None = None) -> list[InHand]:
        """The next batch, in order; `most` messages, by default as many as a batch may have.

        Parked deliveries that failed alone after a batch with them had failed go by themselves, or they would spoil
        another one. Where batches are pinned all parked ones do, as they went before: pins hold items of the stream.
        """
        batch: list[InHand] = []
        passed: list[InHand] = []
        blocked = self._busy | {hand.key for hand in chain(*chain(*self.pinned))}
        most = most or self._policy.batch_size
        units, suspected = 0, False
        while self.pending and units < most:
            hand = self.pending.popleft()
            single = hand.item.parked and (self._policy.pin or hand.tries.together > 0)
            if hand.key and hand.key in blocked:
                passed.append(hand)
            elif batch and (single or suspected != self._is_suspected(hand)):
                passed.append(hand)
                blocked.add(hand.key)
            else:
                if not batch and (suspected := self._is_suspected(hand)):
                    most = min(most, self._width)
                batch.append(hand)
                units += len(hand.messages)
                if self._policy.apart and hand.key:
                    blocked.add(hand.key)
                if single:
                    break
        self._put_back(passed)
        return batch

    def _is_suspected(self, hand: InHand) -> bool:
        return is_suspected(hand, pinned=self._policy.pin)

    def another(self) -> list[InHand]:
        """What is a better probe than the pinned batches, when each of them has failed again and again."""
        self.pinned = deque(sorted(self.pinned, key=lambda parts: has_failed_often(chain(*parts))))
        if not self.pinned or not has_failed_often(chain(*self.pinned[0])):
            return []
        batch = self.take(1)
        if batch and batch[0].item.parked:
            self._put_back(batch)
            return []
        return batch

    def take_back(self, verdict: Verdict, batch: Sequence[InHand], pins: Pins) -> Pins:
        """Takes back what was not tried; returns what becomes of the pin of `batch`, if it has one."""
        pin = pin_of(batch, pins)
        left = verdict.repeat if pin is not None else []
        known = verdict.careful and bool(verdict.delivered or verdict.failed)
        if known or any(map(self._is_suspected, verdict.together + verdict.refused)):
            width = self._width = 1 if verdict.together or verdict.refused else max(2 * len(verdict.delivered), 1)
            cut = [part for first in left[:1] for part in (first[:width], first[width:]) if part]
            left = [*cut, *left[1:]]
        if left:
            self.repeat(left)
        repeated = {hand.item.id for hand in chain(*left)}
        untried = [hand for hand in verdict.untried if hand.item.id not in repeated]
        self._count(untried)
        self._put_back(untried)
        return {} if pin is None else {pin: [[hand.item.id for hand in part] for part in left]}

    def start(self, batch: list[InHand], attempt: Coroutine[Any, Any, Verdict]) -> None:
        """`batch` is under way."""
        self._busy.update(hand.key for hand in batch if hand.key)
        self.tasks[asyncio.create_task(attempt)] = batch

    def ended(self) -> list[tuple[Verdict, list[InHand]]]:
        """The attempts that have ended. Raises what one of them raised."""
        found = [(task.result(), self.tasks.pop(task)) for task in list(self.tasks) if task.done()]
        for _, batch in found:
            self._count(batch, -1)
            self._busy.difference_update(hand.key for hand in batch)
        return found
