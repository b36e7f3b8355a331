"""A process that `eventrouter up` has started, seen from inside: it ends with its parent, and reports to it.

Parent and child share a pair of sockets. The parent's end closes when the parent dies, however it dies, on Linux and
macOS alike; lines of JSON travel the other way.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from typing import Any

LINE_VARIABLE = "EVENTROUTER_UP_LINE"
"""The environment variable that holds the number of the child's descriptor."""
LISTENER_VARIABLE = "EVENTROUTER_UP_LISTENER"
"""The environment variable that holds the number of an inherited listening socket."""
ALONE_VARIABLE = "EVENTROUTER_ALONE"
"""Set for a worker when no other worker lives, so that all leases are of the dead: to 1 at its first start, to 2 when
it replaces one that died."""
DRAIN_SECONDS = 10.0
"""How long an orphan may take to finish what it has begun."""

_line: socket.socket | None = None


def attach() -> bool:
    """Starts to watch the parent; False when this process has none, that is, was not started by `up`."""
    global _line
    if _line is not None:
        return True
    descriptor = os.environ.pop(LINE_VARIABLE, "")
    if not descriptor.isdigit():
        return False
    _line = socket.socket(fileno=int(descriptor))
    os.set_inheritable(_line.fileno(), False)
    threading.Thread(target=_end_with_parent, args=(_line,), name="parent", daemon=True).start()
    return True


def is_attached() -> bool:
    """Whether `up` started this process."""
    return _line is not None


def is_alone() -> bool:
    """Whether `up` knows that no other worker is alive."""
    return os.environ.get(ALONE_VARIABLE) in ("1", "2")


def is_replacement() -> bool:
    """Whether a worker that is alone replaces one that died, rather than begins with `up`."""
    return os.environ.get(ALONE_VARIABLE) == "2"


def report(**facts: Any) -> bool:
    """Tells `up` something; False when nobody listens."""
    if _line is None:
        return False
    try:
        _line.sendall(json.dumps(facts).encode() + b"\n")
    except OSError:
        return False
    return True


def _end_with_parent(line: socket.socket) -> None:
    try:
        while line.recv(64):
            pass
    except OSError:
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(DRAIN_SECONDS)
    os._exit(1)
