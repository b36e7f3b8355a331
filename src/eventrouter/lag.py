"""The lag of deliveries: for how long they lay in their lane, counted in the step that settles them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from .lane import Item

BOUNDS = ("0.1", "0.5", "1.0", "5.0", "15.0", "60.0", "300.0", "900.0", "3600.0", "21600.0")
"""Seconds, as Prometheus writes them. Few, since each is a counter."""
_NAMES = (*BOUNDS, "+Inf")
_BOUNDS_MS = [float(bound) * 1000 for bound in BOUNDS]


def lag_counts(destination: str, items: Sequence[Item], now_ms: int) -> Mapping[str, int]:
    """The counters `lag:DESTINATION:BOUND` of what is delivered at this time, and `lag_ms:DESTINATION`, their sum.

    An item is as old as its id, which it keeps while it is parked.
    """
    if not items:
        return {}
    ages = [now_ms - int(item.id.partition("-")[0]) for item in items]
    units = [item.units for item in items]
    counts: dict[str, int] = {}
    if (number := _place(min(ages))) == _place(max(ages)):  # as most often
        counts[f"lag:{destination}:{_NAMES[number]}"] = sum(units)
    else:
        for age, unit in zip(ages, units, strict=True):
            field = f"lag:{destination}:{_NAMES[_place(age)]}"
            counts[field] = counts.get(field, 0) + unit
    counts[f"lag_ms:{destination}"] = max(sum(age * unit for age, unit in zip(ages, units, strict=True)), 0)
    return counts


def _place(age_ms: int) -> int:
    return bisect_left(_BOUNDS_MS, age_ms)


def histogram(counts: Mapping[str, int], destination: str) -> tuple[list[tuple[str, int]], float]:
    """What was counted of a destination so far, as Prometheus wants it: up to each bound, and the sum of seconds."""
    buckets, total = [], 0
    for name in _NAMES:
        total += counts.get(f"lag:{destination}:{name}", 0)
        buckets.append((name, total))
    return buckets, counts.get(f"lag_ms:{destination}", 0) / 1000
