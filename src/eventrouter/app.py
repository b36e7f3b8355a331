"""Where everything comes together: what the command line, the console and tests hold."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import structlog
from redis.exceptions import RedisError

from . import child
from . import config as configuration
from .collect import Collector
from .collecting import Sources, make_collector
from .config import Config
from .connections import clients, wait_for_server
from .counters import Snapshot, read_snapshot
from .dead_letters import DeadLetters
from .deliver import DeliveryTurn
from .enrich import PLACES, RouterTurn
from .enrichment import Enrichment
from .enrichments import Enrichments, Made, made_of
from .errors import EventRouterError
from .feed import Feed
from .following import Following
from .garbage import collect_garbage_rarely
from .intake import Intake
from .kept_rules import KeptRules
from .lane import Claim
from .lanes import Lanes, Turn
from .limits import LimitsLog
from .log import EventLog
from .metrics import render
from .onlookers import Onlookers
from .plugins import Plugins
from .queue import Queue, worker_settings
from .rates import Sample, keep_samples, read_sample
from .replay import Replay
from .route import Router
from .routing import make_identity, make_rules
from .rules_file import RulesFile
from .settings import Settings
from .status import status_of
from .stores import agree
from .target import Ends
from .targets import WAREHOUSE, Targets
from .tracing import NO_TRACING, tracing_of
from .turns import Turns
from .unserved import unserved
from .warehouse import Warehouse
from .watchdog import BLOCKED_SECONDS, Watchdog

log = structlog.get_logger("eventrouter.app")

SNAPSHOT_SECONDS = 1.0
"""How long the numbers of `/metrics` may be old."""
CLOSE_SECONDS = 3.0
"""How long plugins may take to close; with the time that turns have to end, a worker is gone within 30 s of SIGTERM."""


class EventRouter:
    """An eventrouter: rules, plugins, and the connections to what it runs on. `connect` before use, `close` after."""

    def __init__(
        self, config: Config, settings: Settings, plugins: Plugins, environ: Mapping[str, str] = os.environ
    ) -> None:
        self.config = config
        self.settings = settings
        self.plugins = plugins
        self.rules_file = RulesFile(config, plugins, environ, KeptRules(settings.data_dir, settings.config))
        # What is remembered must leave room for what it is remembered of.
        self._dedup_limit = settings.maxmemory // 4 if settings.embedded else config.dedup.max_bytes
        self.router = Router(config, plugins.template_filters)
        self.redis, self._blocking = clients(settings.server_url)
        self.lanes = Lanes(self.redis, self._blocking, replicas=settings.replicas, outcomes=settings.outcome_bytes)
        self.targets = Targets(config, settings, plugins, self.lanes, self._enqueue)
        self.event_log = EventLog(self.lanes, settings.shards, self._enqueue)
        self.intake = Intake(self.event_log, self.lanes, self.connect, settings, config)
        self._queue: Queue | None = None
        self._enrichments = Enrichments([])
        self._own: Made = {}
        """The enrichments beside identity that run, with what they were made of."""
        self._identity: list[Enrichment] = []
        self._rules = make_rules(self.config, self.router, self._dedup_limit)
        self._following: Following | None = None
        self._stores = ""
        self.onlookers = Onlookers(self.redis)
        self.tracing = NO_TRACING
        self._snapshot: tuple[float, Snapshot] | None = None
        self._beside: list[asyncio.Task[Any]] = []
        self._places = asyncio.Semaphore(PLACES)

    def follow(self, kind: str, take_over: Callable[[Config], Awaitable[None]]) -> None:
        """From now on the rules in use are those of the file, as long as that is good; `close` ends it."""
        group = self.settings.worker_group
        self._following = Following(kind, self.rules_file, self.redis, take_over, self._stores, group)
        self._following.start()
        self.onlookers.start(kind)

    @classmethod
    def load(
        cls, settings: Settings, *, plugins: Plugins | None = None, environ: Mapping[str, str] | None = None
    ) -> Self:
        """Reads the rules. Raises `ConfigError` with every problem, `EventRouterError` for a broken plugin."""
        plugins, environ = plugins or Plugins.load(), environ or os.environ
        return cls(configuration.load(settings.config, plugins, environ), settings, plugins, environ)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """As `load`, for a collector or a worker: rules whose tests fail are none, and the last good ones will do."""
        plugins, kept = Plugins.load(), KeptRules(settings.data_dir, settings.config)
        rules = RulesFile.open(settings.config, plugins, os.environ, kept)
        app = cls(rules.config, settings, plugins)
        app.rules_file = rules
        app.tracing = tracing_of(os.environ)
        app.targets.traced = app.tracing.attempted if app.tracing else None
        return app

    async def connect(self, seconds: float = 10.0, *, silent: float | None = None) -> None:
        """Connects, waiting up to `seconds` for the server (see `wait_for_server`). Raises `StartError`."""
        await wait_for_server(self.redis, self.settings, seconds, silent=silent)
        try:
            url, group = self.settings.queue_server_url, self.settings.worker_group
            self._queue = await Queue.connect(url, lambda lane: self.config.group_of(lane), group)
        except (RedisError, OSError) as error:
            raise EventRouterError(f"arq can't reach the server: {error}", hint="see EVENTROUTER_REDIS_URL") from None

    async def close(self) -> None:
        """Closes what is open; may be called twice."""
        if self._following is not None:
            await self._following.stop()
        await self.onlookers.stop()
        if self.tracing is not None:
            await self.tracing.close()
        await self.event_log.close()
        await self._close_plugins()
        self._enrichments = Enrichments([])
        if self._queue is not None:
            await self._queue.close()
            self._queue = None
        await self.redis.aclose(close_connection_pool=True)
        await self._blocking.aclose(close_connection_pool=True)

    async def _close_plugins(self) -> None:
        """Within bounds, so that a worker ends in time whatever a plugin waits for."""
        closing = [asyncio.create_task(one) for one in (self.targets.close(), self._enrichments.close())]
        for task in self._beside:
            task.cancel()
        closing += self._beside
        for task in (await asyncio.wait(closing, timeout=CLOSE_SECONDS))[1]:
            log.warning("a plugin did not close in time", seconds=CLOSE_SECONDS)
            task.cancel()

    async def _enqueue(self, claims: Sequence[Claim]) -> None:
        if self._queue is not None:
            await self._queue.enqueue(claims)

    # The collector

    def collector(self) -> Collector:
        """The ASGI application."""
        append = self.onlookers.showing(self.event_log.append)
        collector = make_collector(
            self.config,
            self.settings,
            self.plugins.template_filters,
            append=append if self.tracing is None else self.tracing.append(append),
            ready=self.ready,
            metrics=lambda: self.metrics(collector),
        )
        return collector

    async def use_sources(self, collector: Collector, config: Config) -> None:
        """From now on the sources of `collector` are those of `config`."""
        sources = Sources(config, self.plugins.template_filters)
        collector.reception.sources, collector.reception.webhooks = sources.by_key, sources.webhooks
        self.config = config
        self.intake.version = config.version

    async def ready(self) -> dict[str, Any]:
        """Whether events would be taken: `{"ready": bool, …}`, for `/ready`."""
        return await self.intake.ready()

    async def metrics(self, collector: Collector | None = None) -> bytes:
        """The text for `/metrics`, with what `collector` counted by itself."""
        snapshot = None
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(5):
                snapshot = await self.snapshot()
        own = (collector.counted(), self.intake.state()) if collector else ({}, None)
        return render(snapshot, *own, self._status_of(snapshot) if snapshot else None)

    # The worker

    async def start_worker(self) -> Turns:
        """Connects, starts what the group's lanes need, and returns the turns to serve."""
        await self.connect()
        assert self._queue is not None
        if not self.settings.worker_group:
            await self._start_routing()
        child.report(worker_groups=self.config.worker_groups)
        collect_garbage_rarely()
        self.follow("worker", self.use)
        return Turns(self.lanes, self.settings.shards, self._queue, self._serve_turn)

    async def _start_routing(self) -> None:
        """What the router and the warehouse need, which the default group serves."""
        self._stores = await agree(self.redis, self.config, self.settings.data_dir)
        self._identity = make_identity(self.config, self.plugins, self.settings.data_dir)
        self._own = made_of(self.config.enrichments, {})
        self._enrichments = Enrichments([*self._identity, *(made for _, made in self._own.values())])
        await self._enrichments.start()
        # The tables are there before the first event; a warehouse that is away is tried again at its first turn.
        limits = LimitsLog(lambda: self.config, self.settings.shards).watch(self.snapshot)
        samples = keep_samples(self.redis, self.snapshot)
        self._beside = [asyncio.create_task(one) for one in (self.targets.get(WAREHOUSE), limits, samples)]

    async def use(self, config: Config) -> None:
        """From the next batch on the rules of this worker are those of `config`; the databases stay as they are."""
        config = replace(config, warehouse=self.config.warehouse, state=self.config.state)
        enrichments = {} if self.settings.worker_group else config.enrichments
        router, own = Router(config, self.plugins.template_filters), made_of(enrichments, self._own)
        await self._enrichments.use([*self._identity, *(made for _, made in own.values())])
        self.config, self.router, self._own = config, router, own
        self.targets.use(config)
        self._rules = make_rules(self.config, self.router, self._dedup_limit)
        child.report(worker_groups=config.worker_groups)

    async def _serve_turn(self, turn: Turn, stopping: asyncio.Event, others_wait: Callable[[], bool]) -> Claim | None:
        if turn.lane.name == "log":
            return await RouterTurn(
                turn,
                self.lanes,
                self.settings.shards,
                lambda: self._rules,
                self._enrichments,
                self._enqueue,
                stopping,
                self.targets.dropped,
                self.onlookers,
                self.tracing.routing if self.tracing else None,
                self._places,
            ).run()
        async with self.targets.serving(turn.lane.name) as target:
            if target is None:
                # Switched off, paused, not in routes.yaml (any more), or it can't start yet: its deliveries wait.
                name, dropped, wait = turn.lane.name, self.targets.dropped, self.targets.wait(turn.lane.name)
                if name == WAREHOUSE:
                    return await turn.give_up(wait)
                target = await unserved(self.config, name, self.lanes, self._enqueue, dropped, wait)
            return await DeliveryTurn(turn, target, Ends(stopping, target.service), others_wait).run()

    # Operators

    async def snapshot(self) -> Snapshot:
        """What the shards and destinations tell, at most a second old."""
        now = time.monotonic()
        if self._snapshot is None or now - self._snapshot[0] > SNAPSHOT_SECONDS:
            names = self.config.destinations
            self._snapshot = now, await read_snapshot(self.lanes, self.settings.shards, names)
        return self._snapshot[1]

    async def status(self) -> dict[str, Any]:
        """What `eventrouter status` shows, ready for JSON; the rates are those of the last minute."""
        return self._status_of(await self.snapshot(), await read_sample(self.redis))

    def _status_of(self, snapshot: Snapshot, earlier: Sample | None = None) -> dict[str, Any]:
        return status_of(self.config, self.settings.shards, snapshot, earlier)

    def feed(self, **options: Any) -> Feed:
        """The way into the lanes for what is sent again; the options are those of `Feed`."""
        return Feed(self.lanes, self.settings.shards, self.config.destinations, self._enqueue, **options)

    async def dead_letters(self, **options: Any) -> DeadLetters:
        """Dead letters, to be found, sent again or discarded; the options are those of `Feed`."""
        warehouse, feed, config = await self.warehouse(), self.feed(**options), self.config
        shards, route = self.settings.shards, self.router.route
        return DeadLetters(warehouse, feed, shards, route, config.destinations, config.version)

    async def replay(self, destination: str, *, rate: float, waiting: Any, away: Any, **options: Any) -> Replay:
        """A replay of history; `rate` and `waiting` are those of its `Feed`, `away` and the rest those of `Replay`."""
        warehouse, feed = await self.warehouse(), self.feed(rate=rate, waiting=waiting)
        about = self.settings.shards, self.router.route, destination, self.config.version
        return Replay(warehouse, self.redis, feed, *about, waiting=away, **options)

    async def warehouse(self) -> Warehouse:
        """The warehouse, started. Raises what its back end raises when it is away."""
        return await self.targets.warehouse()

    async def expire_leases(self, *, probe: bool = True) -> None:
        """Ends every lease and forgets every arq job: for a start that knows that no worker is alive.

        With `probe`, destinations on hold are probed at once: a start often follows a correction of routes.yaml.
        """
        assert self._queue is not None
        await self._queue.clear(self.config.worker_groups)
        if probe:
            await self.targets.probe_soon()
        for shard in range(self.settings.shards):
            claims, _ = await self.lanes.sweep(shard, everything=True)
            await self._queue.enqueue(claims)


def make_worker_settings(
    settings: Settings | None = None,
    make: Callable[[Settings], EventRouter] = EventRouter.open,
    *,
    blocked_seconds: float = BLOCKED_SECONDS,
) -> type:
    """arq's WorkerSettings for these settings (by default those of the environment). Raises `ConfigError`."""
    settings = settings or Settings.read()
    app = make(settings)
    start, stop = Watchdog(settings.server_url, seconds=blocked_seconds).around(app.start_worker, app.close)
    url, group = settings.queue_server_url, settings.worker_group
    return worker_settings(url, start, stop, shards=settings.shards, group=group)
