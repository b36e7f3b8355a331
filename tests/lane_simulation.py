"""A deterministic simulation of lanes: real scripts on a real server, everything else under the test's control.

Producers, workers, arq and the clock are simulated; a schedule says who does the next step. A worker stops after each
atomic step and after each attempt, and there it may crash, or freeze and go on later with a token that is stale. arq's
jobs are a bag: they may be lost, repeated, late. Events go through the log's lane, by the router's step, to the lanes
`a` and `b` (which pins its batches); what dies there goes to the warehouse's lane. An operator sends events again to
`a`, and says so more than once.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from random import Random
from typing import NamedTuple

from redis.asyncio import Redis

from eventrouter import once
from eventrouter.events import event_digest
from eventrouter.lane import Append, Claim, FencedError, Item, Lane, Park, Removal, Seen
from eventrouter.lanes import Lanes, Turn
from lane_kit import Clock, counts, leftovers

KEYS = ("k", "l", "m")
ACTIONS = (
    "rest",
    *["produce"] * 2,
    "repeat",
    *["start"] * 6,
    "start again",
    "lose",
    "crash",
    *["take over"] * 2,
    *["tick"] * 2,
    *["sweep"] * 2,
    "wake",
    "again",
    *["step"] * 12,
    *["steps"] * 12,
)
"""What a schedule is made of; the first one is what hypothesis shrinks to."""
TICKS = (10, 100, 500, 1500, 7000)
ROUNDS = 25
"""Within so many rounds a healthy system has settled everything; a round lasts longer than a lease."""
IN_HAND = 4
BATCH = 2

Schedule = Sequence[tuple[str, int]]


def random_schedule(seed: int, length: int = 250) -> Schedule:
    """A schedule for those who need many, and no shrinking."""
    random = Random(seed)
    return [(random.choice(ACTIONS), random.randrange(1000)) for _ in range(length)]


class Job(NamedTuple):
    """What arq holds."""

    lane: Lane
    token: str
    due_ms: int


@dataclass
class Ledger:
    """What happened in one lane, as seen from outside."""

    attempted: set[str] = field(default_factory=set)
    settled: list[str] = field(default_factory=list)
    pinned: dict[str, list[list[str]]] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    """By item id: how often it failed, as the lane was told."""
    woken: bool = False
    """Whether the turn that has begun was woken since."""
    taken: set[str] = field(default_factory=set)
    """Parked keys that the last turn to read took, and has not told what becomes of them."""


Steps = AsyncGenerator[None, int | None]
"""A worker: each `asend(choice)` does one step; None as a choice means the one that makes progress."""


class Simulation:
    """One run. `run` plays a schedule, then lets the system come to rest without faults, and checks it."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.lanes = Lanes(redis)
        self.clock = Clock(redis)
        self.jobs: list[Job] = []
        self.workers: list[Steps] = []
        self._begun: set[Steps] = set()
        self.order: dict[str, list[str]] = defaultdict(list)
        """By lane key: the ids of its events in the order of acceptance."""
        self.events: list[tuple[str, str]] = []
        """(id, lane key) of each event."""
        self.again: set[str] = set()
        """What was sent again to `a`."""
        self.ledgers: dict[str, Ledger] = defaultdict(Ledger)
        self.trace: list[str] = []

    async def run(self, schedule: Schedule) -> None:
        await self.redis.flushall()
        await self.clock.tick()
        for action, choice in schedule:
            await self._do(action, choice)
        await self._come_to_rest()
        await self._check()

    async def _do(self, action: str, choice: int) -> None:
        if action == "produce":
            keys = [KEYS[choice // 4**n % 3] for n in range(choice % 3 + 1)]
            fresh = [(f"{len(self.events) + n:03}", key) for n, key in enumerate(keys)]
            self.events += fresh
            for one, key in fresh:
                self.order[key].append(one)
            await self._append(fresh, lost=choice % 5 == 0)
        elif action == "repeat" and self.events:
            await self._append([self.events[choice % len(self.events)]], lost=False)
        elif action in ("start", "start again"):
            self._start(choice, again=action == "start again")
        elif action == "lose" and self.jobs:
            self.jobs.pop(choice % len(self.jobs))
        elif action == "crash" and self.workers:
            await self.workers.pop(choice % len(self.workers)).aclose()
        elif action == "tick":
            await self.clock.tick(TICKS[choice % len(TICKS)])
        elif action == "sweep":
            claims, _ = await self.lanes.sweep(0)
            self.enqueue(claims[: len(claims) - choice % 2])
        elif action == "wake":
            await self._wake(("a", "b", "warehouse")[choice % 3 :])
        elif action == "again":
            await self._send_again(choice % 20, lost=choice % 3 == 0)
        elif action == "take over":
            # Every turn freezes for longer than its lease; others go on, and it wakes up.
            await self.clock.tick(7000)
            self.enqueue((await self.lanes.sweep(0))[0])
            if self._start(choice):
                await self._steps(self.workers[-1], choice // 7, 3 + choice % 9)
        elif action in ("step", "steps") and (self.workers or self._start(choice)):
            await self._steps(self.workers[choice % len(self.workers)], choice // 7, 1 if action == "step" else 6)

    def _start(self, choice: int, *, again: bool = False) -> bool:
        """A worker takes a job from arq, or a copy of it; False when none is due."""
        due = [job for job in self.jobs if job.due_ms <= self.clock.ms]
        if due:
            job = due[choice % len(due)]
            if not again:
                self.jobs.remove(job)
            self.workers.append(self._turn(job))
        return bool(due)

    async def _append(self, events: Sequence[tuple[str, str]], *, lost: bool) -> None:
        data = json.dumps(events).encode()
        claims = await self.lanes.append(0, [Append("log", [("", len(events), data)], "accepted")])
        self.enqueue([] if lost else claims)

    async def _send_again(self, number: int, *, lost: bool) -> None:
        one = f"again {number}"
        item = once.Item("a", KEYS[number % 3], 1, one.encode(), "to:a")
        piece = once.Piece(once.digest_of(one), [item], {"replayed:a:again": 1})
        claims, [is_done] = await once.do_once(self.lanes, 0, [piece])
        assert is_done == (one not in self.again), f"{one} was done twice, or never"
        self.again.add(one)
        self.enqueue([] if lost else claims)

    async def _wake(self, lanes: Sequence[str]) -> None:
        await self.lanes.run("wake", [Lane(0, lane).key for lane in lanes], [])
        for lane in lanes:
            self.ledgers[lane].woken = await self.redis.hget(f"{Lane(0, lane).key}:turn", "begun") == b"1"

    def enqueue(self, claims: Sequence[Claim]) -> None:
        """Hands claims to arq."""
        self.jobs += [Job(claim.lane, claim.token, self.clock.ms + int(claim.delay * 1000)) for claim in claims]

    async def _steps(self, worker: Steps, choice: int, number: int) -> None:
        for one in range(number):
            if not await self._step(worker, choice + 3 * one):
                return

    async def _step(self, worker: Steps, choice: int | None) -> bool:
        """One step of a worker; False when it has ended."""
        try:
            # The first step, to begin, leaves no choice.
            await worker.asend(choice if worker in self._begun else None)
            self._begun.add(worker)
        except (StopAsyncIteration, FencedError):
            if worker in self.workers:
                self.workers.remove(worker)
            return False
        return True

    async def _finish(self, worker: Steps) -> None:
        for _ in range(1000):
            if not await self._step(worker, None):
                return
        raise AssertionError("a turn goes on for ever")

    def _turn(self, job: Job) -> Steps:
        return self._route(job) if job.lane.name == "log" else _Worker(self, job).serve()

    async def _route(self, job: Job) -> Steps:
        turn = await self.lanes.begin(job.lane, job.token)
        while turn is not None:
            choice = yield
            if choice is not None and choice % 9 == 0:
                claim = await turn.give_up(choice % 3)
                yield
                self.enqueue([claim])
                return
            batch = await turn.read(units=3, give_back=_is_patient(choice))
            if batch.status == "idle":
                return
            if not batch.items:
                continue
            yield
            events = {one: key for item in batch.items for one, key in json.loads(item.data)}
            total = sum(item.units for item in batch.items)
            digests = [event_digest("web", one) for one in events]
            flags, _, _ = await self.lanes.look(0, digests, ["a", "b"])
            yield
            fresh = [(one, key) for (one, key), seen in zip(events.items(), flags, strict=True) if not seen]
            appends = [
                Append(lane, [(key, 1, one.encode()) for one, key in fresh if _is_routed(lane, one)], f"to:{lane}")
                for lane in ("a", "b")
            ]
            claims, _ = await turn.settle(
                [Removal(item, "log_out") for item in batch.items],
                appends=appends,
                counts={"routed": len(fresh), "duplicates": total - len(fresh)},
                seen=Seen(digests, 86_400_000, 10_000),
            )
            yield
            self.enqueue(claims)

    async def _come_to_rest(self) -> None:
        """No more faults, except that arq is slower than a lease: every job runs one round late."""
        for number, worker in enumerate(list(self.workers)):
            if number % 2:
                await self._finish(worker)
            else:  # it never wakes up
                await worker.aclose()
        self.workers.clear()
        for _ in range(ROUNDS):
            late, self.jobs = self.jobs, []
            await self.clock.tick(6500)
            self.enqueue((await self.lanes.sweep(0))[0])
            for job in late:
                if job.due_ms > self.clock.ms:
                    self.jobs.append(job)
                    continue
                await self._finish(self._turn(job))
            if not self.jobs and not await leftovers(self.redis):
                return
        raise AssertionError(f"no rest after {ROUNDS} rounds: {await leftovers(self.redis)}")

    async def _check(self) -> None:
        """At rest: each event is settled exactly once in each of its lanes, and the counters say so."""
        ids = [one for one, _ in self.events]
        for lane in ("a", "b"):
            again = sorted(self.again) if lane == "a" else []
            assert sorted(self.ledgers[lane].settled) == [one for one in ids if _is_routed(lane, one)] + again
        found = await counts(self.redis)
        told = f"what was settled is not what was counted: {found}"
        assert found.get("accepted", 0) == found.get("log_out", 0), told
        assert found.get("accepted", 0) == found.get("routed", 0) + found.get("duplicates", 0), told
        assert found.get("routed", 0) == len(ids), told
        for lane in ("a", "b", "warehouse"):
            done = found.get(f"delivered:{lane}", 0) + found.get(f"dead:{lane}:permanent", 0)
            assert found.get(f"to:{lane}", 0) == done == len(self.ledgers[lane].settled), told
        assert found.get("replayed:a:again", 0) == len(self.again), told
        dead = found.get("dead:a:permanent", 0) + found.get("dead:b:permanent", 0)
        assert found.get("to:warehouse", 0) == dead, told

    def attempt(self, lane: str, batch: Sequence[Item]) -> None:
        """The destination gets a batch."""
        ledger = self.ledgers[lane]
        seen: list[str] = []
        for item in batch:
            one = item.data.decode()
            # What is sent again is exempt from the order, and holds up nobody.
            if item.key and one not in ledger.attempted and one not in self.again:
                before = self.order[item.key][: self.order[item.key].index(one)]
                waiting = [other for other in before if _is_routed(lane, other) and other not in ledger.settled]
                early = [other for other in waiting if other not in seen]
                assert not early, f"{lane}: {one} of {item.key} came before {early} was settled"
            ledger.attempted.add(one)
            seen.append(one)

    def settle(self, lane: str, items: Sequence[Item]) -> None:
        """The lane says that these are done."""
        ledger = self.ledgers[lane]
        for item in items:
            one = item.data.decode()
            assert one in ledger.attempted, f"{lane}: {one} was settled but never attempted"
            assert one not in ledger.settled, f"{lane}: {one} was settled twice"
            ledger.settled.append(one)


class _Worker:
    """A turn at a destination: what `deliver.py` does, one attempt at a time."""

    def __init__(self, simulation: Simulation, job: Job) -> None:
        self._all = simulation
        self._job = job
        self._name = job.lane.name
        self._ledger = simulation.ledgers[job.lane.name]
        self._pinned: deque[tuple[str, list[list[Item]]]] = deque()
        self._pending: list[Item] = []
        self._cursor = ""

    async def serve(self) -> Steps:
        turn = await self._all.lanes.begin(self._job.lane, self._job.token)
        if turn is None:
            return
        await self._check_due(turn)
        for pin, ids in list(turn.pins.items()):
            yield
            items = {item.id: item for item in await turn.fetch(list(chain(*ids)))}
            if items.keys() == set(chain(*ids)):
                self._pinned.append((pin, [[items[one] for one in part] for part in ids]))
            else:
                yield
                await turn.settle(pins={pin: []})
                self._ledger.pinned.pop(pin, None)
        pin, batch = "", []
        while True:
            choice = yield
            match self._next(choice, attempting=bool(batch)):
                case "renew":
                    await turn.renew()
                case "read":
                    idle = not batch and not self._pending and not self._pinned
                    if await self._read(turn, batch, give_back=idle and _is_patient(choice)):
                        return
                case "give up":
                    claim = await self._give_up(turn, (choice or 0) % 12)
                    yield
                    self._all.enqueue([claim])
                    return
                case "launch":
                    pin, parts = self._take(BATCH if choice is None else 1 + choice % BATCH)
                    batch = list(chain(*parts))
                    if not pin and self._name == "b" and len(batch) > 1:
                        pin = f"pin {batch[0].id}"
                        await turn.pin(pin, batch)
                        self._ledger.pinned[pin] = _ids(parts)
                        yield
                    await self._check_pins(turn, _ids(parts))
                    self._all.attempt(self._name, batch)
                case "land":
                    whole = await self._land(turn, batch, pin, choice)
                    if whole:
                        claim = await self._give_up(turn, (choice or 0) % 12)
                        yield
                        self._all.enqueue([claim])
                        return
                    pin, batch = "", []

    async def _check_due(self, turn: Turn) -> None:
        """The next turn finds there what the lane waited for when it was woken, though a turn had begun.

        It also finds what the turn before had in hand, however that ended.
        """
        rows = await self._all.redis.zrangebyscore(f"{turn.lane.key}:parked", f"({self._all.clock.ms}", "+inf")
        late = {key.decode() for key in rows}
        assert not (late and self._ledger.woken), f"{self._name} was woken, and waits for {late}"
        assert late.isdisjoint(self._ledger.taken), f"of what was taken {late & self._ledger.taken} waits"
        self._ledger.woken = False
        self._ledger.taken.clear()

    async def _give_up(self, turn: Turn, delay: float) -> Claim:
        claim = await turn.give_up(delay)
        assert not (claim.delay and self._ledger.woken), f"{self._name} was woken, and waits for {claim.delay} s"
        return claim

    def _next(self, choice: int | None, *, attempting: bool) -> str:
        possible = ["land"] if attempting else []
        if not attempting and (self._pending or self._pinned):
            possible.append("launch")
        if len(self._pending) < IN_HAND:
            possible.append("read")
        if choice is None:
            return possible[0]
        if choice % 11 == 0:
            return "renew"
        if choice % 11 == 1 and not attempting:
            return "give up"
        return possible[choice % len(possible)]

    async def _read(self, turn: Turn, busy: Sequence[Item], *, give_back: bool) -> bool:
        read = await turn.read(self._cursor, units=IN_HAND, per_key=IN_HAND, give_back=give_back)
        pinned = {one for parts in turn.pins.values() for one in chain(*parts)}
        taken = {item.key for item in (*busy, *(item for item in self._pending if item.parked))}
        for item in read.items:
            if not item.parked:
                self._cursor = item.id
            elif item.key in taken:
                continue
            else:
                self._ledger.taken.add(item.key)
            noted = self._ledger.failed.get(item.id, 0)
            assert int(item.tries or 0) == noted, f"{item.id} was noted with {noted} failures, not {item.tries!r}"
            if item.id not in pinned:
                self._pending.append(item)
        return read.status == "idle"

    def _take(self, size: int) -> tuple[str, list[list[Item]]]:
        if self._pinned:
            return self._pinned.popleft()
        # Where batches are pinned, parked items are tried one by one: a pinned batch lies in the lane's stream.
        if self._name == "b" and any(item.parked for item in self._pending[:size]):
            size = 1
        batch, self._pending = self._pending[:size], self._pending[size:]
        return "", [batch]

    async def _check_pins(self, turn: Turn, parts: list[list[str]]) -> None:
        """A batch that was pinned is repeated as it was, or in the parts that were left, by whoever holds the lane."""
        if await self._all.redis.hget(f"{turn.lane.key}:turn", "token") != turn.token.encode():
            return
        for pinned in self._ledger.pinned.values():
            apart = set(chain(*parts)).isdisjoint(chain(*pinned))
            assert apart or parts == pinned, f"{parts} instead of the pinned {pinned}"

    async def _land(self, turn: Turn, batch: Sequence[Item], pin: str, choice: int | None) -> bool:
        """The outcome of an attempt; True: the destination failed as a whole."""
        outcome = 0 if choice is None else choice // 5 % 8
        if outcome == 7:
            if choice is not None and choice % 2:
                noted = {item.id: self._ledger.failed.get(item.id, 0) + 1 for item in batch}
                for item in batch:
                    item.tries = b"%d" % noted[item.id]
                await turn.settle(notes=batch)
                self._ledger.failed.update(noted)
            return True
        left: list[Item] = []
        if pin and len(batch) > 1 and choice is not None and choice % 3 == 0:
            cut = 1 + choice // 7 % (len(batch) - 1)
            batch, left = batch[:cut], list(batch[cut:])
        done: list[Item] = []
        dead: list[Item] = []
        parks: dict[str, Park] = {}
        failed: dict[str, int] = {}
        for number, item in enumerate(batch):
            fate = outcome >> number & 3 if self._name != "warehouse" else 0
            if fate == 1:
                failed[item.id] = self._ledger.failed.get(item.id, 0) + 1
                item.tries = b"%d" % failed[item.id]
                parks.setdefault(item.key, Park(item.key, 37 * (choice or 0) % 5000, [])).items.append(item)
            elif fate == 2:
                dead.append(item)
            else:
                done.append(item)
        for key, park in parks.items():
            park.items += [item for item in (*left, *self._pending) if item.key == key]
        left = [item for item in left if item.key not in parks]
        parts = [left[:1], left[1:]] if len(left) > 1 and choice is not None and choice % 2 else [left] if left else []
        letters = [("", 1, f"{self._name} {item.data.decode()}".encode()) for item in dead]
        in_hand = {*parks, *(item.key for item in self._pending)}
        claims, _ = await turn.settle(
            [Removal(item, f"delivered:{self._name}") for item in done]
            + [Removal(item, f"dead:{self._name}:permanent") for item in dead],
            list(parks.values()),
            {pin: _ids(parts)} if pin else {},
            [item.key for item in batch if item.parked and item.key not in in_hand],
            [Append("warehouse", letters, "to:warehouse")],
        )
        self._all.settle(self._name, done + dead)
        self._ledger.taken.difference_update(parks)
        self._ledger.failed.update(failed)
        self._ledger.pinned.pop(pin, None)
        if parts:
            self._ledger.pinned[pin] = _ids(parts)
            self._pinned.appendleft((pin, parts))
        self._pending = [item for item in self._pending if item.key not in parks]
        self._all.enqueue(claims)
        return False


def _ids(parts: Sequence[Sequence[Item]]) -> list[list[str]]:
    return [[item.id for item in part] for part in parts]


def _is_patient(choice: int | None) -> bool:
    """Whether a turn has waited long enough at an empty lane."""
    return choice is None or choice % 5 == 0


def _is_routed(lane: str, event: str) -> bool:
    return lane == "a" or int(event) % 2 == 0
