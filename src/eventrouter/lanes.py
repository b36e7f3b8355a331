"""Lanes: ordered items that wait for one consumer in one shard, and the atomic steps of a turn.

Each step is one script in `lua/`; between two steps anything may crash, freeze or run twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from .elapsed import elapsed
from .errors import UnavailableError
from .lane import (
    BUDGET_PERCENT,
    LEASE_MS,
    SHORT_LEASE_MS,
    Append,
    Batch,
    Claim,
    FencedError,
    Item,
    Lane,
    Memory,
    Park,
    Pins,
    Removal,
    Seen,
)
from .server_time import note, own_ms
from .step_arguments import (
    new_token,
    pack,
    read_claims,
    read_parts,
    write_appends,
    write_counts,
    write_parts,
    write_removals,
)
from .steps import Call, Steps, too_few

if TYPE_CHECKING:
    from redis.asyncio import Redis

STEPS = (
    "append", "begin", "read", "renew", "settle", "look", "yield", "sweep", "pin", "health", "rate", "state", "fail",
    "wake", "audit", "once", "calls",
)  # fmt: skip


@cache
def source(step: str) -> str:
    """The text of a step's script. All that don't ask for memory may run when it is full: they drain."""
    folder = resources.files(__package__) / "lua"
    shebang = "#!lua\n" if step in ("append", "once") else "#!lua flags=allow-oom\n"
    return shebang + (folder / "prelude.lua").read_text("utf-8") + (folder / f"{step}.lua").read_text("utf-8")


class Lanes:
    """The steps that need no turn. Raises `redis.RedisError` as it comes; no step is repeated by itself."""

    def __init__(self, redis: Redis, blocking: Redis | None = None, *, replicas: int = 0, outcomes: int = 0) -> None:
        """`blocking` is a client whose connections may wait on a blocking read; `redis` serves when there is none.

        `replicas` is how many have to have what is appended, `outcomes` the size of a shard's outcome log in bytes.
        """
        self.redis = redis
        self.blocking = blocking or redis
        self._steps = Steps(redis, {step: source(step) for step in STEPS}, replicas)
        self.outcome_bytes = outcomes
        """The size of one shard's outcome log; 0: there is none."""

    @property
    def replicas(self) -> int:
        """How many have to have what is appended."""
        return self._steps.replicas

    async def run(self, step: str, keys: Sequence[str], args: Sequence[Any], blobs: Sequence[bytes] = ()) -> Any:
        """Runs one step. `blobs` are the arguments that are large or binary."""
        return await self._steps.run(step, Call(keys, [pack(args), *blobs]))

    async def run_kept(
        self, step: str, keys: Sequence[str], args: Sequence[Any], blobs: Sequence[bytes] = ()
    ) -> tuple[Any, bool]:
        """As `run`, and whether the replicas have it that have to have what is appended."""
        [(result, kept)] = await self._steps.run_kept(step, [Call(keys, [pack(args), *blobs])])
        if isinstance(result, Exception):
            raise result
        return result, kept

    async def reach(self, shards: int) -> None:
        """Returns when so many shards can be appended to. Raises `RedisError` or `UnavailableError`."""
        await self._steps.reach([Lane(shard, "log").key for shard in range(shards)])

    async def append_all(
        self, work: Mapping[int, tuple[Sequence[Append], Mapping[str, int]]], percent: int = BUDGET_PERCENT
    ) -> dict[int, list[Claim] | Exception]:
        """Keeps items of many shards in one round trip: per shard the claims to enqueue, or why it was refused.

        A refusal is `UnavailableError` at the memory budget or for want of replicas, else what Redis said. Raises when
        Redis is away.
        """
        calls: list[Call] = []
        for shard, (appends, counts) in work.items():
            keys: list[str] = []
            blobs: list[bytes] = []
            args = [percent, *write_appends(keys, blobs, shard, appends), *write_counts(counts)]
            # Counters alone still need their shard.
            calls.append(Call(keys or [Lane(shard, "log").key], [pack(args), *blobs]))
        results = await self._steps.run_kept("append", calls)
        return {
            shard: _append_result(result if kept or isinstance(result, Exception) else too_few(self.replicas))
            for shard, (result, kept) in zip(work, results, strict=True)
        }

    async def append(
        self,
        shard: int,
        appends: Sequence[Append],
        counts: Mapping[str, int] | None = None,
        percent: int = BUDGET_PERCENT,
    ) -> list[Claim]:
        """Keeps items of one shard and returns the claims to enqueue. Raises `UnavailableError` when full."""
        result = (await self.append_all({shard: (appends, counts or {})}, percent))[shard]
        if isinstance(result, Exception):
            raise result
        return result

    async def begin(self, lane: Lane, token: str, job: str = "") -> Turn | None:
        """A turn of the lane, or None when `token` is not the lane's: the job is a copy, or late."""
        fresh, began = new_token(), elapsed()
        result = await self.run("begin", [lane.key], [token, fresh, LEASE_MS, job])
        if result[0] != 1:
            return None
        flat = [value.decode() for value in result[1]]
        pins = {key: read_parts(ids) for key, ids in zip(flat[::2], flat[1::2], strict=True)}
        return Turn(self, lane, fresh, pins, int(result[2]), began)

    async def sweep(self, shard: int, *, everything: bool = False, most: int = 1000) -> tuple[list[Claim], float]:
        """The claims of dead turns and due lanes, and the seconds until the next may be there (-1: none in sight).

        `everything` takes every lease for over; it harms nothing, but costs live turns their work.
        """
        args = [SHORT_LEASE_MS, int(everything), *(new_token() for _ in range(most))]
        found, soonest = await self.run("sweep", [f"er:{{{shard}}}:leases"], args)
        claims = [
            Claim(Lane.parse(found[i].decode()), found[i + 1].decode(), job=found[i + 2].decode())
            for i in range(0, len(found), 3)
        ]
        return claims, soonest / 1000 if soonest >= 0 else -1.0

    async def look(
        self, shard: int, digests: Sequence[bytes], lanes: Sequence[str]
    ) -> tuple[list[bool], list[int], Memory]:
        """Which event digests were seen, how many units wait in each of `lanes`, and the server's memory."""
        keys = [Lane(shard, name).key for name in ("log", *lanes)]
        seen, waiting, ahead, used, limit, log, warehouse = await self.run("look", keys, [], digests)
        return [flag == 49 for flag in seen], list(waiting), Memory(used, limit, log, warehouse, tuple(ahead))


def _append_result(result: Any) -> list[Claim] | Exception:
    if isinstance(result, ResponseError) and ("FULL the memory" in str(result) or "maxmemory" in str(result)):
        return UnavailableError(
            "the event log is full",
            hint="`eventrouter status` says what waits; a larger maxmemory makes room",
            retry_after=5.0,
        )
    return result if isinstance(result, Exception) else read_claims(result)


class Turn:
    """A lane's turn that has begun. Every step raises `FencedError` when another turn has taken over."""

    def __init__(self, lanes: Lanes, lane: Lane, token: str, pins: Pins, parked: int, began: float) -> None:
        self.lanes = lanes
        self.lane = lane
        self.token = token
        self.pins = pins
        """Batches that are pinned: by batch id the ids of their items, in the parts in which they are to be tried."""
        self.parked = parked
        """How many keys were parked when it began."""
        self.began = began
        """From when on its first lease counts, by `elapsed`."""
        self.kept = True
        """Whether what was settled last outlives the server, where `keep` asked for that."""

    def fenced(self) -> FencedError:
        """What is raised once another turn has taken over."""
        return FencedError(f"the turn of lane {self.lane.name} in shard {self.lane.shard} was taken over")

    async def read(
        self,
        after: str = "",
        *,
        units: int = 1000,
        size: int = 4_000_000,
        parked: tuple[int, int] | None = None,
        per_key: int = 100,
        give_back: bool = False,
    ) -> Batch:
        """Up to about `units` units or `size` bytes: the due parked keys, then the lane after the item `after`.

        Of parked keys come at most `parked` units and bytes (None: as of all), and `per_key` items of each.
        With nothing there and `give_back`, the claim ends and the status is `idle`: the turn is over.
        """
        args = [self.token, after, units, size, *(parked or (units, size)), per_key, LEASE_MS * 2, int(give_back)]
        asked = own_ms()
        result = await self.lanes.run("read", [self.lane.key], args)
        status = result[0].decode()
        if status == "fenced":
            raise self.fenced()
        note(result[2], asked)
        items = [Item(row[0].decode(), row[1] == 1, row[2].decode(), int(row[3]), row[4], row[5]) for row in result[1]]
        last_id = result[4].decode() if len(result) > 4 else ""
        return Batch(status, items, int(result[2]), int(result[3]), last_id)

    async def fetch(self, ids: Sequence[str]) -> list[Item]:
        """The items with these ids that are still in the lane's stream, for batches that were pinned."""
        async with self.lanes.redis.pipeline(transaction=False) as pipeline:
            for item in ids:
                pipeline.xrange(self.lane.key, item, item)
            pipeline.hmget(f"{self.lane.key}:tries", list(ids))
            *rows, tries = await pipeline.execute()
        found = [(row[0][0], row[0][1], known or b"") for row, known in zip(rows, tries, strict=True) if row]
        return [Item(id_.decode(), False, row[b"k"].decode(), int(row[b"n"]), row[b"d"], t) for id_, row, t in found]

    async def wait(self, after: str, seconds: float) -> bool:
        """Waits up to `seconds` for an item after the id `after`; True when there is one."""
        streams: dict[Any, Any] = {self.lane.key: after}
        return bool(await self.lanes.blocking.xread(streams, count=1, block=max(int(seconds * 1000), 1)))

    async def renew(self) -> None:
        """Renews the lease."""
        if await self.lanes.run("renew", [self.lane.key], [self.token, LEASE_MS]) != 1:
            raise self.fenced()

    async def fail(self, reason: str, seconds: float) -> None:
        """Notes that this turn came to nothing, and why; the next one is in so many seconds. It ends nothing."""
        await self.lanes.run("fail", [self.lane.key], [int(seconds * 1000), reason])

    async def settle(
        self,
        removals: Sequence[Removal] = (),
        parks: Sequence[Park] = (),
        pins: Pins | None = None,
        due: Sequence[str] = (),
        appends: Iterable[Append] = (),
        counts: Mapping[str, int] | None = None,
        seen: Seen | None = None,
        notes: Sequence[Item] = (),
        outcomes: Sequence[bytes] = (),
        keep: bool = False,
    ) -> tuple[list[Claim], int]:
        """One atomic step for all of it; returns the claims to enqueue and the number of the lane's parked keys.

        `pins` tells what is left of pinned batches: no parts, when they end. `due` are parked keys of which nothing is
        in hand any more: what is left of them may be read at once. Of the items `notes` the tries are noted.
        `outcomes` are entries for the outcome log. `keep` waits for replicas, as appends do: see `kept`.
        """
        keys, blobs = [self.lane.key], list[bytes]()
        args: list[Any] = [self.token, LEASE_MS, *write_removals(removals), len(parks)]
        for park in parks:
            args += (park.key, park.delay_ms, len(park.items))
            for item in park.items:
                args += (item.id, item.tries.decode())
        args += (len(notes), *(text for item in notes for text in (item.id, item.tries.decode())))
        pins = pins or {}
        args.append(len(pins))
        for batch, parts in pins.items():
            args += (batch, write_parts(parts))
        args += (len(due), *due)
        args += write_appends(keys, blobs, self.lane.shard, appends)
        args += (*write_counts(counts or {}), len(outcomes), self.lanes.outcome_bytes)
        blobs += outcomes
        if seen and seen.digests:
            args += (len(seen.digests), seen.window_ms, seen.most)
            blobs += seen.digests
        else:
            args.append(0)
        if keep:
            result, self.kept = await self.lanes.run_kept("settle", keys, args, blobs)
        else:
            result, self.kept = await self.lanes.run("settle", keys, args, blobs), True
        if result[0] != b"ok":
            raise self.fenced()
        self.pins = {batch: parts for batch, parts in (self.pins | pins).items() if parts}
        return read_claims(result[1]), int(result[2])

    async def pin(self, batch: str, *parts: Sequence[Item]) -> None:
        """Notes that a retry has to repeat just these items as one batch, or in these parts."""
        ids = [[item.id for item in part] for part in parts]
        # A server that takes over should know it; where too few replicas answer, going on is better than waiting.
        if (await self.lanes.run_kept("pin", [self.lane.key], [self.token, batch, write_parts(ids)]))[0] != 1:
            raise self.fenced()
        self.pins[batch] = ids

    async def give_up(self, delay: float = 0.0) -> Claim:
        """Ends the turn before the lane is empty (the step `yield`); returns the claim to enqueue, with the delay.

        There is none when the lane was woken since the turn began: what it is to wait for may have come.
        """
        token = new_token()
        args = [self.token, token, int(delay * 1000), SHORT_LEASE_MS]
        ended = await self.lanes.run("yield", [self.lane.key], args)
        if not ended:
            raise self.fenced()
        return Claim(self.lane, token, delay if ended == 1 else 0.0)
