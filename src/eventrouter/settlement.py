"""A settlement: what becomes of deliveries after their attempts, put into one atomic step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import msgspec
import structlog
from redis.exceptions import RedisError

from . import outcome_log
from .delivery import InHand, dead_letter
from .errors import Reject, Retry, storable
from .lag import lag_counts
from .lane import Append, Item, Park, Pins, Removal
from .lanes import Turn
from .records import DeadLetter, pack, unpack
from .server_time import now_ms
from .target import Target
from .verdict import Bug, Failure, Verdict, is_final

log = structlog.get_logger("eventrouter.settlement")

MAX_PARKED_KEYS = 10_000
"""Parked keys of a lane; beyond it a failure is the whole destination's."""
SUSPECT_TRIES = 3
"""How often a delivery is tried that is refused with 401, 403, … while nothing else is taken or refused."""
AGED_SECONDS = 1.0
"""So long after a parked delivery became too old it is looked at, whatever its wait: the clocks may be apart."""
REASON_LENGTH = 200
"""Characters of the reason that are kept with a parked delivery."""
RESPONSE_LENGTH = 2000
TRACEBACK_LENGTH = 4000
"""Characters of an answer (its beginning) and of a traceback (its end) in a dead letter."""
SURE = (
    "source",
    "message_id",
    "destination",
    "route",
    "class_",
    "reason",
    "first_at",
    "last_at",
    "event_type",
    "rules",
    "again",
)


class Settlement:
    """Collects verdicts with `add`, then `apply` judges and settles all of them; used once."""

    def __init__(self, target: Target, *, crowded: bool = False, probe: str = "") -> None:
        """`crowded` says that the lane has as many parked keys as it may have: no more are parked.

        `probe` is the token of the probe that made the verdicts, if one did.
        """
        self._target = target
        self._crowded = crowded
        self._probe = probe
        self._verdicts: list[Verdict] = []
        self._delivered: list[Item] = []
        self._letters: list[tuple[InHand, str, Failure]] = []
        self._parks: dict[str, Park] = {}
        self._pins: Pins = {}
        self._notes: list[Item] = []
        self._tried_again: list[outcome_log.Failed] = []
        self._held = False
        self._retried: Counter[str] = Counter()
        """Failures after which something is tried again, by status."""
        self._unreadable = 0
        """Records of what is delivered that nobody can read."""
        self._last_reason = ""
        self.wait: float | None = None
        """After `apply`: seconds that every lane of the destination has to wait; None: go on."""
        self.crowded = False
        """After `apply`: whether the lane has as many parked keys as it may have."""

    def add(self, verdict: Verdict, pins: Pins | None = None) -> None:
        """Takes a verdict; `pins` tells what is left of pinned batches (see `Turn.settle`)."""
        self._verdicts.append(verdict)
        self._delivered += [hand.item for hand in verdict.delivered]
        self._unreadable += sum(hand.unreadable for hand in verdict.delivered)
        self._pins |= pins or {}
        self._notes += [hand.item for hand in (*verdict.together, *verdict.refused)]

    def bury(self, hand: InHand, class_: str, failure: Failure) -> None:
        """`hand` becomes a dead letter of this class."""
        self._letters.append((hand, class_, failure))

    async def apply(
        self, turn: Turn, siblings: Callable[[str], Sequence[InHand]] = lambda _: (), done: Iterable[InHand] = ()
    ) -> set[str]:
        """Does it; returns the parked lane keys.

        `siblings` gives what else of a key is in hand: it is parked too. `done` are all deliveries that were tried.
        """
        await self._judge_all()
        for park in self._parks.values():
            park.items += [hand.item for hand in siblings(park.key)]
        records = [self._record(hand, class_, failure) for hand, class_, failure in self._letters]
        name = self._target.name
        removals = [Removal(item, f"delivered:{name}") for item in self._delivered]
        removals += [Removal(hand.item, f"dead:{name}:{class_}") for hand, class_, _ in self._letters]
        appends = [Append("warehouse", [("", len(records), _packed(records))], "to:warehouse")] if records else []
        due = {hand.key for hand in done if hand.item.parked and hand.key not in self._parks and not siblings(hand.key)}
        unreadable = {f"{name}:unreadable": self._unreadable} if self._unreadable else {}
        lag = lag_counts(name, self._delivered, now_ms())
        with self._target.counts.taken() as taken:
            claims, parked = await turn.settle(
                removals,
                list(self._parks.values()),
                self._pins,
                sorted(due),
                appends,
                {**taken, **self._retried, **unreadable, **lag},
                notes=self._notes,
                outcomes=self._outcomes(records) if turn.lanes.outcome_bytes else (),
            )
        self.crowded = parked >= MAX_PARKED_KEYS
        if claims:
            await self._target.enqueue(claims)
        if self._last_reason:
            await self._target.health.parked(self._retried.total(), self._last_reason)
        if self._target.dropped is not None:
            for record in records:
                self._target.dropped(record)
        return set(self._parks)

    async def _judge_all(self) -> None:
        health = self._target.health
        # Successes first: a refusal beside them is not meant for every event.
        taken = any(verdict.delivered for verdict in self._verdicts)
        if taken:
            # What was taken is settled, even where nobody can be told: on a Cluster that is another server.
            with suppress(RedisError, OSError, TimeoutError):
                await health.succeeded(probe=self._probe)
        answered = False
        for verdict in self._verdicts:
            for number, (hand, failure) in enumerate(verdict.failed):
                answered = answered or is_final(failure)
                class_ = await self._judge(hand, failure, beside=taken, outlived=number < verdict.outlived)
                if class_:
                    self.bury(hand, class_, failure)
                elif self._crowded and not hand.item.parked:
                    self._wait(await health.failed("too many deliveries fail one by one", probe=self._probe))
                else:
                    self._park(hand, failure)
            if verdict.whole is not None:
                await self._fail_whole(verdict, verdict.whole)
            elif verdict.spoilt is not None:
                self._count_retry(verdict.spoilt)
                self._last_reason = self._target.mask(verdict.spoilt)
        if answered and not taken and self.wait is None:
            await health.succeeded(probe=self._probe)

    async def _fail_whole(self, verdict: Verdict, failure: Retry) -> None:
        health, reason = self._target.health, self._target.mask(failure)
        self._count_retry(failure)
        if verdict.despite and not failure.everyone and not health.state:
            # The destination takes others: only the lane of this batch waits.
            self._last_reason = reason
            self._wait(health.delay(verdict.together[0].tries.together, failure.after))
        else:
            self._wait(await health.failed(reason, failure.after, probe=self._probe))

    def _wait(self, seconds: float) -> None:
        self.wait = max(self.wait or 0.0, seconds)

    async def _judge(self, hand: InHand, failure: Failure, *, beside: bool, outlived: bool) -> str | None:
        """The class of the dead letter that `hand` becomes; None: it is tried again.

        `beside` says that others were taken, `outlived` that some of them were after it had failed.
        """
        health, tries = self._target.health, hand.tries
        before, refused_before = tries.last_ms, tries.refused_ms
        tries.made += 1
        tries.last_ms = now_ms()
        tries.first_ms = tries.first_ms or tries.last_ms
        if is_final(failure):
            return "permanent"
        if isinstance(failure, Reject):
            tries.refused_ms = max(health.last_success_ms - 1, 1) if outlived else tries.last_ms
            if refused_before and health.last_success_ms > refused_before:
                return "permanent"  # others were taken after it had been refused so
            if beside:
                return None
            if self._held:
                return None
            reason = self._target.mask(failure)
            wait, refusals = await health.refused(hand.messages[0].id, reason, probe=self._probe)
            if wait > 0:
                self._held = True
                self._wait(wait)
            elif refusals.number >= SUSPECT_TRIES and not refusals.several:
                return "permanent"
            return None
        if isinstance(failure, Bug) or beside or tries.made == 1 or health.last_success_ms > before:
            tries.attempts += 1
        if tries.attempts >= self._target.policy.max_attempts:
            return "plugin_bug" if isinstance(failure, Bug) else "attempts"
        return None

    def _park(self, hand: InHand, failure: Failure) -> None:
        after = failure.after if isinstance(failure, Retry) else None
        delay = int(min(self._target.health.delay(hand.tries.made, after), self._seconds_left(hand)) * 1000)
        self._count_retry(failure)
        self._last_reason = self._target.mask(failure)
        hand.tries.reason = self._last_reason[:REASON_LENGTH]
        hand.note_tries()
        status = None if isinstance(failure, Bug) else failure.status
        self._tried_again.append(outcome_log.tried_again(hand, self._last_reason, status))
        self._parks.setdefault(hand.key, Park(hand.key, delay, [])).items.append(hand.item)

    def _seconds_left(self, hand: InHand) -> float:
        """Until the delivery is looked at because it is too old."""
        max_age = self._target.policy.max_age
        if max_age is None or hand.delivery is None:
            return math.inf
        return max(max_age - (now_ms() - hand.delivery.since_ms) / 1000, 0.0) + AGED_SECONDS

    def _outcomes(self, records: Sequence[DeadLetter]) -> list[bytes]:
        """The entry for the outcome log; the warehouse's tables tell of its own deliveries."""
        delivered = chain.from_iterable(verdict.delivered for verdict in self._verdicts)
        failed = [*self._tried_again, *map(outcome_log.dead, records)]
        found = outcome_log.entry(now_ms(), self._target.name, delivered, failed)
        return [found] if found else []

    def _count_retry(self, failure: Failure) -> None:
        self._retried[f"retried:{self._target.name}:{_status(failure)}"] += 1

    def _record(self, hand: InHand, class_: str, failure: Failure) -> DeadLetter:
        answered = failure if isinstance(failure, Retry | Reject) else None
        mask = self._target.attempts.mask
        return dead_letter(
            hand,
            self._target.name,
            class_=class_,
            reason=self._target.mask(failure),
            now_ms=now_ms(),
            status=answered.status if answered else None,
            response=mask(answered.response, RESPONSE_LENGTH) if answered else "",
            traceback=mask(failure.text)[-TRACEBACK_LENGTH:] if isinstance(failure, Bug) else "",
        )


def _status(failure: Failure) -> str:
    """What a failure is counted under; only so many of them, since each is a counter."""
    if isinstance(failure, Bug):
        return "bug"
    if failure.status is None:
        return "none"
    return str(failure.status) if 100 <= failure.status <= 599 else "other"


def _packed(records: Sequence[DeadLetter]) -> bytes:
    """`records` as an item that can be read again: another would stand in the way of the warehouse's lane for ever."""
    try:
        item = pack(records)
        unpack(item)
    except (msgspec.MsgspecError, TypeError, ValueError):
        log.exception("a dead letter was cut down, since it could not be stored")
        return pack([_cut_down(record) for record in records])
    return item


def _cut_down(record: DeadLetter) -> DeadLetter:
    """`record`, or if it can't be stored, what of it surely can."""
    try:
        unpack(pack([record]))
    except (msgspec.MsgspecError, TypeError, ValueError):
        texts: dict[str, Any] = {name: storable(getattr(record, name)) for name in SURE}
        return DeadLetter(attempts=int(record.attempts), **texts)
    return record
