"""Lanes of a destination that is not served for now: what waits there grows old, and is not forgotten."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from .attempts import Attempts
from .config import Config
from .config_model import RetryConfig
from .delivery import in_hand
from .destination import Destination
from .health import Gate, Health
from .lane import Claim
from .lanes import Lanes
from .records import DeadLetter
from .target import Policy, Target


class Unserved(Health):
    """Of a destination to which nothing is sent for now, and that is looked at again in so many seconds."""

    def __init__(self, lanes: Lanes, name: str, seconds: float) -> None:
        super().__init__(lanes, name, initial=1.0, max_interval=1.0)
        self._seconds = seconds

    async def gate(self) -> Gate:
        return Gate(self._seconds)


async def unserved(
    config: Config,
    name: str,
    lanes: Lanes,
    enqueue: Callable[[Sequence[Claim]], Awaitable[None]],
    dropped: Callable[[DeadLetter], None],
    seconds: float,
) -> Target:
    """The target of a destination that can't be served for `seconds`: it sends nothing, but gives up what is too old.

    `retry.max_age` of a destination that is not in the rules (any more) is the default.
    """
    health = Unserved(lanes, name, seconds)
    one = config.destinations.get(name)
    if one is None:
        health.reason = "it is not in routes.yaml"
    elif not one.enabled:
        health.reason = "it is switched off"
    else:
        await health.is_paused()  # it is, or it can't start: now the reason is known
    retry = one.retry if one else RetryConfig()
    attempts = Attempts(Destination(Destination.Options(), destination=name), 1.0)
    return Target(name, Policy(max_age=retry.max_age, sends=False), attempts, health, in_hand, enqueue, dropped=dropped)
