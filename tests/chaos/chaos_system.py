"""An `eventrouter up` of its own in a chaos run: its processes, and what may befall them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from chaos_rules import Variant

from eventrouter.config import loads
from eventrouter.plugins import Plugins
from eventrouter.settings import socket_path

COMMAND = (sys.executable, "-P", "-m", "eventrouter")
PLUGINS = Plugins.load()


class System:
    """`eventrouter up` in `directory`, delivering to a sink at `sink_port`. `start` before use, `close` after."""

    def __init__(
        self,
        directory: Path,
        sink_port: int,
        *,
        workers: int = 2,
        timeout: int = 2,
        environment: Mapping[str, str] | None = None,
        postgres: str = "",
    ) -> None:
        """`timeout` is that of an attempt, in seconds; `postgres` the URL of the database, if it is not SQLite."""
        self.directory = directory
        self.data = directory / "data"
        self.rules = directory / "routes.yaml"
        self._text = partial(Variant.text, port=sink_port, timeout=timeout, postgres=postgres)
        self.variants: dict[str, Variant] = {}
        """The rules that were saved, by their version."""
        self._save(Variant())
        self.log = directory / "up.log"
        self.port = _free_port()
        self.workers = workers
        self._environment = {**os.environ, **(environment or {}), "EVENTROUTER_LOG_FORMAT": "json"}
        self.process: subprocess.Popen[bytes] | None = None
        self.frozen: set[int] = set()
        """The process ids of those that are frozen."""
        self.sleepers = 0
        """How many are to wake up by themselves."""

    @property
    def url(self) -> str:
        """Where the collector listens."""
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """The one command."""
        options = ("--config", self.rules, "--data-dir", self.data, "--port", self.port, "--workers", self.workers)
        return [*COMMAND, "up", *map(str, options)]

    async def start(self, seconds: float = 60.0) -> float:
        """Starts it and waits until it takes events; returns how long that took."""
        started = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(2)) as session:
            while time.monotonic() - started < seconds:
                if self.process.poll() is not None:
                    raise AssertionError(f"up ended with {self.process.returncode}:\n{self.last_words()}")
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(f"{self.url}/ready") as response:
                        if response.status == 200:
                            return time.monotonic() - started
                await asyncio.sleep(0.05)
        raise AssertionError(f"up is not ready after {seconds} s:\n{self.last_words()}")

    async def stop(self, seconds: float = 40.0) -> tuple[int, float]:
        """Ends it by SIGTERM; returns its exit code and how long that took."""
        assert self.process is not None
        started = time.monotonic()
        self.process.terminate()
        code = await asyncio.to_thread(self.process.wait, seconds)
        self.process = None
        return code, time.monotonic() - started

    def close(self) -> None:
        """Kills whatever is left."""
        self.kill_everything()

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text("utf-8", "replace")[-6000:]

    def taken_over(self) -> int:
        """How many turns found that another one had taken over."""
        return self.log.read_bytes().count(b'"a turn was taken over"')

    def find(self, kind: str) -> list[psutil.Process]:
        """The live `collector`, `worker`s or `valkey` of this data directory, whoever is their parent."""
        found = []
        with contextlib.suppress(psutil.Error):
            for process in self._family():
                with contextlib.suppress(psutil.Error):
                    if process.status() != psutil.STATUS_ZOMBIE and _kind(process) == kind:
                        found.append(process)
        return sorted(found, key=lambda process: process.pid)

    def _family(self) -> list[psutil.Process]:
        """Children of `up`, and what a killed one left behind, by the locks that they hold."""
        pids = set()
        if self.process is not None and self.process.poll() is None:
            pids.update(child.pid for child in psutil.Process(self.process.pid).children(recursive=True))
        for lock in (self.data / "children.lock", self.data / "valkey" / "server.lock"):
            with contextlib.suppress(OSError):
                pids.update(int(word) for word in lock.read_text().split())
        family = []
        for pid in pids:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                # Process ids are used again: make sure that it is ours.
                if _kind(process) == "valkey":
                    ours = str(socket_path(self.data)) in " ".join(process.cmdline())
                else:
                    ours = process.environ().get("EVENTROUTER_DATA_DIR") == str(self.data)
                if ours:
                    family.append(process)
        return family

    def signal(self, kind: str, number: signal.Signals, index: int = 0) -> int:
        """Sends a signal to one of a kind that is not frozen; returns its process id, 0 when there is none."""
        found = [process for process in self.find(kind) if process.pid not in self.frozen]
        if not found:
            return 0
        process = found[index % len(found)]
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
        return process.pid

    async def freeze(self, kind: str, seconds: float, index: int = 0) -> None:
        """Stops one of a kind for so long, then lets it go on."""
        pid = self.signal(kind, signal.SIGSTOP, index)
        if pid:
            self.frozen.add(pid)
            try:
                await asyncio.sleep(seconds)
            finally:
                self.frozen.discard(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    async def all_awake(self) -> None:
        """Returns when nobody sleeps who is to wake up by himself."""
        while self.sleepers:
            await asyncio.sleep(0.1)

    def kill_up(self) -> None:
        """`kill -9` of `up` alone; its children notice."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def kill_everything(self, *, but_valkey: bool = False) -> None:
        """`kill -9` of all processes at once."""
        kinds = ["collector", "worker"] if but_valkey else ["collector", "worker", "valkey"]
        victims = [process for kind in kinds for process in self.find(kind)]
        if self.process is not None:
            self.process.kill()
        for process in victims:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.kill_up()
        psutil.wait_procs(victims, timeout=10)

    def save_rules(self, *, mended: bool, strict: bool) -> None:
        """Saves other rules."""
        self._save(Variant(len(self.variants), mended, strict))

    def _save(self, variant: Variant) -> None:
        """At once: nobody reads half of it."""
        text = self._text(variant)
        self.variants[loads(text, PLUGINS, {}).version] = variant
        fresh = self.rules.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.rules)

    async def pause(self, destination: str, seconds: float) -> None:
        """Pauses a destination for so long, as soon as there is a server to tell."""
        for words in (["pause", destination, "--reason", "chaos"], ["resume", destination]):
            deadline = time.monotonic() + 60
            while (await self._run(*words))[0]:
                assert time.monotonic() < deadline, words
                await asyncio.sleep(0.3)
            await asyncio.sleep(seconds)

    async def status(self) -> dict[str, Any]:
        """What `eventrouter status --json` says."""
        return await self._ask("status")

    async def audit(self) -> list[str]:
        """What `eventrouter audit --deep` finds at fault."""
        found = await self._ask("audit", "--deep", "--recount", codes=(0, 1))
        missing = found["ids"]["missing"]
        return [fault["message"] for fault in found["faults"]] + ([f"{missing} ids are missing"] if missing else [])

    async def _ask(self, *command: str, codes: tuple[int, ...] = (0,)) -> dict[str, Any]:
        code, out, err = await self._run(*command, "--json")
        assert code in codes, (out, err)
        return dict(json.loads(out))

    async def _run(self, *command: str) -> tuple[int, bytes, bytes]:
        """Exit code and output of a command."""
        process = await self.spawn(*command)
        out, err = await process.communicate()
        return process.returncode or 0, out, err

    async def spawn(self, *command: str, **environment: str) -> asyncio.subprocess.Process:
        """A command that runs."""
        options = ("--config", str(self.rules), "--data-dir", str(self.data))
        return await asyncio.create_subprocess_exec(
            *COMMAND,
            *command,
            *options,
            cwd=self.directory,
            env=self._environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    async def drained(self, seconds: float = 60.0) -> dict[str, Any]:
        """The status once nothing waits any more, anywhere."""
        deadline = time.monotonic() + seconds
        while True:
            status = await self.status()
            waiting = {name: row["waiting"] for name, row in status["destinations"].items() if row["waiting"]}
            if not waiting and not status["events"]["in_log"]:
                # Its counters were read a moment before what waits.
                return await self.status()
            if time.monotonic() > deadline:
                raise AssertionError(f"still waiting after {seconds} s: {status}\n{self.last_words()}")
            await asyncio.sleep(0.5)


def _kind(process: psutil.Process) -> str:
    words = process.cmdline()
    if "valkey-server" in " ".join(words[:1]):
        return "valkey"
    return {"collect": "collector", "work": "worker"}.get(words[-1] if "eventrouter" in words else "", "")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
