"""A PostgreSQL of its own in a chaos run, and what may befall it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from postgres_kit import postgres_running


class Postgres:
    """A running server; `url` is that of its database `postgres`."""

    def __init__(self, server: Any, url: str) -> None:
        self.url = url
        self._server = server

    def kill(self) -> None:
        """`kill -9` of all its processes; returns when they are gone."""
        family = self._family()
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(family, timeout=10)

    def kill_backend(self, index: int) -> None:
        """`kill -9` of the process that serves one connection: the server starts all of them anew."""
        backends = [process for process in self._family() if "postgres: " in " ".join(process.cmdline()[:1])]
        with contextlib.suppress(psutil.Error, IndexError, ZeroDivisionError):
            backends[index % len(backends)].kill()

    def freeze(self, seconds: float) -> None:
        """Stops all its processes for so long, then lets them go on."""
        family = self._family()
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for process in family:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)
            if number == signal.SIGSTOP:
                time.sleep(seconds)

    def start(self) -> None:
        """Starts it; returns once it has recovered."""
        self._control("-o", f"-c listen_addresses= -k {self._server.pgdata}", "-l", str(self._server.log), "start")

    def stop(self) -> None:
        """Ends it, its connections too."""
        try:
            self._control("-m", "fast", "-t", "15", "stop")
        except subprocess.CalledProcessError:  # it may wait for ever for a process that was killed a moment ago
            self._control("-m", "immediate", "stop")

    def _control(self, *words: str) -> None:
        command = [str(self._server.bin_path / "pg_ctl"), "-w", "-D", str(self._server.pgdata), *words]
        subprocess.run(command, user=self._server.system_user, stdout=subprocess.DEVNULL, check=True)

    def _family(self) -> list[psutil.Process]:
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            first = psutil.Process(int((self._server.pgdata / "postmaster.pid").read_text().split()[0]))
            return [first, *first.children(recursive=True)]
        return []


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server that may be dead at the end."""
    with postgres_running() as (server, url):
        one = Postgres(server, url)
        try:
            yield one
        finally:
            one.kill()
