"""An attempt: one try to deliver a batch, and the search for the delivery at fault."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .delivery import InHand
from .destination import Destination, Message, Outcome
from .errors import Reject, Retry, is_cancellation, plain
from .masking import Mask
from .masking import secrets_of as secrets_of
from .poison import blames
from .verdict import Bug as Bug
from .verdict import Failure, OwnFault, Verdict, is_final

PATIENCE_SECONDS = 60.0
"""How long a batch is split: what is known by then is settled, and the rest is another batch."""

DOUBTFUL = 2
"""After so many refusals with 401, 403, … in a row, and nothing taken, others are asked for a second opinion."""
OPINIONS = 3
"""How many others: together they are enough for a hold, whatever was taken before the batch."""


Permit = Callable[[int, float | None], Awaitable[bool]]

Note = Callable[[Sequence[Sequence[InHand]]], Awaitable[None]]
"""Notes in what parts a pinned batch is to be repeated."""


class Alone(Protocol):
    """Whether a delivery's failure may be its own fault; `again`: it had failed by itself before."""

    def __call__(self, message_id: str, *, again: bool) -> bool: ...


class _Work:
    """The attempts at one batch, under way."""

    def __init__(
        self,
        verdict: Verdict,
        parts: Sequence[Sequence[InHand]],
        alone: Alone,
        permit: Permit | None,
        note: Note | None,
        until: float,
    ) -> None:
        self.verdict = verdict
        self._parts = list(parts)
        """All of them, whatever became of some: nothing is settled yet."""
        self._note = note
        self._alone = alone
        self._permit = permit
        self._until = until
        self._calls = 0
        self._row = 0
        """Refusals that may be meant for all, since a delivery was taken."""
        self.stopped = False
        """Whether nothing more is tried."""
        self.refused: list[InHand] = []
        """The last batch that was refused as a whole."""

    def alone(self, batch: Sequence[InHand]) -> bool:
        """Whether the failure of `batch` may be its own fault."""
        return self._alone(batch[0].messages[0].id, again=all(hand.tries.made for hand in batch))

    @property
    def doubts(self) -> bool:
        """Whether the destination may be at fault, and not the events: a search among them would cost much."""
        return self._row >= (DOUBTFUL + OPINIONS if self.verdict.delivered else DOUBTFUL)

    @property
    def late(self) -> bool:
        """Whether it has taken so long that it ends as soon as something is known."""
        return time.monotonic() > self._until

    async def goes_on(self, batch: Sequence[InHand], *, doubted: bool) -> bool:
        """Whether `batch` is to be tried: not for ever, but until something is known. `doubted`: in spite of doubts."""
        if self.stopped and not doubted:
            return False  # for good: what was left may be a sibling of what comes next
        verdict = self.verdict
        known = verdict.delivered or verdict.failed
        ended = verdict.whole is not None or verdict.spoilt is not None
        goes_on = not (ended or (known and self.late) or (self.doubts and not doubted))
        if goes_on and self._permit is not None:
            until = self._until if self._calls else None
            goes_on = await self._permit(sum(len(hand.messages) for hand in batch), until)
        self._calls += 1
        self.stopped = not goes_on
        return goes_on

    async def cut(self, part: Sequence[InHand], *into: Sequence[InHand]) -> None:
        """From now on `part` is tried in the parts `into`, after a crash too: or what was taken could come again."""
        if self._note is not None:
            first = next(number for number, one in enumerate(self._parts) if one[0] is part[0])
            self._parts[first : first + 1] = into
            await self._note(self._parts)

    async def single_out(self, hand: InHand) -> None:
        """`hand` is tried by itself, first of all. So far nothing was taken: the parts of the others don't matter."""
        if self._note is not None:
            others = ([one for one in part if one is not hand] for part in self._parts)
            self._parts = [[hand], *(part for part in others if part)]
            await self._note(self._parts)

    def leave(self, part: list[InHand]) -> None:
        """`part` is left as it is, for another try."""
        self.verdict.untried += part
        self.verdict.repeat.append(part)

    def taken(self, hands: Sequence[InHand]) -> None:
        """These were delivered."""
        self.verdict.delivered += hands
        self.verdict.outlived = len(self.verdict.failed)
        self._row = 0

    def failed(self, hand: InHand, failure: Failure) -> None:
        """This one failed by itself."""
        self.verdict.failed.append((hand, failure))
        self._row += _may_mean_all(failure)


def _may_mean_all(failure: Failure) -> bool:
    return isinstance(failure, Reject) and not is_final(failure)


def _keys_that_wait(verdict: Verdict) -> set[str]:
    """Lane keys of which a delivery failed but is not dead: nothing of them may overtake it."""
    return {hand.key for hand, failure in verdict.failed if not is_final(failure)}


@dataclass(slots=True)
class Attempts:
    """Makes the attempts of one destination."""

    destination: Destination
    timeout: float
    """Seconds."""
    lenient: bool = True
    """False for the warehouse: its batches are never split, and every failure is the whole destination's."""
    pinned: bool = False
    """Whether a retry must repeat the very same batch: what becomes another one is not tried before that is noted."""
    secrets: tuple[str, ...] | None = field(default=None, repr=False)
    """What is masked; None: the secrets of the destination's options."""
    _mask: Mask = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._mask = Mask(secrets_of(self.destination.options) if self.secrets is None else self.secrets)

    async def deliver(
        self,
        *parts: Sequence[InHand],
        alone: Alone,
        permit: Permit | None = None,
        note: Note | None = None,
        careful: bool = False,
    ) -> Verdict:
        """Tries a batch, or the parts that are left of it; splits what is refused until the delivery at fault is alone.

        `alone` is asked when deliveries fail by themselves: whether they may be at fault; otherwise the destination is.
        `permit` is asked before each call with the number of messages, and until when (monotonic) the call may wait;
        None for the first one, before which anything may wait. False ends the attempts; the rest is untried.
        `note` is told, before they are tried, in what parts a pinned batch is to be repeated; what it raises is raised.
        `careful`: the first part is suspected of poison. It alone is tried, and its failure may be its own.
        """
        verdict = Verdict(careful=careful)
        until = time.monotonic() + max(PATIENCE_SECONDS - self.timeout, 1.0)
        work = _Work(verdict, parts, alone, permit, note, until)
        for part in parts:
            await self._next(part, work)
            work.stopped = work.stopped or careful
        if work.doubts and not verdict.delivered:
            await self._ask_others(work)
            verdict.repeat = []
        # Of a pinned batch the parts that are left say where the search goes on.
        if not (self.pinned or verdict.delivered or verdict.failed or verdict.whole or verdict.spoilt):
            verdict.refused = work.refused
        return verdict

    async def _next(self, part: Sequence[InHand], work: _Work) -> None:
        """Tries `part`, but for what has to wait since a sibling before it failed."""
        waiting = _keys_that_wait(work.verdict)
        work.verdict.untried += [hand for hand in part if hand.key in waiting]
        rest = [hand for hand in part if hand.key not in waiting]
        left = {hand.key for one in work.verdict.repeat for hand in one}
        if rest and self.pinned and (len(rest) < len(part) or any(hand.key in left for hand in rest)):
            work.leave(rest)
        elif rest:
            await self._part(rest, work)

    async def _part(self, batch: list[InHand], work: _Work, *, doubted: bool = False) -> None:
        verdict = work.verdict
        if not await work.goes_on(batch, doubted=doubted):
            work.leave(batch)
            return
        outcome = await self.call([message for hand in batch for message in hand.messages])
        if isinstance(outcome, Mapping):
            self._each(batch, outcome, work)
        elif not self.lenient:
            reason = str(outcome) or type(outcome).__name__
            verdict.whole = outcome if isinstance(outcome, Retry) else Retry(reason)
            work.leave(batch)
        elif isinstance(outcome, Retry):
            self._retry(batch, outcome, work)
        elif len(batch) == 1:
            work.failed(batch[0], outcome)
        else:
            work.refused = batch
            # The shortest way to know something, when there is no time left: a turn has to end before its job does.
            middle = 1 if work.late else len(batch) // 2
            await work.cut(batch, batch[:middle], batch[middle:])
            await self._part(batch[:middle], work)
            await self._next(batch[middle:], work)

    def _retry(self, batch: list[InHand], failure: Retry, work: _Work) -> None:
        verdict = work.verdict
        own = verdict.careful and blames(failure)
        if len(batch) == 1 and (own or not failure.everyone):
            # It is parked in any case: were it at fault itself, it would be every probe from now on.
            work.failed(batch[0], failure)
            if failure.everyone or not work.alone(batch):
                verdict.whole = failure
            return
        work.leave(batch)
        if blames(failure):
            verdict.together = batch
        if own and not failure.everyone:
            verdict.spoilt = failure
        else:
            verdict.whole = failure

    async def _ask_others(self, work: _Work) -> None:
        """Two deliveries were refused with 401, 403, …: tries a few others, one by one, until one is taken.

        Whether they are at fault is for the settlement to judge. They are parked in any case: two of them at the head
        of the lane would be every probe of a destination that is well.
        """
        verdict = work.verdict
        waiting = _keys_that_wait(verdict)
        firsts = {hand.key: hand for hand in reversed(verdict.untried) if hand.key not in waiting}
        others = [hand for hand in verdict.untried if firsts.get(hand.key) is hand]
        for hand in others[:: max(len(others) // OPINIONS, 1)][:OPINIONS]:
            rest = [one for one in verdict.untried if one is not hand]
            verdict.untried = []
            await work.single_out(hand)
            await self._part([hand], work, doubted=True)
            verdict.untried += rest
            if verdict.delivered or verdict.whole is not None:
                return

    def _each(self, batch: Sequence[InHand], outcomes: Mapping[str, Outcome], work: _Work) -> None:
        if not outcomes:
            work.taken(batch)
            return
        verdict = work.verdict
        found = list(outcomes.values())
        every = len(found) == len(batch) and all(isinstance(one, Retry) for one in found)
        if self.lenient and every and not work.alone(batch):
            verdict.whole = next(one for one in found if isinstance(one, Retry))
        failures = [
            next((outcomes[message.id] for message in hand.messages if message.id in outcomes), None) for hand in batch
        ]
        if delivered := [hand for hand, failure in zip(batch, failures, strict=True) if failure is None]:
            work.taken(delivered)
        for hand, failure in zip(batch, failures, strict=True):
            if failure is None:
                continue
            if not self.lenient:
                verdict.whole = Retry(str(failure))
                verdict.untried.append(hand)
            elif isinstance(failure, Reject) and delivered:
                work.failed(hand, OwnFault(failure))
            else:
                work.failed(hand, failure)

    async def call(self, messages: Sequence[Message]) -> Mapping[str, Outcome] | Failure:
        """Calls the plugin once: what it did not deliver by message id, or why none was; raises nothing of its own."""
        try:
            async with asyncio.timeout(self.timeout):
                return _checked(await self.destination.deliver(messages), messages)
        except (Retry, Reject) as outcome:
            return plain(outcome)
        except TimeoutError:
            return Retry(f"no answer within {self.timeout:g} s")
        except OSError as error:
            return Retry(self.mask(f"{type(error).__name__}: {error}"), everyone=isinstance(error, ConnectionError))
        except BaseException as error:
            if is_cancellation(error):
                raise
            return Bug(error)

    def mask(self, text: str, most: int | None = None) -> str:
        """`text` without the destination's secrets, then cut after `most` characters."""
        return self._mask(text, most)


def _checked(outcomes: object, messages: Sequence[Message]) -> Mapping[str, Outcome]:
    """What `deliver` returned, if it may return that: otherwise what was not taken could count as delivered."""
    if outcomes is None:
        return {}
    if not isinstance(outcomes, Mapping):
        raise TypeError(f"deliver() returned {type(outcomes).__name__}, not a mapping of message ids to outcomes")
    ids = {message.id for message in messages}
    found: dict[str, Outcome] = {}
    for key, outcome in outcomes.items():
        if key not in ids:
            raise ValueError(f"deliver() returned an outcome for {str(key)[:100]!r}, which is no id of its messages")
        if not isinstance(outcome, Retry | Reject):
            raise TypeError(f"deliver() returned {type(outcome).__name__} as an outcome, not Retry or Reject")
        found[key] = plain(outcome)
    return found
