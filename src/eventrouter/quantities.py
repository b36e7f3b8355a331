"""Durations, sizes, shares and rates as people write them in routes.yaml."""

from __future__ import annotations

import re

from .destination import RateLimit
from .durations import SECONDS
from .durations import duration as duration

_NUMBER = r"(\d+(?:\.\d+)?)"
_SIZE = re.compile(_NUMBER + r"\s*(B|KB|MB|GB|KiB|MiB|GiB)?\Z", re.IGNORECASE)
_SHARE = re.compile(_NUMBER + r"\s*(%)?\Z")
_RATE = re.compile(r"(\d+)\s*/\s*(\d*)\s*(s|m|h|d)\Z")
_BYTES = {"b": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}


def size(text: str) -> int:
    """Bytes: `64KB`, `256MB`, `1GiB` (1 KB is 1,024 bytes); a plain number is bytes. Raises `ValueError`."""
    match = _SIZE.match(text.strip())
    if match is None:
        raise ValueError("write a size such as 64KB, 256MB, 1GB; a plain number means bytes")
    return int(float(match[1]) * _BYTES[(match[2] or "B").lower()])


def share(text: str) -> float:
    """A part of all, 0 to 1: `10%` or `0.1`. Raises `ValueError`."""
    match = _SHARE.match(text.strip())
    part = float(match[1]) / (100 if match[2] else 1) if match else -1
    if not 0 <= part <= 1:
        raise ValueError("write a share such as 10% or 0.1, from 0% to 100%")
    return part


def rate(text: str) -> RateLimit:
    """A rate limit: `10/s`, `600/m`, `100/10s`. Raises `ValueError`."""
    match = _RATE.match(text.strip())
    if match is None or int(match[1]) < 1 or match[2] == "0":
        raise ValueError("write a rate such as 10/s, 600/m or 100/10s")
    return RateLimit(int(match[1]), int(match[2] or 1) * SECONDS[match[3]])
