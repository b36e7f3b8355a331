"""Random histories of events over a few ids, in random batches, shards and workers, against a naive model."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings

from eventrouter.events import StoredEvent
from identity_kit import check_crowd, check_history, new_identity, turns


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(turns)
def test_any_history_ends_as_the_rules_say(history: list[tuple[int, int, list[StoredEvent], str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'state.sqlite3'}"
        asyncio.run(check_history(history, lambda: new_identity(url)))


async def test_many_workers_at_once_lose_no_tie_and_make_no_person_twice(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.sqlite3'}"
    await check_crowd(lambda: new_identity(url), workers=6, batches=20)
