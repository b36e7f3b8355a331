"""The health of a destination, shared by all workers and shards: backing off, on hold, one probe when it is back."""

from __future__ import annotations

import contextlib
import random
import time
from typing import NamedTuple

import structlog
from redis.exceptions import RedisError

from .lane import LEASE_MS, FencedError
from .lanes import Lanes
from .server_time import now_ms
from .step_arguments import new_token

log = structlog.get_logger("eventrouter.health")

FRESH_SECONDS = 1.0
"""How long a worker goes on with what it knows of a destination that is well."""
HOLD_SECONDS = 300.0
"""How often a destination on hold is probed."""
FIRST_PROBE_SECONDS = 10.0
"""When a hold is probed for the first time: it may have been a row of events that were refused for their own sake."""
SUCCESS_SPEAKS_SECONDS = 60.0
"""So long after a success, two refused messages are not enough for a hold: it takes `CONVINCING` ones."""
CONVINCING = 5
ROW, ROW_SECONDS = 3, 60.0
"""So many different deliveries that fail by themselves, nothing taken in between, are the destination's failure."""
SPEAKS_SECONDS = 10.0
"""So long after something was taken, what failed before and fails again tells nothing of the destination."""
QUIET_SECONDS = 10.0
"""How often it is logged that deliveries are tried again one by one."""


def health_key(destination: str) -> str:
    """Where the health of a destination is kept."""
    return f"er:{{dest:{destination}}}:health"


class Gate(NamedTuple):
    """Whether a batch may be tried now."""

    wait: float
    """Seconds; 0: go."""
    probe: str = ""
    """The token of a probe: the destination may be back, and who has it alone tries it, with one batch."""


class Refusals(NamedTuple):
    """Refusals that may be meant for every event, since the last success."""

    number: int
    several: bool
    """Whether they were of different messages."""


class Health:
    """What one worker knows of one destination.

    Results are told with the token of the probe that they are of, if any: once it is over they change nothing.
    """

    def __init__(self, lanes: Lanes, destination: str, *, initial: float, max_interval: float) -> None:
        """`initial` and `max_interval` bound the backoff, in seconds."""
        self._lanes = lanes
        self._destination = destination
        self._key = health_key(destination)
        self._initial = int(initial * 1000)
        self._longest = int(max_interval * 1000)
        self._left = ""
        """The token of a probe that a turn of this worker has left as it was."""
        self._fresh_until = 0.0
        self._told = 0.0
        self._well = False
        self._suspicious = False
        self._row: set[str] = set()
        self._row_began = 0.0
        self._parked = 0
        self._note_at = self._log_at = 0.0
        self.state = ""
        """'' (well), 'backoff', 'hold' or 'paused', as last seen."""
        self.reason = ""
        self.last_success_ms = 0

    async def _step(self, *args: object) -> tuple[float, bool, Refusals]:
        asked = time.monotonic()
        state, wait, probe, success, reason, _, refusals, several = await self._lanes.run("health", [self._key], args)
        self._tell(state.decode(), reason.decode(), int(wait) / 1000)
        self.state = state.decode()
        self.reason = reason.decode()
        # No later than now, for clocks may be set back: what is refused next is not to be told from it.
        self.last_success_ms = min(max(self.last_success_ms, int(success)), now_ms())
        self._well = self.state == ""
        self._fresh_until = asked + FRESH_SECONDS
        return int(wait) / 1000, probe == 1, Refusals(int(refusals), several == 1)

    def _tell(self, state: str, reason: str, wait: float) -> None:
        """Logs a change of state, once in each worker."""
        if state == self.state:
            return
        if state:
            words = {
                "backoff": "a destination backs off",
                "hold": "a destination is on hold",
                "paused": "a destination is paused",
            }
            log.warning(words[state], destination=self._destination, reason=reason, next_try_seconds=round(wait, 1))
        else:
            log.info("a destination takes deliveries again", destination=self._destination)

    async def gate(self) -> Gate:
        """Asks whether to try; costs a round trip at most once a second while the destination is well."""
        if self._well and time.monotonic() < self._fresh_until:
            return Gate(0.0)
        token = new_token()
        wait, is_probe, _ = await self._step("gate", LEASE_MS, token, self._left)
        return Gate(wait, token if is_probe else "")

    async def keep(self, probe: str) -> None:
        """Renews a probe. Raises `FencedError` when it is over and somebody else may have it."""
        if not (await self._step("keep", LEASE_MS, probe))[1]:
            raise FencedError(f"the probe of {self._destination} was taken over, or ended")

    async def is_paused(self) -> bool:
        """Whether an operator holds the destination; costs a round trip at most once a second.

        While Redis is away nobody knows: then what was seen last holds.
        """
        if time.monotonic() >= self._fresh_until:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                await self._step("gate", 0)
        return self.state == "paused"

    async def failed(self, reason: str, after: float | None = None, *, probe: str = "") -> float:
        """The destination as a whole failed: all its lanes wait. Returns for how many seconds.

        Exponential with full jitter, capped; `after` (seconds, from Retry-After) wins, if it is more than 0.
        """
        named = int(after * 1000) if after else -1
        # Jitter needs no secrecy.
        args = ("fail", "backoff", self._initial, self._longest, named, random.random(), reason[:500], probe)
        wait, _, _ = await self._step(*args)
        return wait

    async def refused(self, message_id: str, reason: str, *, probe: str = "") -> tuple[float, Refusals]:
        """A refusal that may be meant for all. Returns the seconds to wait (0: no hold) and the refusals so far.

        The second, different message refused with no success between puts the destination on hold (soon after a success
        it takes `CONVINCING` different ones).
        """
        self._suspicious = True
        seconds = (FIRST_PROBE_SECONDS, HOLD_SECONDS, SUCCESS_SPEAKS_SECONDS)
        delays = [int(one * 1000) for one in seconds]
        wait, _, refusals = await self._step("refuse", message_id, *delays, CONVINCING, reason[:500], probe)
        return (wait if self.state == "hold" else 0.0), refusals

    async def probe_soon(self) -> None:
        """Ends the wait of a destination that backs off or is on hold: the next to ask probes it."""
        await self._step("soon")

    async def release(self, probe: str) -> None:
        """Ends a probe that told nothing of the destination: the next to ask probes it."""
        await self._step("release", probe)

    def leave(self, probe: str) -> None:
        """As `release`, where nobody can be told: the next to ask in this worker probes it, others after its lease."""
        self._left = probe

    async def succeeded(self, *, probe: str = "") -> None:
        """The destination answered for a delivery. Told to the others at most once a second while all is well."""
        self.taken()
        now = time.monotonic()
        if self._well and not self._suspicious and now - self._told < FRESH_SECONDS:
            return
        self._told = now
        self._suspicious = False
        await self._step("succeed", probe)

    async def parked(self, number: int, reason: str) -> None:
        """Notes why `number` deliveries are tried again one by one: for `status` and, now and then, the log."""
        self._parked += number
        now = time.monotonic()
        if now >= self._log_at:
            log.warning(
                "Deliveries fail and are tried again",
                destination=self._destination,
                number=self._parked,
                reason=reason[:200],
            )
            self._log_at, self._parked = now + QUIET_SECONDS, 0
        if now >= self._note_at:
            self._note_at = now + FRESH_SECONDS
            await self._step("note", reason[:500])

    def taken(self) -> None:
        """Notes that a delivery was taken: what fails beside it is at fault itself."""
        self._row.clear()
        self.last_success_ms = max(self.last_success_ms, now_ms())

    def alone(self, message_id: str, *, again: bool) -> bool:
        """Notes that a delivery failed by itself; True while that may be its own fault.

        Three different ones in a row, within a minute, are the destination's. One that had failed by itself before
        (`again`) tells nothing of it while others are taken; and whatever fails while it backs off is another sign.
        """
        if self.state == "backoff":
            return False
        if again and now_ms() - self.last_success_ms < SPEAKS_SECONDS * 1000:
            return True
        now = time.monotonic()
        if now - self._row_began > ROW_SECONDS:
            self._row.clear()
            self._row_began = now
        self._row.add(message_id)
        return len(self._row) < ROW

    def delay(self, attempts: int, after: float | None) -> float:
        """Seconds until a parked key's next try, after `attempts` attempts: exponential, full jitter.

        `after` (seconds, from Retry-After) wins, if it is more than 0.
        """
        cap = min(self._longest, self._initial * 2.0 ** min(max(attempts - 1, 0), 40)) / 1000
        return max(after or random.random() * cap, min(0.1, self._initial / 1000))
