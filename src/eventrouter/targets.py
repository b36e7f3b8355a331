"""The destinations of a worker: made from routes.yaml, started at their first turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from redis.exceptions import RedisError

from .attempts import Attempts, secrets_of
from .calls import Calls
from .config import Config
from .dead_letter_log import DeadLetterLog
from .delivery import InHand, Tries, in_hand
from .destination import Destination, Message
from .errors import EventRouterError, is_cancellation
from .health import Health
from .lane import Claim, Item, Lane
from .lanes import Lanes
from .plugins import Plugins
from .probe import Probe
from .records import EventRecord, unpack_each
from .settings import Settings
from .stored import UnreadableError
from .target import Counts, Policy, Target
from .throttle import Throttle
from .unreadable import refusal
from .warehouse import Warehouse

log = structlog.get_logger("eventrouter.targets")

WAREHOUSE = "warehouse"
START_SECONDS = 60.0
"""How long a destination may take to start."""
IDLE_SECONDS = 30.0
"""How often a lane is looked at whose destination is switched off, or not in routes.yaml (any more)."""
WAREHOUSE_BYTES = 64 * 1024 * 1024
"""Bytes of stored records that all turns of the warehouse in a worker have in hand, about: a turn for each shard."""
WAKE_SECONDS = 1.0
"""How long lanes that can't be woken are left alone: Redis is away."""


class Targets:
    """Gives the target of a name; each is made once and started before its first turn."""

    def __init__(
        self,
        config: Config,
        settings: Settings,
        plugins: Plugins,
        lanes: Lanes,
        enqueue: Callable[[Sequence[Claim]], Awaitable[None]],
    ) -> None:
        self._config = config
        self._settings = settings
        self._plugins = plugins
        self._lanes = lanes
        self._enqueue = enqueue
        self._targets: dict[str, Target] = {}
        self._health: dict[str, Health] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._waits: dict[str, float] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._waking: set[asyncio.Task[None]] = set()
        self.reads_only = False
        """Whether the warehouse is opened to be asked alone."""
        self.traced: Callable[..., None] | None = None
        """Makes spans of attempts, where there are traces."""
        self.finished = _quiet(plugins.hook.attempt_finished)
        self.dropped = DeadLetterLog(_quiet(plugins.hook.event_dropped))

    @property
    def names(self) -> frozenset[str]:
        """Every destination there is, the warehouse included."""
        return frozenset({WAREHOUSE, *self._config.destinations})

    @property
    def served(self) -> frozenset[str]:
        """Those that are switched on."""
        return frozenset({WAREHOUSE, *(name for name, one in self._config.destinations.items() if one.enabled)})

    def use(self, config: Config) -> None:
        """From now on the destinations are those of `config`; the warehouse stays.

        Turns of what changed, or is no more, end after the attempts in hand; then it is closed. What waits for what
        changed is tried at once.
        """
        before, self._config = self._config, config
        for name in before.destinations.keys() | config.destinations.keys():
            if before.destinations.get(name) == config.destinations.get(name):
                continue
            self._health.pop(name, None)
            self._waits.pop(name, None)
            if (target := self._targets.pop(name, None)) is not None:
                target.service.retired = True
                self._close_unless_served(target)
            self._wake(name)

    @asynccontextmanager
    async def serving(self, name: str) -> AsyncIterator[Target | None]:
        """As `get`, for a turn: what is replaced meanwhile is closed when its last turn has ended."""
        before = self._config.destinations.get(name)
        target = await self.get(name)
        if target is not None:
            target.service.turns += 1
        try:
            yield target
        finally:
            if target is not None:
                target.service.turns -= 1
                self._close_unless_served(target)
            if self._config.destinations.get(name) != before:  # what it waits for now may have been corrected
                self._wake(name)

    def _close_unless_served(self, target: Target) -> None:
        if target.service.retired and not target.service.turns:
            _keep(self._closing, _close(target.name, target.attempts.destination, target.calls))

    def _wake(self, name: str) -> None:
        """Soon a destination that is on hold or backs off is tried, and its lanes wait for nothing any more."""
        _keep(self._waking, self._wake_lanes(name))

    async def _wake_lanes(self, name: str) -> None:
        while name in self.served:
            try:
                await self.probe_soon([name])
                for shard in range(self._settings.shards):
                    await self._lanes.run("wake", [Lane(shard, name).key], [])
                return
            except (RedisError, OSError, TimeoutError):
                await asyncio.sleep(WAKE_SECONDS)

    async def get(self, name: str) -> Target | None:
        """The target, started; None when there is none of that name or it can't start for now (then it backs off)."""
        if name in self._targets:
            return self._targets[name]
        if name not in self.served:
            return None
        async with self._locks.setdefault(name, asyncio.Lock()):
            if name not in self._targets:
                config = self._config
                started = await self._start(name)
                if started is None:
                    return None
                if name != WAREHOUSE and self._config.destinations.get(name) != config.destinations[name]:
                    await _close(name, started.attempts.destination)  # it was replaced meanwhile
                    return None
                self._targets[name] = started
        return self._targets[name]

    async def _start(self, name: str) -> Target | None:
        health = self._health.setdefault(name, self._make_health(name))
        probe = Probe(health)
        if (wait := await probe.gate()) > 0:  # it is backing off or on hold, and starting it may be what went wrong
            self._waits[name] = wait
            return None
        destination = None
        try:
            destination = self._make(name)
            async with asyncio.timeout(START_SECONDS):
                await destination.start()
        except BaseException as error:
            if is_cancellation(error):
                raise
            reason = f"it can't start: {type(error).__name__}: {error}"
            for secret in secrets_of(self._options(name)):
                reason = reason.replace(secret, "**********")
            log.warning("a destination can't start", destination=name, reason=reason)
            self._waits[name] = await health.failed(reason, probe=probe.token)
            if destination is not None:
                await _close(name, destination)
            return None
        else:
            await probe.end(told=False)  # the turn that asked has another one
        finally:
            await probe.leave()
        return self._target(name, destination, health)

    def wait(self, name: str) -> float:
        """Seconds until it is worth asking for a target again that `get` didn't give."""
        return max(self._waits.get(name, 1.0), 0.2) if name in self.served else IDLE_SECONDS

    async def warehouse(self) -> Warehouse:
        """The warehouse, started. Raises what its back end raises when it is away."""
        if WAREHOUSE not in self._targets:
            destination = self._make(WAREHOUSE)
            assert isinstance(destination, Warehouse)
            destination.reads_only = self.reads_only
            await destination.start()
            self._targets[WAREHOUSE] = self._target(WAREHOUSE, destination, self._make_health(WAREHOUSE))
        found = self._targets[WAREHOUSE].attempts.destination
        assert isinstance(found, Warehouse)
        return found

    async def probe_soon(self, names: Iterable[str] | None = None) -> None:
        """Ends the wait of these destinations, or of all: what was in the way may have been corrected."""
        wanted = self.names if names is None else names
        await asyncio.gather(*(self._make_health(name).probe_soon() for name in wanted))

    async def close(self) -> None:
        """Closes every destination that was started."""
        self.dropped.close()
        targets, self._targets = self._targets, {}
        for target in targets.values():
            await _close(target.name, target.attempts.destination, target.calls)
        for task in self._waking:
            task.cancel()
        await asyncio.gather(*self._closing)

    def _options(self, name: str) -> Any:
        return self._config.destinations[name].options if name != WAREHOUSE else None

    def _make(self, name: str) -> Destination:
        if name != WAREHOUSE:
            one = self._config.destinations[name]
            return one.cls(self._options(name), destination=name, batch_size=one.batch_size)
        path = self._settings.data_dir.resolve() / "warehouse.sqlite3"
        url = self._config.warehouse.url or f"sqlite:///{path}"
        scheme = url.split(":", 1)[0].split("+", 1)[0]
        if scheme not in self._plugins.warehouses:
            known = ", ".join(sorted(self._plugins.warehouses))
            raise EventRouterError(f"no warehouse back end serves {scheme}:", hint=f"there are: {known}")
        cls = self._plugins.warehouses[scheme]
        return cls(cls.Options(url=url), destination=WAREHOUSE)

    def _make_health(self, name: str) -> Health:
        if name == WAREHOUSE:
            return Health(self._lanes, name, initial=0.5, max_interval=10.0)
        one = self._config.destinations[name]
        return Health(self._lanes, name, initial=one.retry.initial, max_interval=one.retry.max_interval)

    def _target(self, name: str, destination: Destination, health: Health) -> Target:
        common: dict[str, Any] = {"enqueue": self._enqueue, "finished": self.finished, "dropped": self.dropped}
        common["traced"] = self.traced
        if name == WAREHOUSE:
            most = WAREHOUSE_BYTES // max(self._settings.shards, 4)
            policy = Policy(destination.batch_size, 0.0, destination.concurrency, max_age=None, read_bytes=most)
            attempts = Attempts(destination, destination.timeout, lenient=False)
            assert isinstance(destination, Warehouse)
            common["counts"] = Counts(destination.take_counts)
            return Target(name, policy, attempts, health, records_in_hand, **common)
        one = self._config.destinations[name]
        policy = Policy(
            batch_size=one.batch_size,
            batch_wait=one.batch_wait,
            concurrency=one.concurrency,
            max_age=one.retry.max_age,
            max_attempts=one.retry.max_attempts,
            pin=one.cls.pin_batches and one.batch_size > 1,
            apart=not one.cls.keeps_order,
        )
        attempts = Attempts(destination, one.timeout, pinned=policy.pin, secrets=secrets_of(one.options))
        throttle = Throttle(self._lanes, name, one.rate_limit) if one.rate_limit else None
        calls = Calls(self._lanes, name, one.calls) if one.calls else None
        return Target(name, policy, attempts, health, in_hand, throttle=throttle, calls=calls, **common)


def _keep(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    """Does `work` beside others; `tasks` holds it until it is done."""
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _close(name: str, destination: Destination, calls: Calls | None = None) -> None:
    if calls is not None:
        await calls.close()
    try:
        async with asyncio.timeout(START_SECONDS):
            await destination.close()
    except BaseException as error:
        if is_cancellation(error):
            raise
        log.exception("a destination failed to close", destination=name)


def records_in_hand(item: Item, destination: str) -> InHand:
    """Decodes an item of the warehouse's lane: a pack of records, settled together.

    In the place of a record that can't be read is the one that says so. Raises `UnreadableError` when none can,
    `NewerFormatError` when a newer version has written them.
    """
    found = unpack_each(item.data)
    records = [
        refusal(one, destination, item.id, number) if isinstance(one, UnreadableError) else one
        for number, one in enumerate(found)
    ]
    events = [record.event if isinstance(record, EventRecord) else {} for record in records]
    messages = [
        Message(
            id=f"{item.id}:{number}",
            payload=record,
            message_id=str(event.get("messageId", "")),
            source=record.source if isinstance(record, EventRecord) else "",
            type=str(event.get("type", "")),
            order_key="",
            timestamp="",
        )
        for number, (record, event) in enumerate(zip(records, events, strict=True))
    ]
    return InHand(item, messages, None, Tries(), sum(isinstance(one, UnreadableError) for one in found))


def _quiet(hook: Any) -> Callable[..., None] | None:
    """A hook that can't break a turn; None when no plugin implements it, so that nothing is called."""
    if not hook.get_hookimpls():
        return None

    def call(**arguments: Any) -> None:
        try:
            hook(**arguments)
        except BaseException:  # a hook may call sys.exit(); as it never waits, nobody can cancel it
            log.exception("a plugin's hook failed", hook=hook.name)

    return call
