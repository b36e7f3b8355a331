"""`--where`: which of the warehouse's events a command is about."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ..errors import Problem
from .common import UsageError

if TYPE_CHECKING:
    from ..comparing import Fault
    from ..events import StoredEvent
    from ..expressions import Expressions


class Where:
    """A condition as in `when`; an event at which it fails is left out, and counted with the reason."""

    def __init__(self, text: str | None, expressions: Expressions) -> None:
        """None: every event. Raises `UsageError` with all that is wrong where it is no valid condition."""
        from ..expressions import ExpressionError

        self.looked = 0
        """How many events were looked at."""
        self.failures: Counter[str] = Counter()
        try:
            self._holds = None if text is None else expressions.condition(text)
        except ExpressionError as error:
            problems = [_problem(text or "", fault) for fault in error.faults]
            raise UsageError("\n".join(map(str, problems))) from None

    def __call__(self, event: StoredEvent) -> bool:
        """Whether the event is meant."""
        from ..expressions import TemplateError

        self.looked += 1
        try:
            return self._holds is None or self._holds(event.event, event.source)
        except TemplateError as error:
            self.failures[str(error).removeprefix("`when` ")] += 1
            return False


def _problem(text: str, fault: Fault) -> Problem:
    from ..config_reader import MAX_LINE

    before = text[: fault.offset].split("\n")
    line = text.split("\n")[len(before) - 1]
    shown = line if len(line) <= MAX_LINE else ""
    return Problem("--where", len(before), len(before[-1]) + 1, f"the condition {fault.message}", fault.hint, shown)
