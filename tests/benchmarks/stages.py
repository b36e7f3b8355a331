"""Where an event's time goes in a worker: the samples of a profiler, put down to the stages of the journey."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

STAGES: Sequence[tuple[str, str]] = (
    ("identity", "eventrouter/builtin/identity/"),
    ("deliver: requests", "eventrouter/http.py eventrouter/builtin/webhook.py aiohttp/"),
    ("other enrichments", "eventrouter/enrichments.py eventrouter/builtin/ ua_parser/ eventrouter/merge_patch.py"),
    ("route", "eventrouter/route eventrouter/filters.py eventrouter/operators.py <routes>"),
    ("lanes: steps in Redis", "eventrouter/lanes.py eventrouter/health.py eventrouter/connections.py redis/"),
    ("read the log, dedup, append to lanes", "eventrouter/enrich.py eventrouter/log_entry.py eventrouter/room.py"),
    ("deliver: turns", "eventrouter/deliver eventrouter/hands.py eventrouter/attempts.py eventrouter/settlement.py"),
    ("arq", "arq/"),
)
"""Parts of paths. A sample belongs to the stage whose file is the innermost in its stack."""
WAREHOUSE = "eventrouter/builtin/warehouse/"
"""Comes before all others: whatever it calls is its own, and so are records in its lane."""
REST = "event loop and the rest"


def stage(stack: Sequence[str]) -> str:
    """The stage of one stack, whose frames are told as `function (file:line)`, the innermost last."""
    if any(WAREHOUSE in frame or "eventrouter/records.py" in frame for frame in stack):
        return "warehouse"
    for frame in reversed(stack):
        for name, files in STAGES:
            if any(file in frame for file in files.split()):
                return name
    return REST


def shares(lines: Iterable[str]) -> list[tuple[str, float]]:
    """Stages with their percent of all samples, the largest first; a line is `frame;frame;… samples`."""
    found: Counter[str] = Counter()
    for line in lines:
        stack, _, samples = line.rpartition(" ")
        found[stage(stack.split(";"))] += int(samples)
    total = found.total() or 1
    return [(name, number / total * 100) for name, number in found.most_common()]


class Profiler:
    """Samples which stage a process is in while it holds the interpreter (py-spy, 200 times a second)."""

    def __init__(self, pid: int, directory: Path) -> None:
        self._file = directory / "profile"
        command = str(Path(sys.executable).with_name("py-spy"))
        arguments = ["record", "--pid", str(pid), "--gil", "--rate", "200", "--duration", "3600", "--format", "raw"]
        self._process = subprocess.Popen(
            [shutil.which("py-spy") or command, *arguments, "--output", str(self._file)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> list[tuple[str, float]]:
        """The shares, as `shares` tells them."""
        self._process.send_signal(2)
        self._process.wait(30)
        return shares(self._file.read_text("utf-8").splitlines())
