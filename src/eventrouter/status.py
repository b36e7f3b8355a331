"""What `eventrouter status` shows, put together from what the shards and the processes tell."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from .config import Config
from .counters import Snapshot, by_destination, failing, reasons
from .limits import used


def status_of(config: Config, shards: int, snapshot: Snapshot, served: Collection[str]) -> dict[str, Any]:
    """The status, ready for JSON; `served` are the destinations that are switched on.

    Without rules (their version is empty) nothing is said of what is switched on.
    """
    counts = snapshot.counts
    window = (snapshot.now_ms - snapshot.dedup_since_ms) / 1000 if snapshot.dedup_since_ms else 0.0
    rejected = reasons(counts, "rejected:")
    limits = used(config, shards, snapshot)

    def row(name: str) -> dict[str, Any]:
        found = by_destination(snapshot, name)
        if config.version and name not in served:
            why = "switched off" if name in config.destinations else "not in routes.yaml"
            found["state"] = f"paused, {why}" if found["paused_at"] else why
        found["limits_used"] = limits[name]._asdict() if name in limits else {}
        return found

    return {
        "rules": config.version,
        "processes": [msgspec.structs.asdict(process) for process in snapshot.processes],
        "shards": shards,
        "events": {
            "accepted": counts["accepted"],
            "in_log": snapshot.lanes["log"].waiting,
            "duplicates": counts["duplicates"],
            "routed": counts["routed"],
        },
        "router": failing(snapshot, "log"),
        "dedup_window_seconds": round(window, 1),
        "sources": {
            name: {"rejected": {key.split(":", 1)[1]: n for key, n in rejected.items() if key.startswith(f"{name}:")}}
            for name in config.sources
        },
        "destinations": {name: row(name) for name in snapshot.lanes if name != "log"},
    }
