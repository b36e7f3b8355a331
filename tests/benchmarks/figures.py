"""What a benchmark measured: printed beside its target and the last run's, and kept for the next."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import TracebackType

KEPT = Path(__file__).parents[2] / ".benchmarks"
"""A file for each benchmark, which git ignores: figures of different machines say nothing of one another."""


class Figures:
    """Prints a table row by row; on a clean exit its figures become the last run's."""

    def __init__(self, name: str, directory: Path = KEPT) -> None:
        """`name` is the benchmark's."""
        self._path = directory / f"{name}.json"
        self._last: dict[str, float] = {}
        self._now: dict[str, float] = {}

    def __enter__(self) -> Figures:
        try:
            kept = json.loads(self._path.read_text("utf-8"))
            self._last = kept["figures"]
            told = f"; the last run: {kept['when']}, load {kept['load']:.2f}"
        except (OSError, ValueError, KeyError, TypeError):
            told = ""
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}{told}\n")
        _print("what", "measured", "last run", "target")
        _print("-" * 58, "-" * 22, "-" * 22, "-" * 20)
        return self

    def row(self, what: str, value: float, unit: str, target: str = "") -> None:
        """One figure, such as `row("start to ready", 1.6, "s", "<= 2 s")`; `what` is its name in every run."""
        self._now[what] = value
        last = self._last.get(what)
        told = f"{_number(last)} ({(value / last - 1) * 100:+.0f} %)" if last else ""
        _print(what, f"{_number(value)} {unit}", told, target)

    def note(self, text: str) -> None:
        """A line that is not compared."""
        print(f"  {text}", flush=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None or not self._now:
            return
        self._path.parent.mkdir(exist_ok=True)
        kept = {
            "when": time.strftime("%Y-%m-%d %H:%M"),
            "load": os.getloadavg()[0],
            "figures": self._last | self._now,
        }
        self._path.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
        print(f"\nload after {kept['load']:.2f}")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _print(*cells: str) -> None:
    what, measured, last, target = cells
    print(f"| {what:<58} | {measured:<22} | {last:<22} | {target:<20} |", flush=True)
