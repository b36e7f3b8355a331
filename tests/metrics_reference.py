"""Writes docs/metrics.md from the metrics themselves: `python tests/metrics_reference.py`. A test checks it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eventrouter.metrics import LAG, OWN, SHARED, SPOOL_COUNTERS, SPOOL_STATE, STATE, Family

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"

HEAD = """# Metrics

Written by `python tests/metrics_reference.py` from the metrics themselves. Names and labels are stable.

Every collector answers `GET /metrics` in the text format of Prometheus.

## Of all workers and collectors

These counters are kept in the event log's server, in the very steps that they count. Any collector tells them all, so
ask one alone, or take the highest answer; they survive restarts. `eventrouter audit` shows at any moment that they add
up, by sums like these, where a dead letter that was sent again counts as what became of it then:

- `events_accepted` = `waiting{lane="log"}` + `events_duplicates` + `events_routed` + `events_unreadable`;
- for each destination `destination_events` = `deliveries_delivered` + `waiting` + `deliveries_filtered` + dead letters
  + `deliveries_discarded` + `deliveries_forgotten`, where dead letters are `deliveries_dead` - `deliveries_replayed` -
  those of the other two whose `what` is a class of dead letters.
"""

LAG_HEAD = """
A histogram, with `_bucket` (label `le`), `_sum` and `_count`:
"""

STATE_HEAD = """
## Now

What waits, and how destinations are. While the event log is away only `eventrouter_up` is there.
"""

OWN_HEAD = """
## Of one collector

Each collector counts these by itself from its start, and tells them also while the event log is away: add them up.
"""

SPOOL_HEAD = """
What waits in its spool, where it has one (see [When Redis is away](operations.md#when-redis-is-away)):
"""

TAIL = """
## Of the process

`process_…` and `python_…` are those of the collector that is asked: memory, CPU, open files, garbage collection.
"""


def table(families: Sequence[Family], suffix: str = "") -> str:
    """A table of these metrics."""
    rows = [
        f"| `eventrouter_{one.name}{suffix}` | {', '.join(f'`{label}`' for label in one.labels)} | {one.text} |"
        for one in families
    ]
    return "\n".join(["", "| metric | labels | what |", "|---|---|---|", *rows, ""])


def reference() -> str:
    """The whole page."""
    shared = HEAD + table(SHARED, "_total") + LAG_HEAD + table([LAG]) + STATE_HEAD + table(STATE)
    return shared + OWN_HEAD + table((*OWN, *SPOOL_COUNTERS), "_total") + SPOOL_HEAD + table(SPOOL_STATE) + TAIL


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
