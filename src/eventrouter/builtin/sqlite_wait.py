"""Waiting for a lock on a SQLite file in a way that can be ended from outside."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SLICE_SECONDS = 0.25
"""The `timeout` of a connection. While SQLite itself waits for a lock, nothing reaches it, `interrupt` neither."""
PAUSE_SECONDS = 0.005


def is_busy(error: Exception) -> bool:
    """Whether somebody else's lock was in the way."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.OperationalError) and code is not None and code & 0xFF == sqlite3.SQLITE_BUSY


def wait_for_lock(work: Callable[[], T], seconds: float, stopped: threading.Event) -> T:
    """Does `work` again while another connection's lock is in the way: up to `seconds`, or until `stopped` is set.

    `work` is one statement, which has done nothing when it fails so. Raises what `work` raises.
    """
    ends = time.monotonic() + seconds
    while True:
        try:
            return work()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= ends or stopped.is_set():
                raise
        time.sleep(PAUSE_SECONDS)
