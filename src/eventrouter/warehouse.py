"""What a warehouse back end builds on: the destination that is always on and gets every event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

from pydantic import Field

from .destination import Destination, Message, Outcome
from .events import StoredEvent


class EventId(NamedTuple):
    """Which event it is, and when it came."""

    received_at: str
    """ISO 8601, UTC."""
    source: str
    message_id: str


class Warehouse(Destination):
    """The base of every warehouse back end, chosen by the scheme of `warehouse.url`.

    The payload of each message is a record (`records.AnyRecord`). A batch is one transaction: `deliver` returns when it
    is durable, and loading the same record again changes nothing. It raises `Retry` while the database is away; what
    can never be stored it keeps in `rejected_events`, so that it never refuses.
    """

    schemes: ClassVar[tuple[str, ...]] = ()
    """The URL schemes that it serves, such as `("postgresql", "postgres")`."""
    batch_size: ClassVar[int] = 1000
    concurrency: ClassVar[int] = 1
    timeout: ClassVar[float] = 120.0

    class Options(Destination.Options):
        """Where the warehouse is."""

        url: str = Field(description="The database's URL, such as sqlite:////var/lib/warehouse.sqlite3.")

    reads_only: bool = False
    """True, set before `start`: nobody delivers. Nothing is made or changed then, and locks are not waited for long."""
    late_duplicates = 0
    """Events that had been loaded before, so far: repeats beyond the dedup window, or after a crash."""
    discarded = 0
    """Values that did not fit their column, so far."""
    refused = 0
    """Records that the database can't hold, so far."""
    _told: Mapping[str, int] = {}

    def take_counts(self) -> dict[str, int]:
        """What was counted since it was asked last, by counter."""
        now = {name: int(getattr(self, name)) for name in ("late_duplicates", "discarded", "refused")}
        told, self._told = self._told, now
        return {
            f"warehouse:{name}": number - told.get(name, 0)
            for name, number in now.items()
            if number > told.get(name, 0)
        }

    async def deliver(self, messages: Sequence[Message]) -> Mapping[str, Outcome] | None:
        raise TypeError(f"{type(self).__name__} does not define deliver()")

    async def find_events(self, ids: Sequence[tuple[str, str]]) -> list[StoredEvent]:
        """The stored events with these (source, messageId); those that are not there are left out."""
        raise TypeError(f"{type(self).__name__} does not define find_events()")

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
        """Stored events in the order of their arrival: at or after `since`, before `until`, behind `after`.

        With `person`, only those of today's person with this id, or with an id that was merged into it.
        """
        raise TypeError(f"{type(self).__name__} does not define scan_events()")

    async def count_events(self, **bounds: Any) -> int:
        """How many events `scan_events` would find in all with `since`, `until` and `person`."""
        raise TypeError(f"{type(self).__name__} does not define count_events()")

    async def scan_ids(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 1000,
        after: EventId | None = None,
    ) -> list[EventId]:
        """Identities of stored events, the newest first: at or after `since`, before `until`, behind `after`."""
        raise TypeError(f"{type(self).__name__} does not define scan_ids()")

    async def find_stored(self, message_id: str) -> list[dict[str, Any]]:
        """The events with this messageId (one of each source at most), as dicts with the columns of `events`.

        `payload` is the event's JSON; `person_today` is the person that `person_id` has become.
        """
        raise TypeError(f"{type(self).__name__} does not define find_stored()")

    async def find_rejected(
        self, *, message_id: str | None = None, code: str | None = None, limit: int = 100, after: str = ""
    ) -> list[dict[str, Any]]:
        """Refused events as dicts with the table's columns but for `payload`, by `id`, behind the id `after`."""
        raise TypeError(f"{type(self).__name__} does not define find_rejected()")

    async def count_dead_letters(self, **filters: Any) -> dict[tuple[str, str], int]:
        """How many dead letters `find_dead_letters` would find in all, by destination and class."""
        raise TypeError(f"{type(self).__name__} does not define count_dead_letters()")

    async def find_dead_letters(
        self,
        *,
        destination: str | None = None,
        class_: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        event: str | None = None,
        message_id: str | Sequence[str] | None = None,
        reason: str | None = None,
        replayed: bool = False,
        limit: int = 1000,
        after: tuple[str, str, str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """Dead letters as dicts with the table's columns, oldest first by `last_at` (from `since` on, before `until`).

        `message_id` may be several. Without `replayed`, only those that are still dead letters: neither sent again nor
        discarded. Of `reason` a part is enough, in any case of letters. `after` is (last_at, source, message_id,
        destination) of the last one of the page before.
        """
        raise TypeError(f"{type(self).__name__} does not define find_dead_letters()")
