"""A lane's turn at a destination: read, try, settle, go on until the lane is empty."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any

from .arrivals import Arrivals
from .attempts import Note
from .calls import Place
from .delivery import InHand
from .errors import Reject
from .hands import Hands, pin_of
from .lane import Claim, Item
from .lanes import Turn
from .lease import TurnLease
from .poison import is_suspected, note_failure, suspect
from .probe import Probe
from .server_time import now_ms
from .set_aside import set_aside
from .settlement import MAX_PARKED_KEYS, Settlement
from .stored import NewerFormatError, UnreadableError
from .target import Flag, Target
from .throttle import Pace
from .turn_failures import tell
from .verdict import Verdict

LINGER_SECONDS = 1.0
"""How long a turn waits at an empty lane before it gives the claim back."""
TURN_SECONDS = 60.0
"""After so long a turn lets others in."""
SHARED_SECONDS = 5.0
"""The same, while other lanes wait for its slot."""
SHARED_LINGER_SECONDS = 0.1
"""How long it waits at an empty lane then."""
NEWER_SECONDS = 30.0
"""How long a lane waits whose next item is for a newer version."""
LOOK_SECONDS = 300.0
"""How often a lane is looked at, however long its destination asks to wait: something may have grown too old."""
READ_BYTES = 4_000_000
"""What one read takes at most, about."""


class DeliveryTurn:
    """One turn of one lane. `run` serves it; a turn is used once."""

    def __init__(
        self, turn: Turn, target: Target, stopping: Flag, others_wait: Callable[[], bool] = lambda: False
    ) -> None:
        """`others_wait` tells whether other lanes wait for this turn's slot."""
        self._turn = turn
        self._lease = TurnLease(turn)
        self._target = target
        self._stopping = stopping
        self._others_wait = others_wait
        self._hands = Hands(target.policy)
        self._arrivals = Arrivals(turn, LINGER_SECONDS)
        self._cursor = ""
        self._closing: float | None = None
        """Seconds until the next turn, once this one is to end before the lane is empty."""
        self._makes_room = False
        """Whether it ends after the attempts in hand; a search for the event at fault goes on to its end."""
        self._probe = Probe(target.health)
        self._lost: list[tuple[Item, UnreadableError]] = []
        """Items that nobody can read."""
        self._newer = ""
        """Says so when an item is for a newer version: what came before it is sent, then the lane waits."""
        self._crowded = turn.parked >= MAX_PARKED_KEYS
        self._pace = Pace(target.throttle)

    async def run(self) -> Claim | None:
        """Serves the lane until it is empty (None) or another turn has to go on (its claim).

        Returns None too when another turn took over. Whatever else it raises, the sweep repairs.
        """
        async with self._lease:
            try:
                return await self._serve()
            finally:
                leftovers = [*self._hands.tasks, *self._arrivals.tasks]
                for task in leftovers:
                    task.cancel()
                await asyncio.gather(*leftovers, return_exceptions=True)
                await self._probe.leave()
        return None

    async def _serve(self) -> Claim | None:
        began = time.monotonic()
        lingered = False
        await self._restore_pins()
        while True:
            lasted = time.monotonic() - began
            self._makes_room = lasted > SHARED_SECONDS and self._others_wait()
            ends = self._stopping.is_set() or lasted > TURN_SECONDS or (self._makes_room and not self._hands.tasks)
            if self._closing is None and ends:
                self._closing = 0.0
            got = False
            leaves = lingered and not self._hands.tasks and not self._hands.waiting
            if self._goes_on() and self._may_read(leaves) and self._hands.room()[0] > 0:
                status, got = await self._read(give_back=leaves)
                if status == "idle":
                    return None
            if self._closing is None and self._newer and not (self._hands.tasks or self._hands.waiting):
                await tell(self._turn, self._newer, NEWER_SECONDS)
                self._closing = NEWER_SECONDS
            if self._goes_on() and self._hands.waiting:
                await self._gate()
            await self._launch()
            if self._hands.tasks:
                await self._collect()
                lingered = False
            elif self._closing is not None:
                await self._probe.end(told=False)
                return await self._turn.give_up(min(self._closing, LOOK_SECONDS))
            elif got:
                lingered = False
            elif not self._hands.pending:
                await self._arrivals.linger(SHARED_LINGER_SECONDS if self._others_wait() else None)
                lingered = True

    async def _restore_pins(self) -> None:
        for pin, ids in self._turn.pins.items():
            items = await self._turn.fetch(list(chain(*ids)))
            hands = {hand.item.id: hand for item in items if (hand := self._decode(item)) is not None}
            if self._newer:
                return
            # It ends with its youngest: without the old ones, the others would come again under another id.
            is_old = all(self._target.is_too_old(one, now_ms()) for one in hands.values())
            if hands.keys() >= set(chain(*ids)) and not is_old and self._may_repeat(ids):
                self._hands.repeat([[hands[one] for one in part] for part in ids])
            else:
                await self._turn.settle(pins={pin: []})
        await self._set_aside()

    def _may_repeat(self, ids: Sequence[Sequence[str]]) -> bool:
        """Whether a batch may go as it went: not where the destination has another plugin now, or smaller batches."""
        policy = self._target.policy
        return not policy.sends or (policy.pin and max(map(len, ids)) <= policy.batch_size)

    def _decode(self, item: Item) -> InHand | None:
        """The item in hand; None when it can't be read: see `_lost` and `_newer`."""
        try:
            return self._target.decode(item, self._target.name)
        except UnreadableError as error:
            self._lost.append((item, error))
        except NewerFormatError as error:
            self._newer = str(error)
        return None

    async def _set_aside(self) -> None:
        if self._lost:
            lost, self._lost = self._lost, []
            await set_aside(self._turn, lost, self._target.enqueue)

    async def _gate(self) -> None:
        if (wait := await self._probe.gate()) > 0:
            self._closing = wait

    def _goes_on(self) -> bool:
        return self._closing is None and not self._makes_room

    def _may_read(self, leaves: bool) -> bool:
        return not self._newer and (self._arrivals.may_be_there() or (leaves and self._others_wait()))

    async def _read(self, *, give_back: bool) -> tuple[str, bool]:
        units, size = self._hands.room()
        # One key of which much is parked leaves room for others.
        per_key = max(self._target.policy.batch_size, self._target.policy.read_units // 10)
        batch = await self._turn.read(
            self._cursor,
            units=units,
            size=min(size, READ_BYTES),
            parked=self._hands.room_for_parked(),
            per_key=per_key,
            give_back=give_back,
        )
        self._arrivals.note(batch)
        pinned = {item for parts in self._turn.pins.values() for item in chain(*parts)}
        taken = self._hands.parked_keys()
        aged = Settlement(self._target)
        some_aged = False
        for item in batch.items:
            if not item.parked:
                self._cursor = item.id
            elif item.key in taken:
                continue
            if item.id in pinned:
                continue
            hand = self._decode(item)
            if self._newer:
                break
            if hand is None:
                continue
            if self._target.is_too_old(hand, batch.now_ms):
                aged.bury(hand, "max_age", Reject(self._target.aged_reason(hand)))
                some_aged = True
            else:
                self._hands.add(hand)
        if some_aged:
            await aged.apply(self._turn)
        await self._set_aside()
        self._arrivals.forget()
        if batch.status == "empty":
            self._arrivals.of_empty(batch.last_id)
        return batch.status, bool(batch.items)

    async def _launch(self) -> None:
        policy = self._target.policy
        while self._goes_on() and len(self._hands.tasks) < (1 if self._probe.token else policy.concurrency):
            if self._probe.token:
                self._hands.parked_last()
            batch = self._hands.another() if self._probe.token else []
            if self._hands.pinned and not batch:
                self._start(*self._hands.pinned.popleft())
                continue
            if not batch:
                if not self._hands.pending:
                    return
                if (wait := self._batch_wait()) > 0:
                    if not self._hands.tasks:
                        self._closing = wait
                    return
                batch = self._hands.take()
            if not batch:
                return
            if policy.pin and not batch[0].item.parked:
                # A batch of one too: a retry could make it part of a larger one.
                await self._turn.pin(batch[0].item.id, [hand.item for hand in batch])
            self._start(batch)

    def _batch_wait(self) -> float:
        """Seconds until an incomplete batch is old enough to go."""
        policy = self._target.policy
        if not policy.batch_wait or len(self._hands.pending) >= policy.batch_size:
            return 0.0
        appended_ms = int(self._hands.pending[0].item.id.split("-")[0])
        wait = (appended_ms - self._arrivals.now_ms) / 1000 + policy.batch_wait
        return wait if wait < policy.batch_wait + 1 else 0.0  # longer: the server's clock was set back

    def _start(self, *parts: list[InHand]) -> None:
        self._hands.start(list(chain(*parts)), self._attempt(parts))

    async def _attempt(self, parts: Sequence[list[InHand]]) -> Verdict:
        target, health = self._target, self._target.health
        started = time.monotonic()
        careful = any(is_suspected(hand, pinned=target.policy.pin) for hand in chain(*parts))
        with Place(target.calls) as place:
            # One place for all calls of a search: what it knows so far would be lost, were it to wait for another one.
            permit = partial(self._permit, place)
            verdict = await target.attempts.deliver(
                *parts, alone=health.alone, permit=permit, note=self._note_of(parts), careful=careful
            )
        if verdict.delivered:
            health.taken()
        if verdict.together:
            verdict.despite = note_failure(verdict.together, health.last_success_ms)
        suspect(verdict.refused)
        target.tell(verdict, self._turn.lane.shard, time.monotonic() - started)
        return verdict

    def _note_of(self, parts: Sequence[Sequence[InHand]]) -> Note | None:
        pin = pin_of(chain(*parts), self._turn.pins) if self._turn.pins else None
        return partial(self._note, pin) if pin is not None else None

    async def _note(self, pin: str, parts: Sequence[Sequence[InHand]]) -> None:
        await self._turn.pin(pin, *([hand.item for hand in part] for part in parts))

    async def _permit(self, place: Place, messages: int, until: float | None) -> bool:
        """Whether a call may be made: while the turn goes on, at a place, at the rate, in its lane, unless paused."""
        if self._ends():
            return False
        if not await self._pace.wait(messages, until, partial(self._gives_up, place), place):
            self._closing = self._pace.delay if self._closing is None else self._closing
            return False
        # The lease comes last: the other questions may take longer than what is left of it.
        may_be_asked = not await self._target.health.is_paused() and await self._probe.is_held()
        return may_be_asked and await self._lease.is_held() and place.is_held()

    def _gives_up(self, place: Place) -> bool:
        """Whether it waits no longer: who is amid a search goes on to its end."""
        return self._ends() or (self._makes_room and not place.is_taken)

    def _ends(self) -> bool:
        return self._closing is not None or self._stopping.is_set() or self._lease.lost

    async def _collect(self) -> None:
        """Waits for an attempt to end, or for new items; settles every attempt that has ended."""
        waiting: set[asyncio.Task[Any]] = set(self._hands.tasks)
        timeout = None
        if self._goes_on() and len(self._hands.tasks) < self._target.policy.concurrency and not self._probe.token:
            waits = [self._arrivals.due_in() or 0.0, self._batch_wait() if self._hands.pending else 0.0]
            timeout = min((wait for wait in waits if wait > 0), default=None)
            if not self._newer and self._hands.room()[0] > 0:
                self._arrivals.forget()
                waiting.add(self._arrivals.more(self._cursor or "0-0"))
        await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        ended = self._hands.ended()
        if not ended:
            return
        # Whoever was frozen meanwhile knows nothing of the destination that is still true.
        if not await self._lease.is_held() and self._lease.lost:
            raise self._turn.fenced()
        settlement = Settlement(self._target, crowded=self._crowded, probe=self._probe.token)
        for verdict, batch in ended:
            settlement.add(verdict, self._hands.take_back(verdict, batch, self._turn.pins))
        tried = [hand for _, batch in ended for hand in batch]
        parked = await settlement.apply(self._turn, self._hands.siblings, tried)
        self._crowded = settlement.crowded
        if settlement.wait is not None:
            self._closing = max(self._closing or 0.0, settlement.wait)
        # When the probe told nothing of the destination, its delivery may be at fault.
        await self._probe.end(told=settlement.wait is not None or self._target.health.state == "")
        self._hands.drop(parked)
        if parked or any(hand.item.parked for hand in tried):
            self._arrivals.due_has_changed()
