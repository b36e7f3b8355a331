"""How much of the log a router's turn may take, given the server's memory: one event may fill many lanes.

The server never runs full, and what drains goes on: with the warehouse away routing waits, and so in the end do the
collectors; destinations that take nothing get no more once they have too much, so that they hold up nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .lane import Item, Memory

FULL_PERCENT = 85
"""Routing fills the server's memory no further than this, about; what is above `append`'s limit is for its sake."""
CUT_PERCENT = 60
"""With so much of it used, the log and the warehouse's lane apart, a destination that has its spare room full gets no
more. It is well below what `append` may fill: no destination holds up the collectors."""
SPARE_PERCENT = 5
"""What is kept for destinations that drain: each of their lanes may have its part of it in any case."""
WAREHOUSE_PERCENT = 5
"""With so much of it in the lanes of the warehouse, it is the warehouse that routing waits for."""
OVERHEAD = 1.15
"""What a byte of a delivery costs, with its envelope, the stream's, and what the server's allocator rounds up."""
LETTER_BYTES = 600
"""A dead letter in the warehouse's lane, about: instead of a delivery to a destination that gets no more."""
RECORD_BYTES = 100
"""What an event is larger by in the warehouse's lane than in the log, about."""


class Room(NamedTuple):
    """What a turn may do."""

    items: int
    """How many of the log's entries, from the first on, it may route at once; 0: it has to wait for the warehouse."""
    cut: frozenset[str] = frozenset()
    """The destinations that get nothing of them."""


def room(memory: Memory, shards: int, destinations: Sequence[str], items: Sequence[Item]) -> Room:
    """The room for `items` of one shard's log. `memory.ahead` is in the order of `destinations`.

    The other shards are taken to be like this one, since order keys are spread by a hash.
    """
    if not memory.limit:
        return Room(len(items))
    percent = memory.limit / 100
    left = FULL_PERCENT * percent - memory.used
    spare = SPARE_PERCENT * percent / (shards * max(len(destinations), 1))
    greedy = frozenset(name for name, there in zip(destinations, memory.ahead, strict=True) if there * OVERHEAD > spare)
    others = memory.used - (memory.log + memory.warehouse) * OVERHEAD * shards
    cut = greedy if others >= CUT_PERCENT * percent else frozenset()
    number = _fitting(items, left, shards, len(destinations) - len(cut), len(cut))
    if number:
        return Room(number, cut)
    if memory.warehouse * OVERHEAD * shards >= WAREHOUSE_PERCENT * percent:
        return Room(0, cut)
    # The warehouse drains, so destinations are what takes the room. To move an entry on to the warehouse costs none.
    return Room(max(_fitting(items, left, shards, len(destinations) - len(greedy), len(greedy)), 1), greedy)


def _fitting(items: Sequence[Item], left: float, shards: int, takers: int, letters: int) -> int:
    """How many items fit, if each event goes to all `takers`: the first into what is left, all of them into a share."""
    need = 0.0
    for number, item in enumerate(items):
        need += len(item.data) * takers * OVERHEAD + item.units * (letters * LETTER_BYTES + RECORD_BYTES)
        if need > (left / shards if number else left):
            return number
    return len(items)
