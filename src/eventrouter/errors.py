"""Every error that eventrouter raises or that a plugin may raise: each says what was wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EXIT_CONFIG = 78
"""The exit code for a bad configuration (`EX_CONFIG` of BSD's sysexits.h)."""


class EventRouterError(Exception):
    """An error for a person: `str(error)` is the message, `hint` (may be empty) says what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class StartError(EventRouterError):
    """Something outside of the configuration file keeps a process from starting (a port, a lock, a server)."""


class UnavailableError(EventRouterError):
    """A service that we need is away or full for now; the same call may succeed later.

    `retry_after` is in seconds, None when nobody knows.
    """

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a file. `line` and `column` count from 1; 0 means that the whole file is meant."""

    path: str
    line: int
    column: int
    message: str
    hint: str = ""
    text: str = ""
    """The offending line of the file, without its line end; secrets in it are masked."""
    severity: str = "error"
    """`error`, or `warning`: worth a look, but the file can be used."""

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        lines = [f"{place}: {'warning: ' if self.severity == 'warning' else ''}{self.message}"]
        if self.text:
            number = str(self.line)
            lines.append(f"{number}| {self.text}")
            lines.append(f"{' ' * len(number)}| {' ' * (self.column - 1)}^")
        if self.hint:
            lines.append(f"{' ' * len(str(self.line))}= hint: {self.hint}" if self.text else f"  = hint: {self.hint}")
        return "\n".join(lines)


class ConfigError(EventRouterError):
    """All problems of a configuration, in the order of the file. Never raised with none."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = list(problems)


class DeliveryError(Exception):
    """What `Retry` and `Reject` share: why a delivery was not taken, and what the other side answered."""

    def __init__(self, reason: str = "", *, status: int | None = None, response: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.response = response[:2000]


class Retry(DeliveryError):
    """The delivery may succeed later. `after` (seconds) wins over the backoff when the other side named a time.

    `everyone` says that the whole destination is affected (a refused connection, a rate limit), not this delivery.
    """

    def __init__(
        self,
        reason: str = "",
        *,
        after: float | None = None,
        status: int | None = None,
        response: str = "",
        everyone: bool = False,
    ) -> None:
        super().__init__(reason, status=status, response=response)
        self.after = after
        self.everyone = everyone


class Reject(DeliveryError):
    """The delivery will never succeed as it is: it becomes a dead letter, and is not tried again by itself.

    `everyone` says that the address or the key may be at fault, not this delivery: then the destination may be put on
    hold instead. A status of 401, 403, 404, 405, 410 or 3xx says the same.
    """

    def __init__(
        self, reason: str = "", *, status: int | None = None, response: str = "", everyone: bool = False
    ) -> None:
        super().__init__(reason, status=status, response=response)
        self.everyone = everyone
