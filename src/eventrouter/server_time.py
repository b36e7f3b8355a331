"""The time by the server's clock, as far as this process knows it: what workers on several machines write agrees."""

from __future__ import annotations

import time

import structlog

log = structlog.get_logger("eventrouter.server_time")

APART_MS = 2_000
"""Clocks that are no further apart count as one: an answer takes its time, too."""

_ahead_ms = 0.0
"""How far the server's clock is ahead of ours, while they are apart."""


def now_ms() -> int:
    """The time in ms."""
    return int(time.time() * 1000 + _ahead_ms)


def note(server_ms: float) -> None:
    """Takes note of the time that the server has just told; tells the log when the clocks are apart."""
    global _ahead_ms
    if abs(server_ms - now_ms()) <= APART_MS:
        return
    _ahead_ms = server_ms - time.time() * 1000
    if abs(_ahead_ms) <= APART_MS:
        _ahead_ms = 0.0
        log.info("this machine's clock agrees with the Redis server's again")
    else:
        log.warning(
            "this machine's clock is not that of the Redis server: keep all machines on time (NTP), else the times of"
            " events are wrong, and turns begin late",
            seconds_ahead=round(-_ahead_ms / 1000, 1),
        )
