"""One connection to a warehouse's database, with all that is done over it."""

from __future__ import annotations

from functools import partial

from . import queries
from .load import Loader
from .migrations import migrate
from .store import Store
from .typed import Names

_NAMES = Names()
"""Shared by all sessions of the process: what a name becomes depends on nothing else."""


class Session(Loader):
    """Loads batches and answers questions. Use it from one thread at a time.

    This file and what it imports is where SQLAlchemy is: import it when there is something to do, not to register.
    """

    def __init__(self, store: Store, now: str | None, *, max_tables: int, max_columns: int) -> None:
        """Brings the tables up to date; without a time `now` takes them as they are. Raises what `migrate` raises."""
        if now is not None:
            migrate(store, now)
        super().__init__(store, _NAMES, max_tables=max_tables, max_columns=max_columns)
        self.find_events = partial(queries.find_events, store)
        self.scan_events = partial(queries.scan_events, store)
        self.count_events = partial(queries.count_events, store)
        self.scan_ids = partial(queries.scan_ids, store)
        self.find_stored = partial(queries.find_stored, store)
        self.find_rejected = partial(queries.find_rejected, store)
        self.count_dead_letters = partial(queries.count_dead_letters, store)
        self.find_dead_letters = partial(queries.find_dead_letters, store)
