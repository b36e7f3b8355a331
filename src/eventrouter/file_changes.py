"""Notices changes of files, by looking at them now and then."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class FileChanges:
    """Tells whether files changed since it looked last, and whether some came to their folders or left them.

    It looks at sizes and times. That works in containers and on network disks too, where the system's own notices of
    changes don't arrive.
    """

    def __init__(self, paths: Iterable[Path | str]) -> None:
        self._paths: set[Path] = set()
        self._seen: dict[Path, tuple[int, ...]] = {}
        self.watch(paths)

    def watch(self, paths: Iterable[Path | str]) -> None:
        """Looks at these files from now on, and no others."""
        files = {Path(path).absolute() for path in paths}
        self._paths = files | {path.parent for path in files}
        known = self._seen
        self._seen = {path: known.get(path, _look(path)) for path in self._paths}

    def changed(self) -> bool:
        """Whether anything changed since the last call (or since `watch`)."""
        now = {path: _look(path) for path in self._paths}
        changed, self._seen = now != self._seen, now
        return changed


def _look(path: Path) -> tuple[int, ...]:
    """What changes with a file; empty when it isn't there."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino
