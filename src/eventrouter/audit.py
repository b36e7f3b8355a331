"""The audit: sums that hold at every moment, since each counter is kept in the very step that it counts.

accepted = in the log + duplicates + routed + unreadable, by source too, and for each destination routed = delivered +
waiting + filtered + dead + discarded + forgotten. A shard is read in one step, so that each adds up by itself, under
load too. What waits is counted in the lanes, not told by a counter.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .counters import reasons, still_dead
from .lanes import Lanes
from .records import DEAD_LETTER_CLASSES

READ_BYTES = 4_000_000
"""So much of the log, and of the warehouse's lane, is read in the step that counts what waits in a shard there: some
milliseconds. Where more waits the lane's own counter has to do."""
UNBOUNDED = 2**53

_REPLAY = (
    "the events are in the warehouse: `eventrouter replay {} --since … --until …` sends a time range again, under the"
    " same idempotency keys"
)
_LOG = (
    "`eventrouter audit --deep` tells whether the ids that were routed are in the warehouse. What was lost before can"
    " only come again from those who sent it"
)
_SURPLUS = "nothing is missing by this sum: something was counted, or put there, by hand or twice"
_COUNTERS = "the counters in Redis were changed by other means than eventrouter's, or restored in parts"
_LANE = "something took items out of the lane, or put them there, that is not eventrouter: `status` is wrong by as much"


class LaneCount(NamedTuple):
    """What waits in one lane, in units."""

    told: int
    """By the lane's own counter, which `status` shows."""
    there: int
    """By what lies in it."""
    is_counted: bool = True
    """Whether that was counted; else it is the lane's counter once more."""


@dataclass(slots=True)
class ShardCounts:
    """What one shard tells, at one moment."""

    shard: int
    counts: Counter[str] = field(default_factory=Counter)
    lanes: dict[str, LaneCount] = field(default_factory=dict)
    in_log: Counter[str] = field(default_factory=Counter)
    """By source, the events that lie in the log. Nothing where they were not counted."""

    def waiting(self, lane: str) -> int:
        """Units that lie in a lane."""
        return self.lanes[lane].there if lane in self.lanes else 0

    @property
    def knows_log(self) -> bool:
        """Whether what lies in the log was counted."""
        return "log" not in self.lanes or self.lanes["log"].is_counted

    def unreadable(self, source: str) -> int:
        """A source's events that nobody could read any more."""
        # A name that nothing was accepted of is none: it was damaged, too.
        return self.counts[f"unreadable:{source}"] if f"accepted:{source}" in self.counts else 0

    @property
    def unknown(self) -> tuple[int, int]:
        """Events of which nobody can tell the source: in the log, and unreadable ones that were taken out of it.

        Versions before counted the latter without their source, and wrote entries that don't tell it in the log.
        """
        known = sum(max(self.unreadable(name), 0) for name in _sources(self.counts))
        return self.waiting("log") - self.in_log.total(), max(self.counts["unreadable"] - known, 0)


class Fault(NamedTuple):
    """A sum that is off."""

    what: str
    """What it is about: the event log, a source, a destination."""
    shard: int
    total: dict[str, int]
    """The one number that the parts should add up to, with its name."""
    parts: dict[str, int]
    hint: str

    @property
    def difference(self) -> int:
        """How much is missing; less than 0: how much is too much."""
        return sum(self.total.values()) - sum(self.parts.values())

    def __str__(self) -> str:
        number, (name, total) = abs(self.difference), *self.total.items()
        parts = [f"{part} {value}" for part, value in self.parts.items() if value]
        told = " + ".join(parts) or "nothing"
        found = f"{told} = {sum(self.parts.values())}" if len(parts) > 1 else told
        kind = "missing" if self.difference > 0 else "too many"
        return f"{self.what}, shard {self.shard}: {number} {kind}: {name} {total}, but {found}"


async def read_counts(lanes: Lanes, shards: int, *, recount: bool = False) -> list[ShardCounts]:
    """What each shard tells, each in one atomic step. Raises `redis.RedisError`.

    `recount` counts what waits however much it is, one shard after the other; the server does nothing else meanwhile
    (about a second for each GB).
    """
    most = UNBOUNDED if recount else READ_BYTES
    at_once = asyncio.Semaphore(1 if recount else shards)  # each may take nearly as long as a command may

    async def read(shard: int) -> Any:
        async with at_once:
            return await lanes.run("audit", [f"er:{{{shard}}}:counts"], [most])

    found = await asyncio.gather(*map(read, range(shards)))
    return [_counts_of(shard, *rows) for shard, rows in enumerate(found)]


def _counts_of(
    shard: int, flat: Sequence[bytes], rows: Sequence[Sequence[Any]], by_source: Sequence[tuple[bytes, int]]
) -> ShardCounts:
    counts = Counter({name.decode(): int(number) for name, number in zip(flat[::2], flat[1::2], strict=True)})
    lanes = {name.decode(): LaneCount(told, there, counted == 1) for name, told, there, counted in rows}
    # A name that nothing was accepted of is none: the entry was damaged there.
    told = ((name.decode(), number) for name, number in by_source)
    in_log = Counter({name: number for name, number in told if f"accepted:{name}" in counts})
    return ShardCounts(shard, counts, lanes, in_log)


def faults_of(found: ShardCounts) -> list[Fault]:
    """What doesn't add up in one shard."""
    return [one for one in _sums(found) if one.difference]


def differences(counts: Counter[str], waiting: Mapping[str, int]) -> dict[str, int]:
    """By how much is missing (below 0: too much) of the event log, the sources and each destination; 0: it adds up.

    From the counters of all shards and what waits in each lane by its own counter, each shard's read in one step.
    """
    found = ShardCounts(0, counts, {name: LaneCount(units, units) for name, units in waiting.items()})
    off: dict[str, int] = {}
    for one in _sums(found):
        off[one.what] = max(off.get(one.what, 0), one.difference, key=abs)
    return off


def _sums(found: ShardCounts) -> Iterator[Fault]:
    yield from _log_sums(found)
    yield from _source_sums(found)
    for name in _destinations(found.counts):
        yield from _destination_sums(found, name)
    yield from _lane_sums(found)


def _sum(what: str, found: ShardCounts, total: dict[str, int], parts: dict[str, int], missing: str) -> Fault:
    fault = Fault(what, found.shard, total, parts, missing)
    return fault if fault.difference > 0 else fault._replace(hint=_SURPLUS)


def _log_sums(found: ShardCounts) -> Iterator[Fault]:
    counts = found.counts
    log = {"in the log": found.waiting("log"), "taken out": counts["log_out"]}
    yield _sum("event log", found, {"accepted": counts["accepted"]}, log, _LOG)
    routing = {name: counts[name] for name in ("duplicates", "routed", "unreadable")}
    yield _sum("event log", found, {"taken out": counts["log_out"]}, routing, _LOG)


def _source_sums(found: ShardCounts) -> Iterator[Fault]:
    counts = found.counts
    for kind in ("accepted", "duplicates", "routed"):
        by_source = reasons(counts, f"{kind}:")
        yield _sum("sources", found, {f"{kind} in all": counts[kind]}, by_source, _COUNTERS)
    log, unreadable = found.unknown
    by_source = {name: found.unreadable(name) for name in _sources(counts)} | {"unknown sources": unreadable}
    yield _sum("sources", found, {"unreadable in all": counts["unreadable"]}, by_source, _COUNTERS)
    for name in _sources(counts):
        total, parts = {"accepted": counts[f"accepted:{name}"]}, _parts_of(found, name)
        left = sum(total.values()) - sum(parts.values())
        if left > 0:
            # Those of unknown sources may all be its own: only what is missing beyond them is missing for sure.
            parts |= {"in the log of unknown sources": log, "unreadable of unknown sources": unreadable}
        if not 0 <= left <= log + unreadable:
            yield _sum(f"source {name}", found, total, parts, _LOG)


def _parts_of(found: ShardCounts, source: str) -> dict[str, int]:
    """Where a source's events are, as far as that is known of each."""
    routed = {kind: found.counts[f"{kind}:{source}"] for kind in ("duplicates", "routed")}
    return {"in the log": found.in_log[source], **routed, "unreadable": found.unreadable(source)}


def _lane_sums(found: ShardCounts) -> Iterator[Fault]:
    for name, lane in found.lanes.items():
        what = "event log" if name == "log" else f"destination {name}"
        fault = Fault(what, found.shard, {"waiting by the lane's counter": lane.told}, {"there": lane.there}, _LANE)
        yield fault


def _destination_sums(found: ShardCounts, name: str) -> Iterator[Fault]:
    counts, what = found.counts, f"destination {name}"
    died, replayed = (sum(reasons(counts, f"{kind}:{name}:").values()) for kind in ("dead", "replayed"))
    lane = {"delivered": counts[f"delivered:{name}"], "waiting": found.waiting(name), "died": died}
    for how in ("discarded", "forgotten"):
        taken = reasons(counts, f"{how}:{name}:").items()
        lane[how] = sum(number for was, number in taken if was not in DEAD_LETTER_CLASSES)
    if name == "warehouse":
        yield _sum(what, found, {"records": counts["to:warehouse"]}, lane, _LOG)
        return
    yield _sum(what, found, {"deliveries": counts[f"to:{name}"]}, lane, _REPLAY.format(name))
    routed = {"deliveries": counts[f"to:{name}"] - replayed, **reasons(counts, f"filtered:{name}:")}
    yield _sum(what, found, {"routed": counts[f"events:{name}"]}, routed, _REPLAY.format(name))


def _destinations(counts: Counter[str]) -> list[str]:
    """All that were ever there, the warehouse last."""
    names = {field.split(":")[1] for field in counts if field.startswith(("to:", "events:"))}
    return [*sorted(names - {"warehouse"}), "warehouse"]


def _sources(counts: Counter[str]) -> list[str]:
    kinds = ("accepted:", "duplicates:", "routed:", "rejected:")
    return sorted({field.split(":")[1] for field in counts if field.startswith(kinds)})


def report_of(shards: Sequence[ShardCounts]) -> dict[str, Any]:
    """The audit of all shards, ready for JSON.

    A destination's `again` are events that were sent again without being dead letters: `routed` + `again` is the sum.
    """
    counts: Counter[str] = Counter()
    for one in shards:
        counts.update(one.counts)
    faults = [fault for one in shards for fault in faults_of(one)]
    return {
        "adds_up": not faults,
        "shards": len(shards),
        "events": {
            "accepted": counts["accepted"],
            "in_log": sum(one.waiting("log") for one in shards),
            "duplicates": counts["duplicates"],
            "routed": counts["routed"],
            "unreadable": counts["unreadable"],
        },
        "sources": {name: _source_row(shards, counts, name) for name in _sources(counts)},
        "unknown_source": {
            "in_log": sum(one.unknown[0] for one in shards if one.knows_log),
            "unreadable": sum(one.unknown[1] for one in shards),
        },
        "destinations": {name: _destination_row(shards, counts, name) for name in _destinations(counts)},
        "not_counted": sorted({name for one in shards for name, lane in one.lanes.items() if not lane.is_counted}),
        "faults": [
            {
                "what": fault.what,
                "shard": fault.shard,
                "difference": fault.difference,
                "total": fault.total,
                "parts": fault.parts,
                "message": str(fault),
                "hint": fault.hint,
            }
            for fault in faults
        ],
    }


def _in_log(found: ShardCounts, source: str) -> int:
    """What a source has in the log; where that was not counted, what is left of its sum."""
    left = found.counts[f"accepted:{source}"] - sum(_parts_of(found, source).values())
    return found.in_log[source] if found.knows_log else left


def _source_row(shards: Iterable[ShardCounts], counts: Counter[str], name: str) -> dict[str, Any]:
    return {
        "accepted": counts[f"accepted:{name}"],
        "in_log": sum(_in_log(one, name) for one in shards),
        "in_log_counted": all(one.knows_log for one in shards),
        "duplicates": counts[f"duplicates:{name}"],
        "routed": counts[f"routed:{name}"],
        "unreadable": sum(one.unreadable(name) for one in shards),
        "rejected": reasons(counts, f"rejected:{name}:"),
    }


def _destination_row(shards: Iterable[ShardCounts], counts: Counter[str], name: str) -> dict[str, Any]:
    is_warehouse, replayed = name == "warehouse", reasons(counts, f"replayed:{name}:").items()
    return {
        "unit": "records" if is_warehouse else "events",
        "routed": counts["to:warehouse"] if is_warehouse else counts[f"events:{name}"],
        "delivered": counts[f"delivered:{name}"],
        "waiting": sum(one.waiting(name) for one in shards),
        "again": sum(number for was, number in replayed if was not in DEAD_LETTER_CLASSES),
        "filtered": reasons(counts, f"filtered:{name}:"),
        "dead": still_dead(counts, name),
        "discarded": reasons(counts, f"discarded:{name}:"),
        "forgotten": reasons(counts, f"forgotten:{name}:"),
    }
