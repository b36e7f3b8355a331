"""What a turn has in hand: deliveries that were read, waiting to be tried or under way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Coroutine, Sequence
from itertools import chain
from typing import Any

from .attempts import Verdict
from .delivery import InHand
from .target import Policy


class Hands:
    """Keeps order: nothing is taken whose lane key is under way, or has an older delivery waiting."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.pinned: deque[list[list[InHand]]] = deque()
        """Batches that have to be repeated as they were: as a whole, or in the parts that are left of them."""
        self.pending: deque[InHand] = deque()
        """Read, and waiting to be tried, in order."""
        self.tasks: dict[asyncio.Task[Verdict], list[InHand]] = {}
        """Attempts under way."""
        self._busy: set[str] = set()

    @property
    def waiting(self) -> bool:
        """Whether anything waits to be tried."""
        return bool(self.pending or self.pinned)

    def room(self) -> tuple[int, int]:
        """How many units and bytes may be read; none when either is used up."""
        units, size = self._policy.read_units, self._policy.read_bytes
        for batch in (self.pending, *chain(*self.pinned), *self.tasks.values()):
            for hand in batch:
                units -= len(hand.messages)
                size -= len(hand.item.data)
        return (units, size) if units > 0 and size > 0 else (0, 0)

    def parked_keys(self) -> set[str]:
        """The lane keys whose parked deliveries are in hand."""
        return self._busy | {hand.key for hand in self.pending if hand.item.parked}

    def siblings(self, key: str) -> list[InHand]:
        """What waits of a lane key."""
        return [hand for hand in self.pending if hand.key == key]

    def drop(self, keys: Collection[str]) -> None:
        """Lets go of what waits of these lane keys: it was parked."""
        if keys:
            self.pending = deque(hand for hand in self.pending if hand.key not in keys)

    def put_back(self, hands: Sequence[InHand]) -> None:
        """These were taken but not tried: they are the next."""
        self.pending.extendleft(reversed(hands))

    def parked_last(self) -> None:
        """What failed before, and may be at fault itself, is taken last; the order of each key stays."""
        self.pending = deque(sorted(self.pending, key=lambda hand: hand.item.parked))

    def take(self) -> list[InHand]:
        """The next batch, in order.

        Where batches are pinned, what is parked goes by itself, as it went before: pins hold items of the stream only.
        """
        single = self._policy.pin
        batch: list[InHand] = []
        passed: list[InHand] = []
        blocked = set(self._busy)
        units = 0
        while self.pending and units < self._policy.batch_size:
            hand = self.pending.popleft()
            if hand.key and hand.key in blocked:
                passed.append(hand)
            elif single and hand.item.parked and batch:
                passed.append(hand)
                blocked.add(hand.key)
            else:
                batch.append(hand)
                units += len(hand.messages)
                if self._policy.apart and hand.key:
                    blocked.add(hand.key)
                if single and hand.item.parked:
                    break
        self.put_back(passed)
        return batch

    def start(self, batch: list[InHand], attempt: Coroutine[Any, Any, Verdict]) -> None:
        """`batch` is under way."""
        self._busy.update(hand.key for hand in batch if hand.key)
        self.tasks[asyncio.create_task(attempt)] = batch

    def ended(self) -> list[tuple[Verdict, list[InHand]]]:
        """The attempts that have ended. Raises what one of them raised."""
        found = [(task.result(), self.tasks.pop(task)) for task in list(self.tasks) if task.done()]
        for _, batch in found:
            self._busy.difference_update(hand.key for hand in batch)
        return found
