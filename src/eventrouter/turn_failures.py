"""Turns that came to nothing: told in the log, but not again and again, in `status` and in the metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass

import structlog
from redis.exceptions import RedisError

from .lane import Lane
from .lanes import Turn
from .logs import mask

log = structlog.get_logger("eventrouter.turn_failures")

FAILED_SECONDS = 5.0
"""How long a lane rests whose turn failed by an exception."""
TELL_SECONDS = 60.0
"""How often one lane's failures are told in the log while they go on; another reason is told at once."""
REASON_LENGTH = 200


@dataclass(slots=True)
class _Told:
    reason: str
    at: float
    since: int = 0
    """How many failures were not told since."""


_told: dict[Lane, _Told] = {}
"""What this process told of each lane last."""


async def tell(turn: Turn, reason: str, seconds: float, error: BaseException | None = None) -> None:
    """Notes why `turn` comes to nothing; the next one is in so many `seconds`. Never raises.

    `error`, a bug of ours or of a plugin, is logged with its traceback. What is secret is masked.
    """
    words = " ".join(mask(reason).split())[:REASON_LENGTH]
    reason = words.encode(errors="replace").decode()  # a plugin may say anything
    _log(turn.lane, reason, seconds, error)
    try:
        await turn.fail(reason, seconds)
    except (RedisError, OSError, TimeoutError) as away:
        log.warning("a failed turn could not be noted", lane=turn.lane.name, error=str(away) or type(away).__name__)


def _log(lane: Lane, reason: str, seconds: float, error: BaseException | None) -> None:
    now, last = time.monotonic(), _told.get(lane)
    if last is not None and last.reason == reason and now - last.at < TELL_SECONDS:
        last.since += 1
        return
    more = {"times_since": last.since} if last is not None and last.since else {}
    _told[lane] = _Told(reason, now)
    facts = {"lane": lane.name, "shard": lane.shard, "reason": reason, "next_try_seconds": seconds, **more}
    if error is None:
        log.warning("a lane waits", **facts)
    else:
        log.error("a turn failed", exc_info=error, **facts)
