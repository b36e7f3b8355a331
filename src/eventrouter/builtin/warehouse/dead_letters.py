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
    "again": TEXT,
}
_KEY: Final = ("source", "message_id", "destination")

_REPLAYED: Final[dict[str, Kind]] = {
    **{column: COLUMNS[column] for column in (*_KEY, "route", "class", "reason", "attempts", "first_at", "last_at")},
    "replayed_at": TIMESTAMP,
    "outcome": TEXT,
}

# A mark names its dead letter by `last_at`; that of the version before names none, and is of all up to `replayed_at`.
# One that came before its dead letter left a row without a class, which only waits for it. A delivery that fails again
# is a dead letter again: what it answers is older by `last_at`, whatever the clocks said.
_WAITING: Final = f"""\
dead_letters.class = '' AND (dead_letters.last_at = excluded.last_at
OR dead_letters.last_at = '{EPOCH}' AND dead_letters.replayed_at >= excluded.last_at)"""
_KEPT: Final = ", ".join(
    f"{column} = CASE WHEN {_WAITING} THEN dead_letters.{column} END" for column in ("replayed_at", "outcome")
)
_LATER: Final = f"""\
ON CONFLICT (source, message_id, destination) DO UPDATE SET
{", ".join(f'"{column}" = excluded."{column}"' for column in COLUMNS if column not in _KEY)},
{_KEPT}
WHERE excluded.last_at > dead_letters.last_at OR {_WAITING}"""

# A mark whose dead letter is not there, only an older one, goes to that row, and takes the missing one's place in it.
_MARK: Final = f"""\
ON CONFLICT (source, message_id, destination) DO UPDATE SET
replayed_at = excluded.replayed_at, outcome = excluded.outcome,
last_at = CASE WHEN excluded.last_at > dead_letters.last_at THEN excluded.last_at ELSE dead_letters.last_at END
WHERE CASE WHEN excluded.last_at = '{EPOCH}' THEN excluded.replayed_at ELSE excluded.last_at END >= dead_letters.last_at
AND (dead_letters.replayed_at IS NULL OR excluded.replayed_at > dead_letters.replayed_at
OR excluded.last_at > dead_letters.last_at)"""


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
            letter.again,
        )
        if key not in latest or last_at > str(latest[key][8]):
            latest[key] = row
    if latest:
        store.merge("dead_letters", COLUMNS, [latest[key] for key in sorted(latest)], _LATER)
    marks: dict[tuple[str, str, str], tuple[str, str, str, str]] = {}
    for replay in replays:
        key = (replay.source, replay.message_id, replay.destination)
        last_at, replayed_at = read_time(replay.last_at) or EPOCH, read_time(replay.replayed_at) or EPOCH
        mark = last_at if last_at != EPOCH else replayed_at, replayed_at, replay.outcome, last_at
        marks[key] = max(marks.get(key, mark), mark)
    if marks:
        rows = []
        for key in sorted(marks):
            _, replayed_at, outcome, last_at = marks[key]
            rows.append((*key, "", "", "", 0, last_at, last_at, replayed_at, outcome))
        store.merge("dead_letters", _REPLAYED, rows, _MARK)
