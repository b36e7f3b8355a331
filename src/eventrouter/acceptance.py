"""What collecting hands over to the event log: accepted events, refused ones, and the limits they are held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .records import RejectedEvent


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold. The defaults are Segment's; sizes are in bytes, a KB is 1,024 of them."""

    max_event_bytes: int = 32 * 1024
    """The size of one event as compact JSON, as the client sent it."""
    max_batch_bytes: int = 500 * 1024
    """The size of a request's body, before and after it is decompressed."""
    max_batch_events: int = 2500
    max_properties: int = 10_000
    """The keys of one event's `properties`, and of its `traits`."""
    body_timeout: float = 30.0
    """Seconds in which a whole body has to arrive."""
    max_held_bytes: int = 64 * 1024 * 1024
    """The bytes of all requests that are being read or written to the event log; more are asked to come again."""


class BodyError(Exception):
    """A request cannot be taken, as a whole. `str(error)` is the message for the client, `code` the machine's."""

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Client(NamedTuple):
    """Who sent a request."""

    ip: str
    """The client's address; empty when it is not known."""
    user_agent: str
    """Its `User-Agent`; empty when it sent none."""


class AcceptedEvent(NamedTuple):
    """One event that is ready for the event log."""

    order_key: str
    """The event's anonymousId, else its userId."""
    data: bytes
    """An `events.StoredEvent` as JSON: `["website",{"type":"track",…}]`."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """One event that was refused."""

    index: int
    """The event's place in its batch, from 0."""
    record: RejectedEvent


@dataclass(slots=True)
class Acceptance:
    """What became of each event of one body, in the order of the body."""

    events: list[AcceptedEvent] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    mended: Mapping[str, int] = field(default_factory=dict)
    """How many values were replaced because JSON cannot hold them, by reason (`not_a_number`, `not_unicode`, …).

    `too_many_parameters`: texts that became empty because it would take too long to scrub them.
    """

    @property
    def rejected(self) -> list[RejectedEvent]:
        """The refused events as records for the warehouse."""
        return [rejection.record for rejection in self.rejections]
