"""Every error that eventrouter raises or that a plugin may raise: each says what was wrong, where, and what to do."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

EXIT_CONFIG = 78
"""The exit code for a bad configuration (`EX_CONFIG` of BSD's sysexits.h)."""
MAX_TOLD = 50
"""Problems of a configuration that a person is told at once."""
MAX_TEXT = 65_536
"""Characters of a reason or an answer that are kept in memory. Less is stored, once secrets are masked."""
MAX_AFTER = 86_400.0
"""Seconds: who asks us to come back later than in a day is asked again in a day."""


class EventRouterError(Exception):
    """An error for a person: `str(error)` is the message, `hint` (may be empty) says what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class StartError(EventRouterError):
    """Something outside of the configuration file keeps a process from starting (a port, a lock, a server)."""


class ChildError(EventRouterError):
    """A process that `eventrouter up` runs could not start for good. `exit_code` is the child's, and becomes ours."""

    def __init__(self, message: str, *, hint: str = "", exit_code: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class UnavailableError(EventRouterError):
    """A service that we need is away or full for now; the same call may succeed later.

    `retry_after` is in seconds, None when nobody knows.
    """

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a file. `line` and `column` count from 1; 0 means that all of it is meant."""

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
        place = ":".join([self.path, *(str(number) for number in (self.line, self.column) if number)])
        lines = [f"{place}: {'warning: ' if self.severity == 'warning' else ''}{self.message}"]
        if self.text:
            number = str(self.line)
            lines.append(f"{number}| {self.text}")
            lines.append(f"{' ' * len(number)}| {' ' * (self.column - 1)}^")
        if self.hint:
            lines.append(f"{' ' * len(str(self.line))}= hint: {self.hint}" if self.text else f"  = hint: {self.hint}")
        return "\n".join(lines)


def first_of(problems: Sequence[Problem], most: int = MAX_TOLD) -> list[Problem]:
    """So many of them at most; where some have to be left out, warnings are before errors."""
    if len(problems) <= most:
        return list(problems)
    return sorted(problems, key=lambda problem: problem.severity == "warning")[:most]


class ConfigError(EventRouterError):
    """All problems of a configuration, in the order of the file. Never raised with none.

    Its message tells the first `MAX_TOLD`.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        told = [str(problem) for problem in first_of(problems)]
        if len(problems) > len(told):
            told.append(f"… and {len(problems) - len(told):,} more")
        super().__init__("\n".join(told))
        self.problems = list(problems)
        self.files: tuple[str, ...] = ()
        """The files and folders that were looked at: what is wrong may be put right there."""


class DeliveryError(Exception):
    """What `Retry` and `Reject` share: why a delivery was not taken, and what the other side answered.

    Whatever a plugin gives, `reason` and `response` are texts that can be stored, `status` is a number or None.
    """

    def __init__(
        self, reason: str = "", *, status: int | None = None, response: str = "", everyone: bool = False
    ) -> None:
        self.reason = storable(reason)
        super().__init__(self.reason)
        self.status = _status(status)
        self.response = storable(response)
        self.everyone = bool(everyone)


class Retry(DeliveryError):
    """The delivery may succeed later. `after` (seconds) wins over the backoff when the other side named a time.

    It is between 0 and a day. `everyone` says that the whole destination is affected (a refused connection, a rate
    limit), not this delivery.
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
        super().__init__(reason, status=status, response=response, everyone=everyone)
        self.after = _seconds(after)


class Reject(DeliveryError):
    """The delivery will never succeed as it is: it becomes a dead letter, and is not tried again by itself.

    `everyone` says that the address or the key may be at fault, not this delivery: then the destination may be put on
    hold instead. A status of 401, 403, 404, 405, 410 or 3xx says the same.
    """


def plain(error: Retry | Reject) -> Retry | Reject:
    """`error` as we would have made it: a plugin may have set what it likes, or have made a subclass of its own."""
    reason = getattr(error, "reason", "") or " ".join(storable(one) for one in error.args)
    given = {name: getattr(error, name, None) for name in ("status", "response", "everyone")}
    if isinstance(error, Retry):
        return Retry(reason, after=getattr(error, "after", None), **given)  # type: ignore[arg-type]
    return Reject(reason, **given)  # type: ignore[arg-type]


def is_cancellation(error: BaseException) -> bool:
    """Whether `error`, met in a task, is what ends this task from without, rather than the doing of what it called.

    A plugin may call sys.exit(), or raise CancelledError or KeyboardInterrupt: that is no reason for us to end.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, GeneratorExit)


def storable(value: object) -> str:
    """`value` as a text that JSON can hold, cut at `MAX_TEXT` characters; None is the empty one."""
    try:
        text = value if isinstance(value, str) else "" if value is None else _decoded(value)
    except Exception as error:  # a plugin's own __str__
        return f"{type(value).__name__}, of which no text can be made ({type(error).__name__})"
    text = text[:MAX_TEXT]
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _decoded(value: object) -> str:
    return bytes(value[:MAX_TEXT]).decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else str(value)


def _status(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None


def _seconds(value: object) -> float | None:
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except OverflowError:
        return MAX_AFTER
    except (TypeError, ValueError):
        return None
    return None if seconds != seconds else min(max(seconds, 0.0), MAX_AFTER)
