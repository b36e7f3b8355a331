"""The identity enrichment: gives every event its `person_id` and tells the warehouse what it learned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import structlog
from pydantic import BaseModel, ConfigDict, Field, field_validator

from eventrouter.enrichment import Enrichment
from eventrouter.errors import Retry, StartError
from eventrouter.events import StoredEvent
from eventrouter.records import AnyRecord

from ...threads import StoppedError, Threads
from .graph import Batch
from .resolve import resolve
from .sqlite import SqliteStore
from .store import StateError, Store

POSTGRES_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")

PATIENCE = 60.0
"""Seconds after which a state database that does not answer counts as away."""

FORGET_SECONDS, CLOSE_SECONDS = 1.0, 1.5
"""When the worker ends: how long it may take to relieve the outbox, and then to end what is under way."""

TIDY_AFTER = 2.0
"""Seconds that settled records stay in the outbox at most when no batch with changes comes along to take them out."""

T = TypeVar("T")


class IdentityEnrichment(Enrichment):
    """Resolves the ids of events to persons in the state database; see docs/identity.md for the rules.

    One lookup per batch, one transaction when something is new, none when nothing is. All work on the database is done
    in one thread of its own, so that neither a slow disk nor a lock holds up the event loop. Raises `Retry` while the
    database is away; the events are then unchanged.
    """

    name = "identity"
    required = True

    class Options(Enrichment.Options):
        """Where the state database is."""

        model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

        url: str = Field(
            description="sqlite:////absolute/path.sqlite3 or postgresql://user:password@host/database.", repr=False
        )

        @field_validator("url")
        @classmethod
        def _known(cls, url: str) -> str:
            open_store(url)
            return url

    def __init__(self, options: BaseModel, *, patience: float = PATIENCE, tidy_after: float = TIDY_AFTER) -> None:
        super().__init__(options)
        self._store = open_store(str(getattr(options, "url", "")))
        self._patience = patience
        self._tidy_after = tidy_after
        self._thread = Threads(1, "eventrouter-identity")
        self._returned: dict[int, int] = {}
        """Shard → up to which seq its records were returned, not settled yet."""
        self._settled: dict[int, int] = {}
        """Shard → up to which seq its records are kept, still in the outbox."""
        self._tidying: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("eventrouter.identity")

    async def start(self) -> None:
        """Opens the state database. Raises `StartError` when it can never be used; one that is away is waited for."""
        try:
            await self._run(self._store.open)
        except Retry as error:
            if isinstance(error.__cause__, StateError):
                raise StartError(error.reason, hint="see `state:` in routes.yaml") from error
            self._log.warning("the state database is away: routing waits for it", reason=error.reason)

    async def close(self) -> None:
        """Takes settled records out of the outbox and disconnects; within 3 s, whatever the database does."""
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.gather(self._tidying, return_exceptions=True)
            self._tidying = None
        self._store.hurry()
        self._patience = min(self._patience, FORGET_SECONDS)
        try:
            await self._forget()
        except Retry as error:
            self._log.info("identity changes will be told again after the next start", reason=error.reason)
        if await self._thread.stop(CLOSE_SECONDS, self._store.abort):
            self._store.close()

    async def enrich(self, shard: int, events: Sequence[StoredEvent]) -> Sequence[AnyRecord]:
        """Sets `person_id` on each event, or takes it off one without an id that counts; returns what is new.

        Records that an earlier run of this shard returned without being settled are returned again.
        """
        settled = dict(self._settled)
        raw = [stored.event for stored in events]
        self._returned.pop(shard, None)
        resolved = await self._run(lambda: resolve(self._store, shard, Batch(raw), settled))
        for event, person_id in zip(raw, resolved.person_ids, strict=True):
            if person_id is not None:
                event["person_id"] = person_id
            else:
                event.pop("person_id", None)
        if resolved.wrote:
            self._forgotten(settled)
        if resolved.records:
            self._returned[shard] = resolved.last
        return resolved.records

    async def settled(self, shard: int) -> None:
        """The last records of `shard` are kept: they leave the outbox with the next change, or soon by themselves."""
        seq = self._returned.pop(shard, None)
        if seq is None:
            return
        self._settled[shard] = max(seq, self._settled.get(shard, 0))
        if self._tidying is None or self._tidying.done():
            self._tidying = asyncio.create_task(self._tidy())

    async def _tidy(self) -> None:
        while self._settled:
            await asyncio.sleep(self._tidy_after)
            try:
                await self._forget()
            except Retry as error:
                self._log.warning("the outbox of the state database is not relieved yet", reason=error.reason)

    async def _forget(self) -> None:
        settled = dict(self._settled)
        if settled:
            await self._run(lambda: self._store.forget(settled))
            self._forgotten(settled)

    def _forgotten(self, settled: Mapping[int, int]) -> None:
        for shard, seq in settled.items():
            if self._settled.get(shard) == seq:
                del self._settled[shard]

    async def _run(self, work: Callable[[], T]) -> T:
        """Does `work` in the thread; whatever the database has to complain of becomes a `Retry`."""
        future = self._thread.submit(lambda: self._guarded(work))
        waiting = asyncio.wrap_future(future)
        try:
            done, _ = await asyncio.wait({waiting}, timeout=self._patience)
        except asyncio.CancelledError:
            waiting.cancel()  # work that has begun goes on: what it writes is in the outbox
            raise
        if not done:
            waiting.cancel()
            self._store.abort()
            raise Retry(f"the state database {self._store.name} does not answer", everyone=True)
        try:
            return waiting.result()
        except StoppedError:
            raise Retry("the worker ends", everyone=True) from None

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except self._store.errors as error:
            self._store.close()
            reason = f"the state database {self._store.name}: {self._store.describe(error)}"
            raise Retry(reason, everyone=True) from error


def open_store(url: str) -> Store:
    """The store of `url`, not connected yet. Raises ValueError, without the URL in its text, when it is none."""
    if url.startswith("sqlite:///"):
        path = url.removeprefix("sqlite:///")
        if not path or path == ":memory:":
            raise ValueError("the state database must be a file: write sqlite:////absolute/path.sqlite3")
        return SqliteStore(Path(path))
    scheme, _, rest = url.partition("://")
    if scheme in POSTGRES_SCHEMES:
        from .postgres import PostgresStore  # here: who keeps the state in SQLite should not pay for a second driver

        try:
            urlsplit(url)
            return PostgresStore(f"postgresql://{rest}")
        except StateError as error:
            raise ValueError(str(error)) from None
    raise ValueError("write sqlite:////absolute/path.sqlite3 or postgresql://user:password@host:5432/database")
