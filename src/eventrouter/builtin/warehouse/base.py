"""What the warehouses on SQL databases share: batches, what is done about trouble, connections, questions."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from eventrouter.destination import Message, Outcome
from eventrouter.errors import EventRouterError, Retry, StartError, UnavailableError
from eventrouter.events import StoredEvent
from eventrouter.records import EventRecord
from eventrouter.warehouse import EventId, Warehouse

from ...threads import StoppedError, Threads
from .prepare import Item, prepare, refusal
from .store import Store, Trouble

if TYPE_CHECKING:
    from .session import Session

T = TypeVar("T")

TRIES = 5
"""How often a batch is loaded at once when somebody else was faster, before it counts as being at fault."""

GRACE_SECONDS, CLOSE_SECONDS = 0.5, 2.5
"""How long a batch may take to end by itself when the warehouse is closed, and when it is left behind at the latest."""

NOT_READY = "its tables are not there yet, or those of an older version: a worker of this version makes them"

_SCAN: Final[dict[str, Any]] = {"since": None, "until": None, "limit": 1000, "after": None}
_FIND: Final[dict[str, Any]] = {"message_id": None, "code": None, "limit": 100, "after": ""}


def _now() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat("T", "milliseconds") + "Z"


class SqlWarehouse(Warehouse):
    """A warehouse on an SQL database.

    A batch is one transaction, loaded by a thread of our own. What cannot be loaded is found by halving the batch, and
    kept in `rejected_events`; an event that only the typed tables refuse is kept in `events`.
    """

    connections: ClassVar[int] = 1
    """How many batches are loaded side by side."""
    max_tables: ClassVar[int] = 2000
    """Tables of track events; the events of further names are in `events` and `tracks` only."""
    max_columns: ClassVar[int] = 1000
    """Columns of a typed table; values of further ones are in `events` and `discarded_values`."""

    def __init__(self, options: Warehouse.Options, *, destination: str = "") -> None:
        super().__init__(options, destination=destination or "warehouse")
        self.late_duplicates = 0
        """Events that came again, after they had been loaded."""
        self.discarded = 0
        """Values that did not fit, kept in `discarded_values`."""
        self.refused = 0
        """Records that could not be loaded, kept in `rejected_events`."""
        self._idle: list[Session] = []
        self._lock = threading.Lock()
        self._threads = Threads(self.connections, "eventrouter-warehouse")
        self._busy: set[Store] = set()
        self.closing = threading.Event()
        """From then on nothing connects, nor waits for somebody else's lock."""

    def open(self) -> Store:
        """A new connection. Raises `StartError` for what only a person can put right, and what the driver raises."""
        raise TypeError(f"{type(self).__name__} does not define open()")

    def explain(self, error: Exception) -> tuple[str, str]:
        """What `error` means to a person, without secrets, and what to do about it (may be empty)."""
        if isinstance(error, EventRouterError):
            return str(error), error.hint
        return f"{type(error).__name__}: {error}".strip(), ""

    async def start(self) -> None:
        """Connects and brings the tables up to date.

        Raises `StartError` or `UnavailableError`; `deliver` connects again by itself. When it is cancelled, the
        warehouse is closed.
        """
        try:
            await self._in_thread(lambda: self._give_back(self._connect()))
        except asyncio.CancelledError:
            await self.close()
            raise
        except EventRouterError:
            raise
        except Exception as error:
            message, hint = self.explain(error)
            raise UnavailableError(message, hint=hint) from None

    async def close(self) -> None:
        """Ends within 3 s, whatever the database does. A batch that is cut short is a `Retry`, or simply not loaded."""
        self.closing.set()
        if not await self._threads.stop(CLOSE_SECONDS, self._interrupt, grace=GRACE_SECONDS):
            self.log.warning("the database did not answer while the warehouse was closed; nothing is lost")
        while self._idle:
            self._idle.pop().store.close()
        await super().close()

    def _interrupt(self) -> None:
        with self._lock:
            for store in self._busy:
                store.interrupt()

    async def deliver(self, messages: Sequence[Message]) -> Mapping[str, Outcome] | None:
        """Loads the records in one transaction. Raises nothing but `Retry`, while the database cannot take them."""
        try:
            await self._in_thread(lambda: self._deliver(messages))
        except UnavailableError as error:
            raise Retry(str(error), everyone=True) from None
        return None

    async def find_events(self, ids: Sequence[tuple[str, str]]) -> list[StoredEvent]:
        return await self._ask(lambda session: session.find_events(ids))

    async def scan_events(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        newest_first: bool = False,
        limit: int = 1000,
        after: StoredEvent | None = None,
        person: str | None = None,
    ) -> list[StoredEvent]:
        return await self._ask(
            lambda session: session.scan_events(
                since=since, until=until, newest_first=newest_first, limit=limit, after=after, person=person
            )
        )

    async def count_events(self, **bounds: Any) -> int:
        return await self._ask(lambda session: session.count_events(**bounds))

    async def scan_ids(self, **bounds: Any) -> list[EventId]:
        return await self._ask(lambda session: session.scan_ids(**_SCAN | bounds))

    async def find_stored(self, message_id: str) -> list[dict[str, Any]]:
        return await self._ask(lambda session: session.find_stored(message_id))

    async def find_rejected(self, **filters: Any) -> list[dict[str, Any]]:
        return await self._ask(lambda session: session.find_rejected(**_FIND | filters))

    async def count_dead_letters(self, **filters: Any) -> dict[tuple[str, str], int]:
        return await self._ask(lambda session: session.count_dead_letters(**filters))

    async def find_dead_letters(self, **filters: Any) -> list[dict[str, Any]]:
        return await self._ask(lambda session: session.find_dead_letters(**filters))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await self._threads.run(work)
        except StoppedError:
            raise UnavailableError("the warehouse is being closed") from None

    async def _ask(self, question: Callable[[Session], T]) -> T:
        try:
            return await self._in_thread(lambda: self._with_session(question))
        except EventRouterError:
            raise
        except Exception as error:
            message, hint = self.explain(error)
            raise UnavailableError(message, hint=hint or (NOT_READY if self.reads_only else "")) from None

    def _connect(self) -> Session:
        if self.closing.is_set():
            raise UnavailableError("the warehouse is being closed")
        from .session import Session  # here: who only reads the rules, or collects, should not pay for SQLAlchemy

        store = self.open()
        try:
            with self._in_use(store):
                limits = {"max_tables": self.max_tables, "max_columns": self.max_columns}
                return Session(store, None if self.reads_only else _now(), **limits)
        except BaseException:
            store.close()
            raise

    @contextmanager
    def _in_use(self, store: Store) -> Iterator[None]:
        """Meanwhile `close` interrupts it."""
        with self._lock:
            self._busy.add(store)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(store)

    def _give_back(self, session: Session) -> None:
        with self._lock:
            if not self.closing.is_set():
                self._idle.append(session)
                return
        session.store.close()

    def _with_session(self, work: Callable[[Session], T]) -> T:
        """`work` over an idle connection, else a new one; once more over a new one when an idle one was lost."""
        with self._lock:
            session = self._idle.pop() if self._idle else None
        if session is not None:
            try:
                with self._in_use(session.store):
                    result = work(session)
            except Exception as error:
                session.store.close()
                lost = not isinstance(error, StartError) and session.store.trouble(error) is Trouble.AWAY
                if not lost or self.closing.is_set():
                    raise
                self.log.warning("the warehouse is opened again", reason=self.explain(error)[0][:300])
            else:
                self._give_back(session)
                return result
        session = self._connect()
        try:
            with self._in_use(session.store):
                result = work(session)
        except BaseException:
            session.store.close()
            raise
        self._give_back(session)
        return result

    def _deliver(self, messages: Sequence[Message]) -> None:
        try:
            items = prepare(messages, _now())
            self._with_session(lambda session: self._load(session, items))
        except Exception as error:
            message, hint = self.explain(error)
            raise Retry(f"{message} ({hint})" if hint else message, everyone=True) from None

    def _load(self, session: Session, items: Sequence[Item]) -> None:
        error = self._try(session, items)
        if error is None:
            return
        if len(items) > 1:
            middle = len(items) // 2
            self._load(session, items[:middle])
            self._load(session, items[middle:])
            return
        self._refuse(session, items[0], error)

    def _try(self, session: Session, items: Sequence[Item]) -> Exception | None:
        """Loads `items`; returns what is wrong with them, raises what is wrong with the database."""
        for tried in range(TRIES):
            try:
                loaded = session.load(items, _now())
            except Exception as error:
                trouble = session.store.trouble(error)
                if trouble is Trouble.AWAY:
                    raise
                if trouble is Trouble.DATA or tried == (1 if trouble is Trouble.STALE else TRIES - 1):
                    return error
                if trouble is Trouble.AGAIN:
                    time.sleep(random.uniform(0, 0.02 * 2**tried))
            else:
                with self._lock:
                    self.late_duplicates += loaded.late_duplicates
                    self.discarded += loaded.discarded
                if loaded.late_duplicates:
                    self.log.debug("late duplicates", count=loaded.late_duplicates)
                return None
        return None

    def _refuse(self, session: Session, item: Item, error: Exception) -> None:
        """Keeps what can be kept of one record that cannot be loaded as it is."""
        record = item.record
        attempts: list[list[Item]] = []
        if isinstance(record, EventRecord):
            note = refusal(record, item.ref, error, _now(), kept=True)
            attempts.append([Item(record, item.ref, item.payload, typed=False), Item(note, item.ref)])
        attempts.append([Item(refusal(record, item.ref, error, _now()), item.ref)])
        last: Exception = error
        for attempt in attempts:
            failure = self._try(session, attempt)
            if failure is None:
                with self._lock:
                    self.refused += 1
                self.log.warning("a record could not be loaded", record=item.ref, error=self.explain(error)[0][:300])
                return
            last = failure
        raise last
