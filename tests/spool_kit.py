"""What tests of the spool share: events and refusals to keep, and a program that spools until it is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from eventrouter.acceptance import AcceptedEvent
from eventrouter.records import RejectedEvent

PROGRAM = """
import asyncio, sys
from pathlib import Path
import structlog
from eventrouter.spool import Spool
from spool_kit import event

async def main():
    spool = Spool(Path(sys.argv[1]), 10**9, reserve=0)
    await spool.open()
    for number in range(int(sys.argv[2]), 10**9):
        try:
            await spool.append([event(number, pad="x" * (number % 7) * 3000)], [])
            print(number, flush=True)
        except Exception as error:
            print("refused", number, type(error).__name__, flush=True)

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
asyncio.run(main())
"""


def event(number: int, key: str = "anonymous", **fields: Any) -> AcceptedEvent:
    """An accepted event m{number}."""
    body = {"type": "track", "messageId": f"m{number}", "anonymousId": key, **fields}
    return AcceptedEvent(key, msgspec.json.encode(["web", body]))


def number_of(event: AcceptedEvent) -> int:
    """The number in its id."""
    return int(msgspec.json.decode(event.data)[1]["messageId"][1:])


def rejected(number: int, code: str = "event_not_defined", payload: str = "") -> RejectedEvent:
    """A refused event r{number}."""
    return RejectedEvent(
        id=f"r{number}",
        source="web",
        received_at="2026-11-24T17:00:00.000Z",
        code=code,
        message="no event",
        payload=payload,
    )


def start_spooling(directory: Path, first: int = 0, **environment: str) -> subprocess.Popen[str]:
    """A process that spools events from number `first` on, and prints each number once it is kept."""
    command = [sys.executable, "-c", PROGRAM, str(directory), str(first)]
    path = {"PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**path, **environment})
