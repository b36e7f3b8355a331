"""eventrouter on several machines: collectors and workers by themselves, one Valkey, one PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from chaos_rules import Variant
from lan import Lan
from system import free_port

COMMAND = (sys.executable, "-P", "-m", "eventrouter")
PORT = 8000


class Machine:
    """One machine of a `Lan`, or this one; with rules and a data directory of its own. `close` after use."""

    def __init__(self, lan: Lan | None, name: str, directory: Path, rules: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self.directory = directory
        self.log = directory / "log.txt"
        address, port = (lan.address(name), PORT) if lan else ("127.0.0.1", free_port())
        self.url = f"http://{address}:{port}"
        self._lan = lan
        directory.mkdir()
        (directory / "routes.yaml").write_text(rules)
        ours = {name: value for name, value in os.environ.items() if not name.startswith("EVENTROUTER_")}
        ours |= {"EVENTROUTER_CONFIG": str(directory / "routes.yaml"), "EVENTROUTER_DATA_DIR": str(directory / "data")}
        ours |= {"EVENTROUTER_HOST": address, "EVENTROUTER_PORT": str(port), "EVENTROUTER_LOG_FORMAT": "json"}
        self.environment = ours | dict(environment)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def _command(self, *words: str) -> list[str]:
        return self._lan.command(self.name, *COMMAND, *words) if self._lan else [*COMMAND, *words]

    def start(self, command: str, name: str = "", **environment: str) -> None:
        """Starts `collect` or `work`; with a `name`, under which it is known then, another one beside it."""
        with self.log.open("ab") as log:
            self._processes[name or command] = subprocess.Popen(
                self._command(command),
                cwd=self.directory,
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self, name: str) -> None:
        """`kill -9`."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str) -> int:
        """Ends it by SIGTERM; returns its exit code."""
        process = self._processes.pop(name)
        process.terminate()
        return process.wait(40)

    def close(self) -> None:
        """Kills whatever is left."""
        for name in list(self._processes):
            self.kill(name)

    async def ready(self, seconds: float = 60.0) -> None:
        """Waits until its collector takes events. To be called on a machine."""
        deadline = time.monotonic() + seconds
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(2)) as session:
            while time.monotonic() < deadline:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(f"{self.url}/ready") as response:
                        if response.status == 200:
                            return
                await asyncio.sleep(0.05)
        raise AssertionError(f"the collector of {self.name} is not ready:\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text("utf-8", "replace")[-6000:]

    async def status(self) -> dict[str, Any]:
        """What `eventrouter status --json` says there."""
        process = await asyncio.create_subprocess_exec(
            *self._command("status", "--json"),
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, (out, err)
        return dict(json.loads(out))

    async def drained(self, expected: int, seconds: float = 60.0) -> dict[str, Any]:
        """The status once so many events were routed and nothing waits any more, anywhere."""
        deadline = time.monotonic() + seconds
        while True:
            status = await self.status()
            waiting = [name for name, row in status["destinations"].items() if row["waiting"]]
            if not waiting and not status["events"]["in_log"] and status["events"]["routed"] >= expected:
                return await self.status()  # its counters were read a moment before what waits
            assert time.monotonic() < deadline, f"still waiting after {seconds} s: {status}"
            await asyncio.sleep(0.5)


def rules(postgres: str, sink: str) -> str:
    """The rules of a chaos run, with warehouse and state in PostgreSQL; `sink` is the receiver's address and port."""
    address, port = sink.split(":")
    return Variant().text(int(port), 2, postgres).replace("127.0.0.1", address)
