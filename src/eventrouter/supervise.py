"""The children of `up`: started side by side, started again when they die, ended in order. Linux and macOS.

This process holds no Redis client, no database driver and no web server, to stay small and quick to start.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from . import child
from .data_directory import DataDirectory
from .disk import is_full
from .embedded import EmbeddedServer
from .errors import ChildError as ChildError
from .errors import StartError
from .logs import PROCESS_VARIABLE

log = structlog.get_logger("eventrouter.up")

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
"""Seconds before a dead child is started again: doubled each time, up to the longest."""
SETTLED_SECONDS = 10.0
"""A child that lived so long starts again with the first pause."""
COLLECTOR_SECONDS, WORKER_SECONDS = 10.0, 24.0
"""When children are killed, in seconds after the stop was asked for; the server's few follow: 30 s in all."""
IMPATIENT_SECONDS = 1.0
"""A second signal after so long means that nobody wants to wait. One within is the same wish: make and systemd send it
to whole groups of processes, and forward it as well."""
WATCH_SECONDS = 0.25
DISK_SECONDS = 1.0
"""How often a disk that is full is looked at."""


@dataclass(eq=False)
class Child:
    """One process to keep running. `name` is for people, such as `worker-1`."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    is_worker: bool = False
    listener: socket.socket | None = None
    """A listening socket that it inherits; ours is closed when the stop begins."""
    process: asyncio.subprocess.Process | None = None
    guard: asyncio.Task[None] | None = None
    """What keeps it running; done when it has ended for good."""
    error: dict[str, Any] = field(default_factory=dict)
    """The error that it reported before it ended."""
    is_retired: bool = False
    """It is to end, and not to be started again."""

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.returncode is None

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, if it lives."""
        if self.process is not None and self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


class Supervisor:
    """Runs the server (None: somebody else's is used) and `children` until a signal, or until one can't start."""

    def __init__(
        self,
        directory: DataDirectory,
        server: EmbeddedServer | None,
        children: list[Child],
        worker_of: Callable[[str], Child] | None = None,
    ) -> None:
        """`worker_of` makes the worker of a group: one runs for each of the groups that the workers report last."""
        self.directory = directory
        self.server = server
        self.children = children
        self._worker_of = worker_of
        self._groups: dict[str, Child] = {}
        self._guards: list[asyncio.Task[None]] = []
        self.facts: dict[str, Any] = {}
        """What the children reported, merged."""
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._asked = 0.0
        self._stop_server = asyncio.Event()
        self._nobody_alone = asyncio.Event()
        self._nobody_alone.set()
        self._ready = False

    async def run(self, is_ready: Callable[[], Awaitable[bool]], tell: Callable[[Mapping[str, Any]], None]) -> None:
        """Returns after a stop by signal; `tell` is called once, with the facts, when `is_ready` says so.

        Raises the error of a child or server that can't start; everything is ended by then too.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._ask_to_stop)
        server = asyncio.create_task(self._guard_server())
        self._guards = [server]
        server.add_done_callback(lambda _: self._stop.set())
        for one in self.children:
            self._start(one)
        ready = asyncio.create_task(self._wait_ready(is_ready, tell))
        try:
            await self._stop.wait()
        finally:
            self._stop.set()
            ready.cancel()
            await self._end(server)
        for error in [guard.exception() for guard in self._guards]:
            if error is not None:
                raise error
        with contextlib.suppress(asyncio.CancelledError):
            await ready

    def _start(self, one: Child) -> None:
        one.guard = asyncio.create_task(self._guard(one))
        # It ends by itself only after a stop, or with the error that makes us stop; or when its child is retired.
        one.guard.add_done_callback(lambda _: None if one.is_retired else self._stop.set())
        self._guards.append(one.guard)

    def _staff(self, groups: list[str]) -> None:
        """Sees to it that each of these groups has its worker, and no other group."""
        if self._worker_of is None or self._stop.is_set():
            return
        for group in set(self._groups) - set(groups):
            one = self._groups.pop(group)
            log.info(f"The {one.name} ends: no destination has its group any more")
            one.is_retired = True
            one.signal(signal.SIGTERM)
            asyncio.get_running_loop().call_later(WORKER_SECONDS, one.signal, signal.SIGKILL)
        for group in sorted(set(groups) - set(self._groups)):
            one = self._groups[group] = self._worker_of(group)
            self.children.append(one)
            self._start(one)

    def _ask_to_stop(self) -> None:
        now = time.monotonic()
        if self._stop.is_set() and now - self._asked > IMPATIENT_SECONDS:
            self._hurry.set()
        elif not self._stop.is_set():
            self._asked = now
        self._stop.set()

    async def _wait_ready(
        self, is_ready: Callable[[], Awaitable[bool]], tell: Callable[[Mapping[str, Any]], None]
    ) -> None:
        while not self._stop.is_set():
            if await is_ready():
                self._ready = True
                tell(self.facts)
                return
            await _wait(self._stop, 0.03)

    async def _guard_server(self) -> None:
        """Keeps the embedded server running until the end."""
        if self.server is None:
            await self._stop_server.wait()
            return
        server, pause, first = self.server, FIRST_PAUSE, True
        while not self._stop_server.is_set():
            started = time.monotonic()
            try:
                await asyncio.to_thread(server.start)
            except StartError as error:
                if first and not server.was_killed:
                    raise
                log.error("The embedded Valkey can't start", error=str(error), hint=error.hint)
            first = False
            while server.is_alive() and server.is_reachable():
                if await _wait(self._stop_server, WATCH_SECONDS):
                    return
                server.check_log()
            if self._stop_server.is_set():
                return
            if time.monotonic() - started > SETTLED_SECONDS:
                pause = FIRST_PAUSE
            what = "lost its socket" if server.is_alive() else "ended"
            said = server.last_words().splitlines()[-1:]
            log.error(f"The embedded Valkey {what}; starting it again", seconds=pause, last_words="".join(said))
            await asyncio.to_thread(server.stop)
            if is_full(server.directory):
                # It ends rather than answer for what it can't write, and would end again.
                log.error(
                    "The disk is full: the embedded Valkey starts again when there is room",
                    directory=str(server.directory),
                    hint="free some space; until then events are refused (503), and nothing that was taken is lost",
                )
                while is_full(server.directory) and not await _wait(self._stop_server, DISK_SECONDS):
                    pass
            await _wait(self._stop_server, pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _guard(self, one: Child) -> None:
        """Keeps `one` running until a stop. Raises `ChildError` when it can't start while nothing was ready yet."""
        pause = FIRST_PAUSE
        while not self._stop.is_set() and not one.is_retired:
            started = time.monotonic()
            code = await self._run(one)
            if self._stop.is_set() or one.is_retired:
                return
            if code > 0 and not self._ready:
                message = one.error.get("message") or f"the {one.name} ended with exit code {code} at its start"
                raise ChildError(message, hint=one.error.get("hint", ""), exit_code=code)
            if time.monotonic() - started > SETTLED_SECONDS:
                pause = FIRST_PAUSE
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            log.error(f"The {one.name} ended ({how}); starting it again", seconds=pause, **one.error)
            await _wait(self._stop, pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _run(self, one: Child) -> int:
        """Runs `one` once; returns its exit code, negative for a signal."""
        alone = one.is_worker and self.server is not None
        if alone:
            await self._nobody_alone.wait()
            if self._stop.is_set():
                return 0
            alone = not any(other.is_alive for other in self.children if other.is_worker)
        if alone:
            # Until it has expired the leases of the dead, no other worker may take one.
            self._nobody_alone.clear()
        ours, theirs = socket.socketpair()
        environment = os.environ | dict(one.environment)
        environment |= {child.LINE_VARIABLE: str(theirs.fileno()), PROCESS_VARIABLE: one.name}
        environment |= {child.ALONE_VARIABLE: ("1" if one.process is None else "2") if alone else "0"}
        inherited = [theirs.fileno(), self.directory.children.descriptor]
        if one.listener is not None:
            environment |= {child.LISTENER_VARIABLE: str(one.listener.fileno())}
            inherited.append(one.listener.fileno())
        one.error = {}
        try:
            one.process = await asyncio.create_subprocess_exec(
                *one.command,
                stdin=asyncio.subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
                pass_fds=inherited,
            )
            theirs.close()
            pids = [each.process.pid for each in self.children if each.process is not None and each.is_alive]
            self.directory.children.name_holders(pids)
            if self._stop.is_set() or one.is_retired:
                # The stop came while it was being made.
                one.signal(signal.SIGTERM)
            listener = asyncio.create_task(self._listen(one, ours))
            code = await one.process.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(listener, 1)
            return code
        finally:
            theirs.close()
            ours.close()
            if alone:
                self._nobody_alone.set()

    async def _listen(self, one: Child, line: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=line)
        try:
            while text := await reader.readline():
                facts = json.loads(text)
                if "error" in facts:
                    one.error = facts["error"]
                elif "leases_expired" in facts:
                    self._nobody_alone.set()
                elif "worker_groups" in facts:
                    self._staff(facts["worker_groups"])
                else:
                    self.facts |= facts
        finally:
            writer.close()

    async def _end(self, server: asyncio.Task[None]) -> None:
        """The collector first, so that nothing comes in; then the workers; the server that they need last."""
        started = time.monotonic()
        for one in self.children:
            if one.listener is not None:
                one.listener.close()
        for are_workers, seconds in ((False, COLLECTOR_SECONDS), (True, WORKER_SECONDS)):
            await self._end_group([one for one in self.children if one.is_worker is are_workers], started + seconds)
            self._nobody_alone.set()
        self._stop_server.set()
        if self.server is not None:
            self.server.abandon()
            await asyncio.wait({server})
            await asyncio.to_thread(self.server.stop)
        await asyncio.wait({server})

    async def _end_group(self, group: list[Child], deadline: float) -> None:
        for one in group:
            one.signal(signal.SIGTERM)
        pending = {one.guard for one in group if one.guard is not None}
        while pending:
            _, pending = await asyncio.wait(pending, timeout=0.05)
            if time.monotonic() > deadline or self._hurry.is_set():
                deadline = float("inf")
                for one in group:
                    if one.is_alive:
                        log.warning(f"The {one.name} did not end in time; killing it")
                    one.signal(signal.SIGKILL)


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Whether `event` is set within `seconds`."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
