"""Room on a disk."""

from __future__ import annotations

import shutil
from pathlib import Path

FULL_BYTES = 16 * 1024 * 1024
"""A disk with less room than this counts as full: a few writes of the event log, and what else goes with them."""


def is_full(path: Path) -> bool:
    """Whether the disk of `path` has no room left; False when nobody knows, as when there is no such path."""
    try:
        return shutil.disk_usage(path).free < FULL_BYTES
    except OSError:
        return False
