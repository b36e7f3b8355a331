"""What `eventrouter status` shows, put together from what the shards and the processes tell."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec

from .config import Config
from .counters import Snapshot, age, budget_used, by_destination, failing, reasons
from .limits import used
from .rates import EVENTS, Sample, rates_between, sample_of
from .times import EPOCH, write_time
from .worker_group import start_hint

WAREHOUSE = "warehouse"
UNSERVED = ("switched off", "not in routes.yaml")


def row_of(config: Config, snapshot: Snapshot, name: str) -> dict[str, Any]:
    """As `by_destination`, with what the rules tell: a destination that they don't serve is neither well nor tried.

    Without rules (their version is empty) nothing is said of what is switched on.
    """
    found = by_destination(snapshot, name)
    one = config.destinations.get(name)
    if config.version and name != WAREHOUSE and (one is None or not one.enabled):
        why = UNSERVED[0] if one else UNSERVED[1]
        if found["paused_at"]:
            found["state"] = f"paused, {why}"
        else:  # why it was not tried before is past
            found |= {"state": why, "reason": "", "next_try_seconds": None}
    elif (group := config.group_of(name)) and not found["paused_at"]:
        groups = {process.group for process in snapshot.processes if process.kind == "worker"}
        if group not in groups:
            found |= {"state": "no worker", "reason": f"no worker of the group `{group}` runs: {start_hint(group)}"}
    return found


def obstacle(row: Mapping[str, Any]) -> str:
    """`is on hold: HTTP 401`: why nothing is sent to the destination of a row for now; empty where it is."""
    if row["state"] == "ok":
        return ""
    is_ = "has" if row["state"] == "no worker" else "is"
    return f"{is_} {row['state']}" + (f": {row['reason']}" if row["reason"] else "")


def status_of(config: Config, shards: int, snapshot: Snapshot, earlier: Sample | None = None) -> dict[str, Any]:
    """The status, ready for JSON. Rates (`per_second`) are those since the `earlier` sample, null without one."""
    counts = snapshot.counts
    window = (snapshot.now_ms - snapshot.dedup_since_ms) / 1000 if snapshot.dedup_since_ms else 0.0
    rejected = reasons(counts, "rejected:")
    limits = used(config, shards, snapshot)
    rates = rates_between(earlier, sample_of(snapshot)) if earlier else None

    def row(name: str) -> dict[str, Any]:
        found = row_of(config, snapshot, name)
        found["limits_used"] = limits[name]._asdict() if name in limits else {}
        found["per_second"] = {
            "delivered": rates.delivered.get(name, 0.0) if rates else None,
            "failed": rates.failed.get(name, 0.0) if rates else None,
        }
        return found

    return {
        "at": write_time(EPOCH + timedelta(milliseconds=snapshot.now_ms)),
        "rules": config.version,
        "processes": [msgspec.structs.asdict(process) for process in snapshot.processes],
        "shards": shards,
        "events": {
            "accepted": counts["accepted"],
            "in_log": snapshot.lanes["log"].waiting,
            "duplicates": counts["duplicates"],
            "routed": counts["routed"],
        },
        "per_second": rates.events if rates else dict.fromkeys(EVENTS),
        "rates_over_seconds": rates.seconds if rates else None,
        "router": failing(snapshot, "log") | {"oldest_seconds": age(snapshot, "log")},
        "memory": {
            "used_bytes": snapshot.memory_used,
            "max_bytes": snapshot.memory_max,
            "budget_used": round(budget_used(snapshot), 3),
        },
        "dedup_window_seconds": round(window, 1),
        "sources": {
            name: {"rejected": {key.split(":", 1)[1]: n for key, n in rejected.items() if key.startswith(f"{name}:")}}
            for name in config.sources
        },
        "enrichments": {
            name: {"failed": counts[f"enrichment_failed:{name}"]}
            for name in dict.fromkeys((*config.enrichments, *reasons(counts, "enrichment_failed:")))
        },
        "destinations": {name: row(name) for name in snapshot.lanes if name != "log"},
    }
