"""An attempt: one try to deliver a batch, what came of it, and the search for the delivery at fault."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from pydantic import BaseModel, SecretBytes, SecretStr

from .delivery import InHand
from .destination import Destination, Message, Outcome
from .errors import Reject, Retry


class Bug(Exception):
    """An exception of the plugin that is neither `Retry` nor `Reject`; `text` is its traceback."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.text = "".join(traceback.format_exception(error))[-4000:]


Failure = Retry | Reject | Bug


MISCONFIGURED = frozenset({401, 403, 404, 405, 410})
"""Refusals that may mean the address or the key rather than the event."""


PATIENCE_SECONDS = 60.0
"""How long a batch is split, at most: what is known by then is settled, and the rest is another batch."""


def is_final(failure: Failure) -> bool:
    """Whether a delivery that fails so is dead at once: it is refused, and surely for its own sake."""
    return isinstance(failure, Reject) and failure.status not in MISCONFIGURED


class Verdict(msgspec.Struct):
    """What came of a batch; each of its deliveries is in exactly one of the lists."""

    delivered: list[InHand] = msgspec.field(default_factory=list)
    failed: list[tuple[InHand, Failure]] = msgspec.field(default_factory=list)
    """Deliveries that failed by themselves."""
    untried: list[InHand] = msgspec.field(default_factory=list)
    """Deliveries that were not tried, since the destination failed as a whole or a sibling before them failed."""
    whole: Retry | None = None
    """Why the destination failed as a whole."""
    hold: Reject | None = None
    """Why the destination seems misconfigured: different parts of the batch were refused so, and none was taken."""
    repeat: list[InHand] = msgspec.field(default_factory=list)
    """With `whole`: the part of the batch that met it, and may have been taken; what was pinned is repeated so."""


Permit = Callable[[int], Awaitable[bool]]


class _Work:
    """The attempts at one batch, under way."""

    def __init__(self, verdict: Verdict, alone: Callable[[], bool], permit: Permit | None, until: float) -> None:
        self.verdict = verdict
        self.alone = alone
        self._permit = permit
        self._until = until
        self._calls = 0

    @property
    def doubts(self) -> bool:
        """Whether it is to be doubted that the events are at fault: two of them were refused so, and none was taken."""
        return not self.verdict.delivered and sum(_may_mean_all(failure) for _, failure in self.verdict.failed) > 1

    async def goes_on(self, batch: Sequence[InHand]) -> bool:
        """Whether `batch` is to be tried."""
        self._calls += 1
        if self.verdict.whole is not None or self.doubts or (self._calls > 1 and time.monotonic() > self._until):
            return False
        return self._permit is None or await self._permit(sum(len(hand.messages) for hand in batch))


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
    secrets: tuple[str, ...] = field(default=(), repr=False)

    async def deliver(
        self, batch: Sequence[InHand], *, alone: Callable[[], bool], permit: Permit | None = None
    ) -> Verdict:
        """Tries `batch`; splits what is refused as a whole until the delivery at fault is alone.

        `alone` is asked when a batch of one fails: whether it may be at fault itself; otherwise the destination is.
        `permit` is asked before each call with the number of messages: False ends the attempts; the rest is untried.
        """
        verdict = Verdict()
        work = _Work(verdict, alone, permit, time.monotonic() + max(PATIENCE_SECONDS - self.timeout, 1.0))
        await self._part(list(batch), work)
        if work.doubts:
            await self._resolve(work)
        return verdict

    async def _part(self, batch: list[InHand], work: _Work) -> None:
        verdict = work.verdict
        if not await work.goes_on(batch):
            verdict.untried += batch
            return
        outcome = await self._call(batch)
        if isinstance(outcome, Mapping):
            self._each(batch, outcome, verdict, alone=work.alone)
        elif not self.lenient:
            reason = str(outcome) or type(outcome).__name__
            verdict.whole = outcome if isinstance(outcome, Retry) else Retry(reason)
            verdict.repeat = batch
            verdict.untried += batch
        elif isinstance(outcome, Retry):
            if len(batch) > 1 or outcome.everyone:
                verdict.whole = outcome
                verdict.repeat = batch
                verdict.untried += batch
            else:
                # It is parked in any case: were it at fault itself, it would be every probe from now on.
                verdict.failed.append((batch[0], outcome))
                if not work.alone():
                    verdict.whole = outcome
        elif len(batch) == 1:
            verdict.failed.append((batch[0], outcome))
        else:
            middle = len(batch) // 2
            await self._part(batch[:middle], work)
            waiting = {hand.key for hand in verdict.untried} | _keys_that_wait(verdict)
            verdict.untried += [hand for hand in batch[middle:] if hand.key in waiting]
            if rest := [hand for hand in batch[middle:] if hand.key not in waiting]:
                await self._part(rest, work)

    async def _resolve(self, work: _Work) -> None:
        """Two deliveries were refused with 401, 403, … and none taken: tries what is left, as one more batch."""
        verdict = work.verdict
        waiting = _keys_that_wait(verdict)
        rest = [hand for hand in verdict.untried if hand.key not in waiting]
        outcome: Mapping[str, Outcome] | Failure | None = None
        if rest:
            outcome = await self._call(rest)
        if isinstance(outcome, Mapping):
            verdict.untried = [hand for hand in verdict.untried if hand.key in waiting]
            self._each(rest, outcome, verdict, alone=work.alone)
        elif not rest or (isinstance(outcome, Reject) and not is_final(outcome)):
            suspects = [(hand, failure) for hand, failure in verdict.failed if _may_mean_all(failure)]
            verdict.hold = next(failure for _, failure in suspects if isinstance(failure, Reject))
            verdict.failed = [(hand, failure) for hand, failure in verdict.failed if not _may_mean_all(failure)]
            verdict.untried = [*(hand for hand, _ in suspects), *verdict.untried]

    def _each(
        self, batch: Sequence[InHand], outcomes: Mapping[str, Outcome], verdict: Verdict, *, alone: Callable[[], bool]
    ) -> None:
        if not outcomes:
            verdict.delivered += batch
            return
        found = list(outcomes.values())
        if self.lenient and len(found) == len(batch) and all(isinstance(one, Retry) for one in found) and not alone():
            verdict.whole = next(one for one in found if isinstance(one, Retry))
        for hand in batch:
            failures = [outcomes[message.id] for message in hand.messages if message.id in outcomes]
            if not failures:
                verdict.delivered.append(hand)
            elif self.lenient:
                verdict.failed.append((hand, failures[0]))
            else:
                verdict.whole = Retry(str(failures[0]))
                verdict.untried.append(hand)

    async def _call(self, batch: Sequence[InHand]) -> Mapping[str, Outcome] | Failure:
        messages = [message for hand in batch for message in hand.messages]
        try:
            async with asyncio.timeout(self.timeout):
                return _checked(await self.destination.deliver(messages), messages)
        except (Retry, Reject) as outcome:
            return outcome
        except TimeoutError:
            return Retry(f"no answer within {self.timeout:g} s")
        except OSError as error:
            return Retry(self.mask(f"{type(error).__name__}: {error}"), everyone=isinstance(error, ConnectionError))
        except Exception as error:
            return Bug(error)

    def mask(self, text: str) -> str:
        """`text` without the destination's secrets."""
        for secret in self.secrets:
            text = text.replace(secret, "**********")
        return text


def _checked(outcomes: object, messages: Sequence[Message]) -> Mapping[str, Outcome]:
    """What `deliver` returned, if it may return that: otherwise what was not taken could count as delivered."""
    if outcomes is None:
        return {}
    if not isinstance(outcomes, Mapping):
        raise TypeError(f"deliver() returned {type(outcomes).__name__}, not a mapping of message ids to outcomes")
    ids = {message.id for message in messages}
    for key, outcome in outcomes.items():
        if key not in ids:
            raise ValueError(f"deliver() returned an outcome for {str(key)[:100]!r}, which is no id of its messages")
        if not isinstance(outcome, Retry | Reject):
            raise TypeError(f"deliver() returned {type(outcome).__name__} as an outcome, not Retry or Reject")
    return outcomes


def secrets_of(options: object) -> tuple[str, ...]:
    """Every secret value in `options`, however deep, longest first."""
    return tuple(sorted(set(_secrets(options)), key=len, reverse=True))


def _secrets(value: object) -> Iterable[str]:
    if isinstance(value, SecretStr | SecretBytes):
        secret = value.get_secret_value()
        if secret:
            yield secret if isinstance(secret, str) else secret.decode("utf-8", "replace")
    elif isinstance(value, BaseModel):
        for _, part in value:
            yield from _secrets(part)
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _secrets(part)
    elif isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from _secrets(part)
