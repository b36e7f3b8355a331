"""Dead letters and their replays as rows of `dead_letters`, whatever the order in which they arrive."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from eventrouter.records import DeadLetter, DeadLetterReplayed

from .store import Store
from .values import INTEGER, TEXT, TIMESTAMP, Kind, read_time

EPOCH: Final = "1970-01-01T00:00:00.000Z"

COLUMNS: Final[dict[str, Kind]] = {
    "source": TEXT,
    "message_id": TEXT,
    "destination": TEXT,
    "route": TEXT,
    "class": TEXT,
    "reason": TEXT,
    "attempts": INTEGER,
    "first_at": TIMESTAMP,
    "last_at": TIMESTAMP,
    "status": INTEGER,
    "response": TEXT,
    "traceback": TEXT,
    "payload": TEXT,
    "event_type": TEXT,
    "event_name": TEXT,
    "rules": TEXT,
}
_KEY: Final = ("source", "message_id", "destination")

_REPLAYED: Final[dict[str, Kind]] = {
    **{column: COLUMNS[column] for column in (*_KEY, "route", "class", "reason", "attempts", "first_at", "last_at")},
    "replayed_at": TIMESTAMP,
    "outcome": TEXT,
}

# A delivery that fails again after its replay is a dead letter again, not a replayed one. A replay that came before its
# dead letter left a row without a class, which only waits for it.
_KEPT: Final = ", ".join(
    f"{column} = CASE WHEN dead_letters.class = '' AND dead_letters.replayed_at >= excluded.last_at"
    f" THEN dead_letters.{column} END"
    for column in ("replayed_at", "outcome")
)
_LATER: Final = f"""\
ON CONFLICT (source, message_id, destination) DO UPDATE SET
{", ".join(f'"{column}" = excluded."{column}"' for column in COLUMNS if column not in _KEY)},
{_KEPT}
WHERE excluded.last_at > dead_letters.last_at"""

_MARK: Final = """\
ON CONFLICT (source, message_id, destination) DO UPDATE SET
replayed_at = excluded.replayed_at, outcome = excluded.outcome
WHERE excluded.replayed_at >= dead_letters.last_at
AND (dead_letters.replayed_at IS NULL OR excluded.replayed_at > dead_letters.replayed_at)"""


def load_dead_letters(store: Store, letters: Iterable[DeadLetter], replays: Iterable[DeadLetterReplayed]) -> None:
    """Loads both in the open transaction of `store`; the later of two for one delivery holds."""
    latest: dict[tuple[str, str, str], tuple[object, ...]] = {}
    for letter in letters:
        key = (letter.source, letter.message_id, letter.destination)
        last_at = read_time(letter.last_at) or EPOCH
        row = (
            *key,
            letter.route,
            letter.class_,
            letter.reason,
            letter.attempts,
            read_time(letter.first_at) or last_at,
            last_at,
            letter.status,
            letter.response,
            letter.traceback,
            letter.payload,
            letter.event_type,
            letter.event_name,
            letter.rules,
        )
        if key not in latest or last_at > str(latest[key][8]):
            latest[key] = row
    if latest:
        store.merge("dead_letters", COLUMNS, [latest[key] for key in sorted(latest)], _LATER)
    marks: dict[tuple[str, str, str], tuple[str, str]] = {}
    for replay in replays:
        key = (replay.source, replay.message_id, replay.destination)
        mark = read_time(replay.replayed_at) or EPOCH, replay.outcome
        marks[key] = max(marks.get(key, mark), mark)
    if marks:
        rows = [(*key, "", "", "", 0, EPOCH, EPOCH, *marks[key]) for key in sorted(marks)]
        store.merge("dead_letters", _REPLAYED, rows, _MARK)
