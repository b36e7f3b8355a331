"""The data directory: ours alone while `up` runs, guarded by locks that the kernel drops when their holders die."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from .errors import StartError

log = structlog.get_logger("eventrouter.data_directory")

LEFTOVERS_SECONDS = 20.0
"""How long a start waits for the processes of a killed run: they end by themselves, and drain for 10 s at most."""


class LockFile:
    """An flock on a file whose content names its holder.

    A child that inherits `descriptor` holds the lock too, until the last of them has ended; so a lock tells the truth
    even after `kill -9`, which a file with a process id does not.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = -1

    def take(self) -> bool:
        """Takes the lock; False when another process holds it. Raises `StartError` where locks don't work at all."""
        if self.descriptor < 0:
            try:
                self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise StartError(
                    f"cannot open {self.path}: {error.strerror}",
                    hint="it must be writable for this user",
                ) from None
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise StartError(
                f"cannot lock {self.path}: {error.strerror}",
                hint="put the data directory on a local disk: this file system has no locks",
            ) from None
        return True

    def take_within(self, seconds: float) -> bool:
        """Takes the lock as soon as it is free; False when it is not within `seconds`."""
        deadline = time.monotonic() + seconds
        while not self.take():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        return True

    def name_holders(self, pids: Sequence[int]) -> None:
        """Writes who holds the lock, for the error that others get."""
        with contextlib.suppress(OSError):  # a full disk: the lock holds without names too
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, " ".join(str(pid) for pid in pids).encode(), 0)

    def holders(self) -> list[int]:
        """The process ids that were written last; empty when none or nonsense was."""
        try:
            return [int(word) for word in self.path.read_text(encoding="ascii", errors="replace").split()]
        except (OSError, ValueError):
            return []

    def release(self) -> None:
        """Gives up this process's hold; children that inherited the descriptor keep theirs."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def make_directory(path: Path) -> bool:
    """Makes a data directory, for its owner alone; False when it is there. Raises `StartError`."""
    try:
        exists = path.exists()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(
            f"cannot make the data directory {path}: {error.strerror}",
            hint="give another one with --data-dir or EVENTROUTER_DATA_DIR",
        ) from None
    return not exists


class DataDirectory:
    """The directory of one `up`: made when it is missing, readable for its owner only, locked while open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._run = LockFile(path / "up.lock")
        self.children = LockFile(path / "children.lock")
        """What the collector and the workers inherit: while one of them lives, no other run starts its own."""
        self._made = False

    @property
    def is_open(self) -> bool:
        """Whether this process holds it."""
        return self._run.descriptor >= 0

    def open(self) -> None:
        """Makes and locks it; waits for what a killed run left behind. Raises `StartError`."""
        self._made = make_directory(self.path)
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise StartError(
                f"the data directory {self.path} is not writable for this user",
                hint="change its owner, or give another one with --data-dir or EVENTROUTER_DATA_DIR",
            )
        if not self._run.take():
            self._run.release()
            raise StartError(
                f"the data directory {self.path} is in use by `eventrouter up`{_named(self._run.holders())}",
                hint="stop that one first, or give another directory with --data-dir",
            )
        self._run.name_holders([os.getpid()])
        if not self.children.take():
            log.info("Waiting for the processes of the last run to end")
            if not self.children.take_within(LEFTOVERS_SECONDS):
                holders = _named(self.children.holders())
                self.close()
                raise StartError(
                    f"processes of an earlier run still use the data directory {self.path}{holders}",
                    hint="end those processes, then start again",
                )

    def discard(self) -> None:
        """Takes it away if `open` made it and nothing is in it: for a start that failed, before `close`."""
        locks = (self._run.path, self.children.path)
        with contextlib.suppress(OSError):
            if self._made and set(self.path.iterdir()) <= set(locks):
                # While they are locked, so that nobody else takes one that is about to go.
                for lock in locks:
                    lock.unlink(missing_ok=True)
                self.path.rmdir()

    def close(self) -> None:
        """Gives the directory free."""
        self.children.release()
        self._run.name_holders([])
        self._run.release()


def _named(pids: Sequence[int]) -> str:
    if not pids:
        return ""
    return f" (process {', '.join(str(pid) for pid in pids)})"
