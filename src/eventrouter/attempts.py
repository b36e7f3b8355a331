"""An attempt: one try to deliver a batch, what came of it, and the search for the delivery at fault."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    repeat: list[InHand] = msgspec.field(default_factory=list)
    """With `whole`: the part of the batch that met it, and may have been taken; what was pinned is repeated so."""


@dataclass(slots=True)
class Attempts:
    """Makes the attempts of one destination."""

    destination: Destination
    timeout: float
    """Seconds."""
    lenient: bool = True
    """False for the warehouse: its batches are never split, and every failure is the whole destination's."""
    secrets: tuple[str, ...] = field(default=(), repr=False)

    async def deliver(self, batch: Sequence[InHand], *, alone: Callable[[], bool]) -> Verdict:
        """Tries `batch`; splits what is refused as a whole until the delivery at fault is alone.

        `alone` is asked when a batch of one fails: whether it may be at fault itself; otherwise the destination is.
        """
        verdict = Verdict()
        await self._part(list(batch), verdict, alone=alone)
        return verdict

    async def _part(self, batch: list[InHand], verdict: Verdict, *, alone: Callable[[], bool]) -> None:
        outcome = await self._call(batch)
        if isinstance(outcome, Mapping):
            self._each(batch, outcome, verdict, alone=alone)
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
                if not alone():
                    verdict.whole = outcome
        elif len(batch) == 1:
            verdict.failed.append((batch[0], outcome))
        else:
            middle = len(batch) // 2
            await self._part(batch[:middle], verdict, alone=alone)
            waiting = {hand.key for hand, failure in verdict.failed if not is_final(failure)}
            rest = [hand for hand in batch[middle:] if hand.key not in waiting]
            verdict.untried += [hand for hand in batch[middle:] if hand.key in waiting]
            if verdict.whole is not None:
                verdict.untried += rest
            elif rest:
                await self._part(rest, verdict, alone=alone)

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
        except (ConnectionError, OSError) as error:
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
