"""The words of lanes: what a lane, a claim, an item is, and what a step takes."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from .errors import EventRouterError

LEASE_MS = 6_000
"""How long a turn may be silent before another one takes over; it is renewed every third of it."""
SHORT_LEASE_MS = 5_000
"""How long a claimed lane may wait in arq before its job is enqueued once more."""
BUDGET_PERCENT = 75
"""How much of the server's maxmemory `append` may fill; the rest belongs to the steps that drain."""


class FencedError(EventRouterError):
    """The turn's token is not the lane's any more: another turn has taken over. Whatever was in hand is theirs."""


class Lane(NamedTuple):
    """A lane's address. `name` is a destination's name or `log`."""

    shard: int
    name: str

    @property
    def key(self) -> str:
        """The Redis key of its stream; the braces keep a shard's keys on one node of a Cluster."""
        return f"er:{{{self.shard}}}:lane:{self.name}"

    @classmethod
    def parse(cls, key: str) -> Lane:
        """The lane of a stream's key."""
        shard, name = key.removeprefix("er:{").split("}:lane:", 1)
        return cls(int(shard), name)


Pins = dict[str, list[list[str]]]
"""Batches that a retry must repeat: by batch id the ids of their items, in the parts in which they are to be tried."""


class Claim(NamedTuple):
    """A lane whose next turn has to be enqueued. `job` is the arq job of a dead turn, to be forgotten."""

    lane: Lane
    token: str
    delay: float = 0.0
    """Seconds."""
    job: str = ""


class Item(msgspec.Struct):
    """What a turn has in hand."""

    id: str
    parked: bool
    key: str
    """The lane key (a digest of the order key)."""
    units: int
    """How many events, deliveries or records it holds."""
    data: bytes
    tries: bytes = b""
    """What an earlier turn noted about its attempts, JSON."""


class Append(msgspec.Struct):
    """Items for one lane of the shard; `count` is the counter that their units are added to."""

    lane: str
    items: list[tuple[str, int, bytes]]
    """(lane key, units, data) each."""
    count: str = ""


class Removal(msgspec.Struct):
    """An item that is settled; `count` is the counter that its units are added to, if it was still there."""

    item: Item
    count: str


class Park(msgspec.Struct):
    """A lane key that waits `delay_ms`, with all items of it that are in hand; the `tries` of each are noted."""

    key: str
    delay_ms: int
    items: list[Item]


class Seen(msgspec.Struct):
    """Event digests to be remembered for `window_ms`, at most `most` of them per shard."""

    digests: list[bytes]
    window_ms: int
    most: int


class Memory(NamedTuple):
    """The server's memory in bytes, and those of the data in one shard's lanes."""

    used: int
    limit: int
    """Its maxmemory; 0: none."""
    log: int
    warehouse: int
    """In the warehouse's lane."""
    ahead: tuple[int, ...]
    """In each of the lanes that were asked for."""


class Batch(NamedTuple):
    """What `Turn.read` found."""

    status: str
    """items, empty (the claim is kept) or idle (the claim was given back)."""
    items: list[Item]
    now_ms: int
    """The server's clock."""
    next_due_ms: int
    """When the next parked key is due by the server's clock; 0: none."""
    last_id: str
    """The id after which new items will come; only with `empty`."""
