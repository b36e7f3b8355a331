"""The destination `stdout`: writes one JSON line per event to the worker's standard output."""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import msgspec
from pydantic import Field

from ..destination import Destination, Message, Outcome
from ..errors import Reject, Retry
from ..hookspecs import hookimpl


class Stdout(Destination):
    """Writes each payload as one line of JSON, for pipes, log collectors and a first look.

    A reader that stops reading delays these events only; when the stream is closed, they wait.
    """

    name: ClassVar[str] = "stdout"
    batch_size: ClassVar[int] = 100
    concurrency: ClassVar[int] = 1
    keeps_order: ClassVar[bool] = True

    class Options(Destination.Options):
        """What is written, and where."""

        pretty: bool = Field(default=False, description="Write each event over several indented lines, to be read.")
        stream: Literal["stdout", "stderr"] = Field(default="stdout", description="Which stream of the worker.")

    options: Options

    def __init__(self, options: Options, *, destination: str = "", batch_size: int | None = None) -> None:
        super().__init__(options, destination=destination, batch_size=batch_size)
        self._writer = _Writer(options.stream)

    async def deliver(self, messages: Sequence[Message]) -> Mapping[str, Outcome] | None:
        lines = []
        refused: dict[str, Outcome] = {}
        for message in messages:
            try:
                line = message.json
            except Reject as error:
                refused[message.id] = error
            else:
                lines.append((msgspec.json.format(line, indent=2) if self.options.pretty else line) + b"\n")
        await self._writer.write(lines)
        return refused

    async def close(self) -> None:
        self._writer.close()
        await super().close()


class _Writer:
    """Writes from a thread of its own, because writing to a pipe blocks when nobody reads.

    The thread is a daemon: a reader that never reads again must not keep the worker from ending.
    """

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._jobs: queue.SimpleQueue[tuple[list[bytes], asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._busy = False
        self._broken_line = False

    async def write(self, lines: list[bytes]) -> None:
        """Writes `lines`, each with one system call where the stream takes it. Raises `Retry` when it cannot."""
        if self._busy:
            raise Retry(f"standard {self._word} is not being read", everyone=True)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="eventrouter-stdout", daemon=True)
            self._thread.start()
        done = asyncio.get_running_loop().create_future()
        self._busy = True
        self._jobs.put((lines, done))
        await done

    def close(self) -> None:
        """Lets the thread end."""
        self._jobs.put(None)
        self._thread = None

    @property
    def _word(self) -> str:
        return "output" if self._stream == "stdout" else "error"

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            lines, done = job
            error: Retry | None = None
            try:
                self._write(lines)
            except (OSError, ValueError) as problem:
                why = getattr(problem, "strerror", None) or "it is closed"
                error = Retry(f"cannot write to standard {self._word}: {why}", everyone=True)
            self._busy = False
            try:
                done.get_loop().call_soon_threadsafe(_settle, done, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                continue

    def _write(self, lines: list[bytes]) -> None:
        stream = sys.stdout if self._stream == "stdout" else sys.stderr
        number = stream.fileno()
        for line in lines:
            rest = memoryview(b"\n" + line if self._broken_line else line)
            while rest:
                written = os.write(number, rest)
                rest = rest[written:]
                self._broken_line = bool(rest)


def _settle(done: asyncio.Future[None], error: Retry | None) -> None:
    """Hands the result over, unless nobody waits for it any more (the attempt was given up)."""
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


@hookimpl
def register_destinations() -> Sequence[type[Destination]]:
    return [Stdout]
