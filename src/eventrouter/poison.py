"""Poison: a delivery with which every batch fails as a whole. When a batch is suspected of holding some.

A batch that fails as a whole blames nobody: mostly the destination is away, and the very same batch is good once it is
back. So it is repeated as it is, until it has failed `TRIES` times within at least `SECONDS`. From then on its
deliveries go with care: one at first, twice as many after each success, one again after a failure, until those at fault
are alone; alone they fail, wait and die as every delivery that fails by itself. A destination that is away gets one
delivery instead of one batch with each probe, and nothing more.

Where a retry must repeat the very same batch, its parts are other batches for a receiver who may have taken it. There
it is repeated until it failed twice although others were taken since the failure before. While none are, some other
delivery is the probe. Only a batch beside which nothing is there to try for `PINNED_SECONDS` is parted all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .delivery import InHand
from .errors import Retry
from .server_time import now_ms

TRIES = 3
"""So often a batch has to fail as a whole."""
DESPITE = 2
"""So often it has to fail although others were taken, where a retry must repeat the very same batch."""
SECONDS = 10.0
"""So long after its first failure at least."""
PINNED_SECONDS = 600.0
"""So long after its first failure a batch is parted that must be repeated as it is, if nothing told it from others."""


def blames(failure: Retry) -> bool:
    """Whether a batch may be at fault itself that fails so: neither a rate limit nor a refused connection is its doing.

    A 503 speaks for the whole destination, but comes from proxies, too, whose server one request brings down.
    """
    return not failure.everyone or failure.status == 503


def note_failure(batch: Sequence[InHand], last_success_ms: int) -> bool:
    """Notes that `batch` failed as a whole; True when others were taken since it had failed before."""
    now = now_ms()
    despite = any(0 < hand.tries.last_ms < last_success_ms for hand in batch)
    for hand in batch:
        tries = hand.tries
        tries.together += 1
        tries.despite += despite
        tries.first_ms = tries.first_ms or now
        tries.last_ms = now
        hand.note_tries()
    return despite


def suspect(batch: Iterable[InHand]) -> None:
    """From now on `batch` goes with care: it was refused, and there was no time to find which of it is at fault."""
    for hand in batch:
        hand.tries.suspected = True
        hand.note_tries()


def has_failed_often(batch: Iterable[InHand]) -> bool:
    """Whether `batch` has failed so often that something else is the better probe."""
    return any(hand.tries.together >= TRIES for hand in batch)


def is_suspected(hand: InHand, *, pinned: bool) -> bool:
    """Whether `hand` goes with care; `pinned`: a retry must repeat the very same batch."""
    tries = hand.tries
    # A refusal tells of no poison: what must be repeated as it is may only be parted where it was refused.
    if tries.suspected and not pinned:
        return True
    if not tries.together:
        return False
    seconds = (now_ms() - tries.first_ms) / 1000
    if pinned and tries.despite < DESPITE:
        return tries.together >= TRIES and seconds >= PINNED_SECONDS
    return (pinned or tries.together >= TRIES) and seconds >= SECONDS
