"""The time by the server's clock, as far as this process knows it: what workers on several machines write agrees."""

from __future__ import annotations

import time

import structlog

log = structlog.get_logger("eventrouter.server_time")

APART_MS = 2_000
"""Clocks that are no further apart count as one."""

_ahead_ms = 0.0
"""How far the server's clock is ahead of ours, while they are apart."""


def now_ms() -> int:
    """The time in ms."""
    return int(own_ms() + _ahead_ms)


def own_ms() -> float:
    """The time in ms by this machine's clock: the moment of asking, for `note`."""
    return time.time() * 1000


def note(server_ms: float, asked_ms: float) -> None:
    """Takes note of the time that the server has just told, who was asked at `asked_ms`.

    Tells the log when the clocks are apart. The answer may have taken long, or this process to look at it: all that is
    known then is that the server's clock said so at some moment since it was asked. What fits that is not questioned.
    """
    global _ahead_ms
    least, most = server_ms - own_ms() - APART_MS, server_ms - asked_ms + APART_MS
    if least <= _ahead_ms <= most:
        return
    if least <= 0 <= most:
        _ahead_ms = 0.0
        log.info("this machine's clock agrees with the Redis server's again")
    else:
        _ahead_ms = (least + most) / 2  # off by half of the time that the answer took; a quicker one corrects it
        log.warning(
            "this machine's clock is not that of the Redis server: keep all machines on time (NTP), else the times of"
            " events are wrong, and turns begin late",
            seconds_ahead=round(-_ahead_ms / 1000, 1),
        )
