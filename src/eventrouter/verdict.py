"""What came of a batch: for each delivery that it was taken, why it failed, or that it was not tried."""

from __future__ import annotations

import traceback

import msgspec

from .delivery import InHand
from .errors import MAX_TEXT, Reject, Retry, storable


class Bug(Exception):
    """An exception of the plugin that is neither `Retry` nor `Reject`; `text` is its traceback."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(storable(": ".join(filter(None, (type(error).__name__, storable(error))))))
        self.error = error
        self.text = storable("".join(traceback.format_exception(error))[-MAX_TEXT:])


class OwnFault(Reject):
    """A refusal in an answer that took others: the address and the key were good."""

    def __init__(self, refusal: Reject) -> None:
        super().__init__(refusal.reason, status=refusal.status, response=refusal.response)


Failure = Retry | Reject | Bug

MISCONFIGURED = frozenset({401, 403, 404, 405, 410})
"""Refusals that may mean the address or the key rather than the event."""


def is_final(failure: Failure) -> bool:
    """Whether a delivery that fails so is dead at once: it is refused, and surely for its own sake."""
    if isinstance(failure, OwnFault) or not isinstance(failure, Reject):
        return isinstance(failure, OwnFault)
    redirected = failure.status is not None and 300 <= failure.status < 400
    return not (failure.everyone or redirected or failure.status in MISCONFIGURED)


class Verdict(msgspec.Struct):
    """What came of a batch; each of its deliveries is in exactly one of the lists."""

    delivered: list[InHand] = msgspec.field(default_factory=list)
    failed: list[tuple[InHand, Failure]] = msgspec.field(default_factory=list)
    """Deliveries that failed by themselves, in the order of their failures."""
    outlived: int = 0
    """How many of `failed` came before others were taken."""
    untried: list[InHand] = msgspec.field(default_factory=list)
    """Deliveries that were not tried, since the destination failed as a whole or a sibling before them failed."""
    whole: Retry | None = None
    """Why the destination failed as a whole."""
    repeat: list[list[InHand]] = msgspec.field(default_factory=list)
    """Those of `untried` that may have been taken, now or before a crash, in the parts in which they have to be tried
    again where a retry must repeat what was tried."""
    careful: bool = False
    """Whether only the first part was to be tried, since it is suspected of poison."""
    together: list[InHand] = msgspec.field(default_factory=list)
    """Those of `untried` that failed as a whole batch, in a way that may be their own fault."""
    spoilt: Retry | None = None
    """Why those of `together` failed, when it is not taken for the destination's failure."""
    despite: bool = False
    """Whether others were taken since those of `together` had failed before."""
    refused: list[InHand] = msgspec.field(default_factory=list)
    """Those of `untried` that were refused as a whole batch, with no time left to find the one at fault."""
