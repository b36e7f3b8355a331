"""An operator in a chaos run: replays, sends dead letters again, discards them; real commands, some of them killed."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from chaos_load import Sent
from chaos_sink import Sink
from chaos_sleep import SHARDS, until
from chaos_system import System
from redis.asyncio import Redis

PATIENCE_SECONDS = 200.0
"""How long a command is repeated that fails, since what it needs was killed."""
HARMLESS = 'not properties.poison and not (event == "Broken")'
"""Events that are dead letters nowhere: see `is_harmless`."""


def is_harmless(sent: Sent) -> bool:
    """Whether no receiver and no template refuses an event."""
    return not sent.poison and sent.name != "Broken"


@dataclass
class Replay:
    """A replay of history that was run to its end."""

    destination: str
    since: str
    until: str
    harmless: bool
    """Only of `HARMLESS` events."""
    found: set[str]
    """What was there to be sent when it began."""
    began: float = field(default_factory=time.monotonic)
    sent: int = 0
    """By its own report."""
    runs: int = 1
    """How often it was begun, at most: one that is killed when it has just ended is begun anew."""
    more: int = 0
    """What may have been sent beyond its report: by other runs, and of what was killed, by the rules of then."""

    def covers(self, received_at: str) -> bool:
        """Whether an event of this time may have been sent by it."""
        return self.since <= received_at < self.until


@dataclass
class Dealt:
    """Dead letters that were sent again, or discarded."""

    command: str
    destination: str
    letters: dict[str, str]
    """Those that there were when it began: when they were last tried, by message id."""
    skipped: set[str] = field(default_factory=set)
    """By its own report."""


class Operator:
    """`do` things with the dead letters and the history of `system`; `replays` and `dealt` tell what was done."""

    def __init__(self, system: System, sink: Sink, tell: Callable[[str], None]) -> None:
        self.replays: list[Replay] = []
        self.dealt: list[Dealt] = []
        self._system = system
        self._sink = sink
        self._tell = tell

    def do(self, what: str, rng: random.Random, later: asyncio.TaskGroup) -> None:
        """Begins it, as a part of `later`: while much is delivered live, it waits."""
        match what.split():
            case ["mend", "sink"]:
                self._sink.mended = True
            case ["replay", destination]:
                later.create_task(self._replay(destination, rng))
            case ["dead", command, destination]:
                later.create_task(self._deal(command, destination, rng))
            case _:
                raise AssertionError(what)

    async def _replay(self, destination: str, rng: random.Random) -> None:
        end = datetime.now(UTC) - timedelta(seconds=rng.uniform(0, 2))
        since, until = (_written(time) for time in (end - timedelta(seconds=rng.uniform(1, 4)), end))
        harmless = rng.random() < 0.5
        found = await self._ask("SELECT id FROM events WHERE received_at >= ? AND received_at < ?", since, until)
        replay = Replay(destination, since, until, harmless, {row[0] for row in found})
        self.replays.append(replay)
        words = ["replay", destination, "--since", since, "--until", until, "--rate", "1000"]
        report, replay.runs, tries = await self._until_done([*words, *(["--where", HARMLESS] if harmless else [])], rng)
        replay.sent = sum(report["sent"].values()) + sum(report["failed"].values())
        if tries > 1:
            replay.more = replay.runs * sum(report["filtered"].values()) + (replay.runs - 1) * replay.sent
        self._tell(f"replay to {destination} of {len(found)} events ended: {report}")

    async def _deal(self, command: str, destination: str, rng: random.Random) -> None:
        query = "SELECT message_id, last_at FROM dead_letters WHERE destination = ? AND class <> ''"
        found = await self._ask(query + " AND replayed_at IS NULL", destination)
        dealt = Dealt(command, destination, dict(found))
        self.dealt.append(dealt)
        words = {"discard": ["discard"], "replay": ["replay"], "as-was": ["replay", "--as-was"]}[command]
        report, _, _ = await self._until_done(["dead", *words, "--destination", destination], rng)
        dealt.skipped = {one["message_id"] for one in report.get("skipped", ())}
        report |= {name: len(value) for name, value in report.items() if isinstance(value, list)}
        self._tell(f"dead {command} of {len(found)} dead letters of {destination} ended: {report}")

    async def _until_done(self, words: list[str], rng: random.Random) -> tuple[dict[str, Any], int, int]:
        """What a command reports that is killed now and then, and given again until it succeeds.

        And how many of its tries did not say that they go on with what another had begun, and how many there were.
        """
        kinds = (self._halfway, self._sometime)
        ends = [partial(rng.choice(kinds), rng.random()) for _ in range(rng.choice((0, 1, 1, 2)))]
        deadline = time.monotonic() + PATIENCE_SECONDS
        tries, runs = [], 0
        while True:
            began = time.monotonic()
            # One that hangs tells where, when it is aborted.
            process = await self._system.spawn(*words, "--yes", "--json", PYTHONFAULTHANDLER="1")
            talking = asyncio.create_task(process.communicate())
            end = asyncio.create_task(ends.pop()() if ends else asyncio.sleep(deadline - began))
            try:
                await asyncio.wait({talking, end}, return_when=asyncio.FIRST_COMPLETED)
                if not talking.done() and time.monotonic() >= deadline:
                    process.send_signal(signal.SIGABRT)
                    await asyncio.wait({talking}, timeout=5)
            finally:
                end.cancel()
                if not talking.done():
                    process.kill()
            out, err = await talking
            assert b"Traceback" not in err or b"Exception ignored" in err, err.decode()
            runs += b"Goes on" not in err
            if process.returncode == 0:
                return dict(json.loads(out)), runs, len(tries) + 1
            tries.append(f"{process.returncode} after {time.monotonic() - began:.1f} s")
            assert time.monotonic() < deadline, (words, tries, out.decode(), err.decode())
            await asyncio.sleep(0.3)

    async def _sometime(self, chance: float) -> None:
        await asyncio.sleep(0.3 + 2 * chance)

    async def _halfway(self, chance: float) -> None:
        """Returns a moment after a step of what is sent again, or discarded."""
        seen: list[Any] = []

        async def is_seen(redis: Redis) -> bool:
            seen.append(await redis.mget(f"er:{{{shard}}}:again" for shard in range(SHARDS)))
            return bool(seen[-1] != seen[0])

        await until(self._system.data, is_seen, PATIENCE_SECONDS)
        await asyncio.sleep(0.2 * chance)

    async def _ask(self, query: str, *values: str) -> list[Any]:
        """What the warehouse knows; nothing, as long as there is none."""
        for _ in range(20):
            try:
                url = f"file:{self._system.data / 'warehouse.sqlite3'}?mode=ro"
                with closing(sqlite3.connect(url, uri=True)) as connection:
                    return connection.execute(query, values).fetchall()
            except sqlite3.OperationalError:
                await asyncio.sleep(0.1)
        return []


def _written(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03}Z"
