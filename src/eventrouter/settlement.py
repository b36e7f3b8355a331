"""A settlement: what becomes of deliveries after their attempts, put into one atomic step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import msgspec

from .attempts import Bug, Failure, Verdict, is_final
from .delivery import InHand, Tries, dead_letter
from .errors import Reject, Retry
from .lane import Append, Park, Removal
from .lanes import Turn
from .records import DeadLetter, pack
from .target import Target

MAX_PARKED_KEYS = 10_000
"""Parked keys of a lane; beyond it a failure is the whole destination's."""
SUSPECT_TRIES = 3
"""How often a delivery is tried that is refused with 401, 403, … while nothing else is taken or refused."""


class Settlement:
    """Collects verdicts with `add`, then `apply` settles all of them; used once."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._removals: list[Removal] = []
        self._letters: list[tuple[InHand, str, Failure]] = []
        self._parks: dict[str, Park] = {}
        self._unpins: list[str] = []
        self._staying: set[str] = set()
        """Lane keys of which a delivery stays where it is, so that nothing of them may be parked before it."""
        self.wait: float | None = None
        """Seconds that every lane of the destination has to wait; None: go on."""

    async def add(self, verdict: Verdict, unpins: Iterable[str] = ()) -> None:
        """Judges each delivery of a verdict; `unpins` are the pinned batches that end with it."""
        health = self._target.health
        self._removals += [Removal(hand.item, f"delivered:{self._target.name}") for hand in verdict.delivered]
        taken = bool(verdict.delivered)
        for hand, failure in verdict.failed:
            class_ = await self._judge(hand, failure, verdict)
            if class_ != "":
                _count(hand.tries)
            if class_:
                self.bury(hand, class_, failure)
                taken = taken or isinstance(failure, Reject)
            elif hand.key in self._parks or (class_ is None and hand.key not in self._staying):
                self._park(hand, failure)
            else:
                self._staying.add(hand.key)
        if verdict.whole is not None:
            self._wait(await health.failed(self._target.mask(verdict.whole), verdict.whole.after))
        elif taken:
            await health.succeeded()
        self._unpins += unpins

    def bury(self, hand: InHand, class_: str, failure: Failure) -> None:
        """`hand` becomes a dead letter of this class."""
        self._letters.append((hand, class_, failure))

    async def apply(self, turn: Turn, siblings: Callable[[str], Sequence[InHand]]) -> set[str]:
        """Does it; returns the parked lane keys. `siblings` gives what else of a key is in hand: it is parked too."""
        for park in self._parks.values():
            park.items += [hand.item for hand in siblings(park.key)]
        records = [self._record(hand, class_, failure) for hand, class_, failure in self._letters]
        name = self._target.name
        self._removals += [Removal(hand.item, f"dead:{name}:{class_}") for hand, class_, _ in self._letters]
        appends = [Append("warehouse", [("", len(records), pack(records))], "to:warehouse")] if records else []
        claims, parked = await turn.settle(self._removals, list(self._parks.values()), self._unpins, appends)
        if parked > MAX_PARKED_KEYS:
            self._wait(await self._target.health.failed("too many deliveries fail one by one"))
        if claims:
            await self._target.enqueue(claims)
        if self._target.dropped is not None:
            for record in records:
                self._target.dropped(
                    source=record.source, message_id=record.message_id, destination=name, reason=record.reason
                )
        return set(self._parks)

    def _wait(self, seconds: float) -> None:
        self.wait = max(self.wait or 0.0, seconds)

    async def _judge(self, hand: InHand, failure: Failure, verdict: Verdict) -> str | None:
        """The class of the dead letter that `hand` becomes; None: it is parked; '': it stays, its destination waits."""
        health, tries = self._target.health, hand.tries
        if is_final(failure):
            return "permanent"
        others_succeed = bool(verdict.delivered) or health.last_success_ms > tries.last_ms > 0
        if isinstance(failure, Reject):
            if others_succeed:
                return "permanent"
            every_part = len(verdict.failed) > 1 and all(
                isinstance(other, Reject) and not is_final(other) for _, other in verdict.failed
            )
            wait, refusals = await health.refused(hand.messages[0].id, self._target.mask(failure), at_once=every_part)
            if wait > 0:
                self._wait(wait)
                return ""
            if refusals >= SUSPECT_TRIES:
                return "permanent"
        elif isinstance(failure, Bug) or others_succeed or not tries.made:
            tries.attempts += 1
        if tries.attempts >= self._target.policy.max_attempts:
            return "plugin_bug" if isinstance(failure, Bug) else "attempts"
        return None

    def _park(self, hand: InHand, failure: Failure) -> None:
        after = failure.after if isinstance(failure, Retry) else None
        delay = int(self._target.health.delay(hand.tries.made, after) * 1000)
        park = self._parks.setdefault(hand.key, Park(hand.key, delay, [], msgspec.json.encode(hand.tries)))
        park.items.append(hand.item)

    def _record(self, hand: InHand, class_: str, failure: Failure) -> DeadLetter:
        answered = failure if isinstance(failure, Retry | Reject) else None
        mask = self._target.attempts.mask
        return dead_letter(
            hand,
            self._target.name,
            class_=class_,
            reason=self._target.mask(failure),
            now_ms=int(time.time() * 1000),
            status=answered.status if answered else None,
            response=mask(answered.response) if answered else "",
            traceback=mask(failure.text) if isinstance(failure, Bug) else "",
        )


def _count(tries: Tries) -> None:
    """One more attempt was made."""
    tries.made += 1
    tries.last_ms = int(time.time() * 1000)
    tries.first_ms = tries.first_ms or tries.last_ms
