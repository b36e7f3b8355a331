"""Work that is done once: whoever says it again, after a crash or beside somebody else, does nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from .errors import UnavailableError
from .lane import BUDGET_PERCENT, SHORT_LEASE_MS, Claim, Lane
from .lanes import Lanes
from .step_arguments import new_token, read_claims, write_counts
from .steps import too_few

TRIES = 3
"""How often it is asked whether the replicas have it, a second each time."""
WINDOW_MS = 24 * 3_600_000
REMEMBERED = 100_000
"""So many pieces of work are remembered in each shard, for a day at most: about 5 MB."""


class Item(NamedTuple):
    """What is to be appended to a lane; its units are added to the counter."""

    lane: str
    key: str
    """The lane key."""
    units: int
    data: bytes
    counter: str


class Piece(msgspec.Struct):
    """A piece of work: items and counters, all or nothing, once."""

    digest: bytes
    """What it is known by: see `digest_of`."""
    items: list[Item]
    counts: Mapping[str, int]


def digest_of(*words: str) -> bytes:
    """What a piece of work is known by: 16 bytes that follow from its words."""
    return hashlib.blake2b(msgspec.json.encode(words), digest_size=16).digest()


async def do_once(lanes: Lanes, shard: int, pieces: Sequence[Piece]) -> tuple[list[Claim], list[bool]]:
    """Does those `pieces` that were not done before, in one atomic step that also remembers them.

    Returns the claims to enqueue and, for each piece, whether it was done now. The digests differ. Raises
    `UnavailableError` at the memory budget, or while fewer replicas have it than have to; else `redis.RedisError`.
    """
    names = list(dict.fromkeys(item.lane for piece in pieces for item in piece.items))
    keys = [Lane(shard, name).key for name in names] or [Lane(shard, "log").key]  # counters alone need their shard, too
    places = {name: number for number, name in enumerate(names, start=1)}
    args: list[Any] = [BUDGET_PERCENT, WINDOW_MS, REMEMBERED, SHORT_LEASE_MS, [new_token() for _ in keys], len(pieces)]
    for piece in pieces:
        args.append(len(piece.items))
        for item in piece.items:
            args += (places[item.lane], item.counter, item.key, item.units)
        args += write_counts(piece.counts)
    blobs = [*(piece.digest for piece in pieces), *(item.data for piece in pieces for item in piece.items)]
    claims: list[Claim] = []
    done = [False] * len(pieces)
    try:
        for _ in range(TRIES):
            (flat, flags), is_kept = await lanes.run_kept("once", keys, args, blobs)
            claims += read_claims(flat)
            done = [before or flag == 49 for before, flag in zip(done, flags, strict=True)]
            if is_kept:
                return claims, done
    except ResponseError as error:
        if "FULL the memory" in str(error) or "maxmemory" in str(error):
            raise UnavailableError(
                "Redis is full", hint="`eventrouter status` says what waits; go on when that is less", retry_after=5.0
            ) from None
        raise
    raise too_few(lanes.replicas)
