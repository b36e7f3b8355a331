"""Durations as people write them: `250ms`, `1s`, `5m`, `72h`."""

from __future__ import annotations

import re

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\Z")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""Of each unit."""


def duration(text: str) -> float:
    """Seconds: `250ms`, `1s`, `5m`, `72h`, `2d`; a plain number is seconds. Raises `ValueError`."""
    match = _DURATION.match(text.strip())
    if match is None:
        raise ValueError("write a duration such as 250ms, 1s, 5m, 72h; a plain number means seconds")
    return float(match[1]) * SECONDS[match[2] or "s"]
