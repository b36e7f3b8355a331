"""What steps are handed and what they return: the sections that several of them share."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from .lane import SHORT_LEASE_MS, Append, Claim, Lane, Removal

pack = msgspec.msgpack.Encoder().encode
"""All small arguments as one."""


def new_token() -> str:
    """A fencing token: a random nonce, since a restored server could repeat a count."""
    return secrets.token_hex(8)


def write_appends(keys: list[str], blobs: list[bytes], shard: int, appends: Iterable[Append]) -> list[Any]:
    """The section `appends` of a step's arguments; adds the lanes to `keys`, the items' data to `blobs`."""
    args: list[Any] = [SHORT_LEASE_MS, 0]
    number = 0
    for append in appends:
        if not append.items:
            continue
        number += 1
        keys.append(Lane(shard, append.lane).key)
        args += (len(keys), new_token(), append.count, len(append.items))
        for key, units, data in append.items:
            args += (key, units)
            blobs.append(data)
    args[1] = number
    return args


def write_removals(removals: Iterable[Removal]) -> list[Any]:
    """The section `removals`: what lies together and counts alike is one command there, instead of some for each."""
    groups: dict[tuple[str, int, str], list[Any]] = {}
    for removal in removals:
        item = removal.item
        alike = (item.key if item.parked else "", item.units, removal.count)
        group = groups.get(alike)
        if group is None:
            group = groups[alike] = [*alike, 0, 0]
        group[3] += len(item.data)
        group[4] += 1
        group.append(item.id)
    return [len(groups), *chain.from_iterable(groups.values())]


def write_counts(counts: Mapping[str, int]) -> list[Any]:
    """The section `counts`."""
    args: list[Any] = [len(counts)]
    for field, by in counts.items():
        args += (field, by)
    return args


def read_parts(ids: str) -> list[list[str]]:
    """The ids of a pinned batch, in its parts."""
    return [part.split() for part in ids.split("|")]


def write_parts(parts: Sequence[Sequence[str]]) -> str:
    """The parts of a pinned batch, as they are kept."""
    return " | ".join(" ".join(part) for part in parts)


def read_claims(flat: Sequence[bytes]) -> list[Claim]:
    """The claims of lanes that a step claimed: keys and tokens by turns."""
    return [Claim(Lane.parse(key.decode()), token.decode()) for key, token in zip(flat[::2], flat[1::2], strict=True)]
