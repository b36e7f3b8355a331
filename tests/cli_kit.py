"""Runs the real command line, and a real `eventrouter up`, in a directory of a test's own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from command_kit import COMMAND, run_command

RULES = """
version: 1
sources:
  website: { write_key: test-key }
  app: { write_key: app-key }
"""


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Returns when `condition` holds; fails when it doesn't within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class Place:
    """A directory with a routes.yaml, in which commands run."""

    def __init__(self, path: Path, rules: str = RULES, **environment: str) -> None:
        self.path = path
        self.port = free_port()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("EVENTROUTER_")}
        self.environment |= {"EVENTROUTER_PORT": str(self.port)} | environment
        self.running: list[subprocess.Popen[str]] = []
        (path / "routes.yaml").write_text(rules)

    @property
    def url(self) -> str:
        """Where its collector listens."""
        return f"http://127.0.0.1:{self.port}"

    def run(self, *arguments: str, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        environment = self.environment | environment
        return run_command(arguments, environment, self.path, (stdin or "").encode())

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Starts a command; its output goes to the files `out` and `err` of the directory."""
        with (self.path / "out").open("w") as out, (self.path / "err").open("w") as err:
            process = subprocess.Popen(
                [*COMMAND, *arguments],
                cwd=self.path,
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                text=True,
            )
        self.running.append(process)
        return process

    def up(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Starts `eventrouter up` and waits until it says that all is ready."""
        process = self.start("up", *arguments, **environment)
        wait_until(lambda: "is ready" in self.out or process.poll() is not None)
        assert process.poll() is None, self.err
        return process

    def files(self) -> list[str]:
        """What lies in the directory."""
        return sorted(file.name for file in self.path.iterdir())

    @property
    def out(self) -> str:
        """What the last started command wrote on stdout."""
        return (self.path / "out").read_text()

    @property
    def err(self) -> str:
        """What it wrote on stderr."""
        file = self.path / "err"
        return file.read_text() if file.exists() else ""

    def stop(self, process: subprocess.Popen[str]) -> int:
        """Asks it to end; returns its exit code."""
        process.send_signal(signal.SIGTERM)
        return process.wait(35)

    def close(self) -> None:
        """Ends all that was started here; the Valkey of a killed `up` too."""
        from eventrouter.embedded import EmbeddedServer

        for process in self.running:
            if process.poll() is None:
                self.stop(process)
        server = EmbeddedServer(self.path / ".eventrouter")
        if server.socket.exists():
            server.start()
            server.stop()
