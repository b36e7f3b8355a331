"""What a chaos run finds at fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

SHOWN = 5
"""How many examples of a fault are told."""


class Findings(list[str]):
    """The faults, in words."""

    def same(self, what: str, expected: Any, actual: Any) -> None:
        """Notes it unless they are equal."""
        if expected == actual:
            return
        if isinstance(expected, set):
            missing, surplus = sorted(expected - actual), sorted(actual - expected)
            self.append(
                f"{what}: {len(missing)} missing ({', '.join(map(str, missing[:SHOWN]))}),"
                f" {len(surplus)} too many ({', '.join(map(str, surplus[:SHOWN]))})"
            )
        else:
            self.append(f"{what}: expected {expected}, found {actual}")

    def once(self, what: str, expected: set[str], found: Iterable[str]) -> None:
        """Notes it unless just these were found, each once."""
        counts = Counter(found)
        self.same(what, expected, set(counts))
        twice = [one for one, number in counts.items() if number > 1]
        if twice:
            self.append(f"{what}: {len(twice)} more than once ({', '.join(twice[:SHOWN])})")

    def near(self, what: str, expected: int, actual: int, least: int, most: int) -> None:
        """`actual` may differ by `least` to `most`."""
        if not least <= actual - expected <= most:
            self.append(f"{what}: expected {expected + least} to {expected + most}, found {actual}")
