"""What is known of all shards: counters kept in the steps themselves, lanes, and the health of destinations."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from .lane import BUDGET_PERCENT
from .lanes import Lanes
from .presence import Process, processes
from .records import DEAD_LETTER_CLASSES
from .server_time import now_ms
from .times import EPOCH, write_time

STATES = {"backoff": "backing off", "hold": "on hold"}
FAILING_SECONDS = 60
"""So long after its next turn was due, a lane counts as failing still: turns that succeed don't say so."""


class LaneState(msgspec.Struct):
    """A destination's lanes (or the log's), added up over the shards."""

    waiting: int = 0
    """Units: events, deliveries or records."""
    parked_keys: int = 0
    oldest_ms: int = 0
    """When the oldest item was appended, by the server's clock; 0: none waits. Of parked keys 100 are looked at."""
    failed_ms: int = 0
    """When a turn came to nothing last; 0: never."""
    failed_until_ms: int = 0
    """When the next turn was due then."""
    failure: str = ""
    """Why."""
    fullest: int = 0
    """What waits in the shard where most does."""


class Snapshot(msgspec.Struct):
    """All that the shards and destinations tell at one moment."""

    counts: Counter[str]
    lanes: dict[str, LaneState]
    health: dict[str, dict[str, str]]
    dedup_since_ms: int
    """Since when ids are remembered, in the shard that forgets first; 0: nothing is."""
    now_ms: int
    processes: list[Process] = msgspec.field(default_factory=list)
    """Collectors and workers that are there."""
    memory_used: int = 0
    """Bytes of memory that the server uses; where shards lie on several, the fullest one."""
    memory_max: int = 0
    """Its maxmemory; 0: none."""


async def read_snapshot(lanes: Lanes, shards: int, destinations: Iterable[str]) -> Snapshot:
    """Reads each shard in one step, so that its numbers belong together; then the health of the destinations.

    Destinations that are no longer configured are in it once they had deliveries.
    """
    shown = sorted({"log", "warehouse", *destinations})
    present, *rows = await asyncio.gather(
        processes(lanes.redis),
        *(lanes.run("state", [f"er:{{{shard}}}:counts"], [len(shown), *shown]) for shard in range(shards)),
    )
    told = [_Shard(*row) for row in rows]
    counts: Counter[str] = Counter()
    found: dict[str, LaneState] = {}
    for one in told:
        counts.update({name.decode(): int(value) for name, value in _pairs(one.counters)})
        for name, *state in one.lanes:
            _add_state(found.setdefault(name.decode(), LaneState()), *state)
    for name, failure in chain.from_iterable(_pairs(one.failures) for one in told):
        if name.decode() in found:
            _add_failure(found[name.decode()], failure.decode())
    ordered = dict(sorted(found.items()))
    health = dict(zip(ordered, await _healths(lanes, ordered), strict=True))
    fullest = max((one.memory for one in told), key=lambda one: one[0] / (one[1] or 2**62))
    return Snapshot(counts, ordered, health, max(one.since_ms for one in told), now_ms(), present, *fullest)


class _Shard(NamedTuple):
    """What the step `state` returns."""

    counters: Sequence[bytes]
    lanes: Sequence[Sequence[Any]]
    failures: Sequence[bytes]
    since_ms: int
    memory: tuple[int, int]


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _add_state(lane: LaneState, waiting: int, parked_keys: int, oldest_ms: int) -> None:
    """Takes what one shard tells of a lane."""
    lane.waiting += waiting
    lane.fullest = max(lane.fullest, waiting)
    lane.parked_keys += parked_keys
    lane.oldest_ms = min(lane.oldest_ms or oldest_ms, oldest_ms or lane.oldest_ms)


def _add_failure(lane: LaneState, value: str) -> None:
    """Takes what the step `fail` noted in one shard; the last of all shards counts."""
    at, until, reason = value.split(" ", 2)
    if int(at) >= lane.failed_ms:
        lane.failed_ms, lane.failed_until_ms, lane.failure = int(at), int(until), reason


async def _healths(lanes: Lanes, names: Iterable[str]) -> list[dict[str, str]]:
    async with lanes.redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.hgetall(f"er:{{dest:{name}}}:health")
        rows = await pipeline.execute()
    return [{field.decode(): value.decode() for field, value in row.items()} for row in rows]


def failing(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """How the turns of a lane fare: `state` is ok or failing; `reason` why they came to nothing, while they do."""
    lane = snapshot.lanes.get(name, LaneState())
    fails = lane.failed_ms > 0 and snapshot.now_ms < lane.failed_until_ms + FAILING_SECONDS * 1000
    return {
        "state": "failing" if fails else "ok",
        "reason": lane.failure if fails else "",
        "turns_failed": snapshot.counts[f"turn_failed:{name}"],
    }


def age(snapshot: Snapshot, name: str) -> float | None:
    """For how many seconds the oldest item of a lane has waited; None: none waits."""
    lane = snapshot.lanes.get(name, LaneState())
    return max(snapshot.now_ms - lane.oldest_ms, 0) / 1000 if lane.oldest_ms else None


def budget_used(snapshot: Snapshot) -> float:
    """What is used of the memory that events may fill, 0 to more than 1: from 1 on collectors spool."""
    return snapshot.memory_used * 100 / (snapshot.memory_max * BUDGET_PERCENT) if snapshot.memory_max else 0.0


def by_destination(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """One destination's row of `status`. Once nothing moves,

    `routed` = `delivered` + `waiting` + what was `filtered` + what is `dead` + what an operator `discarded` or had
    `forgotten`. A dead letter that was sent again counts as what became of it then: see `still_dead`.
    """
    counts, lane, health = snapshot.counts, snapshot.lanes.get(name, LaneState()), snapshot.health.get(name, {})
    turns = failing(snapshot, name)
    until, paused = int(health.get("until", 0)), int(health.get("paused", 0))
    filtered, died, replayed = (reasons(counts, f"{what}:{name}:") for what in ("filtered", "dead", "replayed"))
    return {
        "unit": "records" if name == "warehouse" else "deliveries",
        "routed": counts[f"to:{name}"] - sum(replayed.values()) + sum(filtered.values()),
        "waiting": lane.waiting,
        "parked_keys": lane.parked_keys,
        "parked_reason": health.get("retry_reason", "") if lane.parked_keys else "",
        "retried": reasons(counts, f"retried:{name}:"),
        "delivered": counts[f"delivered:{name}"],
        "filtered": filtered,
        "dead": still_dead(counts, name),
        "died": died,
        "replayed": replayed,
        "discarded": reasons(counts, f"discarded:{name}:"),
        "forgotten": reasons(counts, f"forgotten:{name}:"),
        "state": "paused" if paused else STATES.get(health.get("state", ""), turns["state"]),
        "reason": health.get("pause_reason", "") if paused else health.get("reason", "") or turns["reason"],
        "paused_at": write_time(EPOCH + timedelta(milliseconds=paused)) if paused else None,
        "turns_failed": turns["turns_failed"],
        "next_try_seconds": max(until - snapshot.now_ms, 0) / 1000 if health.get("state") and not paused else None,
        "oldest_seconds": age(snapshot, name),
    }


def still_dead(counts: Counter[str], name: str) -> dict[str, int]:
    """The dead letters of a destination that are dead letters still, by class; the classes of which there are some.

    Whoever takes a delivery away for good counts it in the same atomic step, as `discarded:DESTINATION:WHAT` (an
    operator gave it up) or `forgotten:DESTINATION:WHAT` (a person's data was to go). WHAT is what it was until then: a
    class of dead letters, or `waiting` for one that was in the lane. A dead letter that is sent again is counted as
    `replayed:DESTINATION:CLASS`, an event that is no dead letter as `replayed:DESTINATION:again`; then it is in the
    lane like any other.
    """
    left = Counter(reasons(counts, f"dead:{name}:"))
    for how in ("replayed", "discarded", "forgotten"):
        taken = reasons(counts, f"{how}:{name}:")
        left.subtract({what: number for what, number in taken.items() if what in DEAD_LETTER_CLASSES})
    return {class_: number for class_, number in left.items() if number}


def reasons(counts: Counter[str], prefix: str) -> dict[str, int]:
    """The counters below `prefix`, by what follows it."""
    return {field.removeprefix(prefix): number for field, number in sorted(counts.items()) if field.startswith(prefix)}
