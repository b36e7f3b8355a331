"""Prometheus metrics: what the shards count, what this collector counts, and what this process knows of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from .audit import differences
from .counters import Snapshot, age, budget_used
from .lag import histogram
from .lane import BUDGET_PERCENT
from .records import DEAD_LETTER_CLASSES
from .spool import SpoolState

_process = CollectorRegistry()
ProcessCollector(registry=_process)
PlatformCollector(registry=_process)
GCCollector(registry=_process)

STATES = {"backing off": 1, "on hold": 2, "paused": 3}
WHY = {
    "backing off": "backoff",
    "on hold": "hold",
    "paused": "paused",
    "failing": "failing",
    "no worker": "no_worker",
    "switched off": "switched_off",
    "not in routes.yaml": "no_rules",
}
"""The values of the label `why`, by what `status` says."""


class Family(NamedTuple):
    """A metric: its name without `eventrouter_`, what it says, and the names of its labels."""

    name: str
    text: str
    labels: tuple[str, ...] = ()
    field: str = ""
    """The shards' counter that it shows; with labels, those that begin with it and a colon."""


SHARED = (
    Family("events_accepted", "Events kept in the event log.", (), "accepted"),
    Family("events_routed", "Events routed.", (), "routed"),
    Family("events_duplicates", "Events dropped as duplicates.", (), "duplicates"),
    Family("source_events_accepted", "Events kept in the event log, by source.", ("source",), "accepted"),
    Family("source_events_routed", "Events routed, by source.", ("source",), "routed"),
    Family("source_events_duplicates", "Events dropped as duplicates, by source.", ("source",), "duplicates"),
    Family("events_unreadable", "Events of the log that nobody can read.", (), "unreadable"),
    Family("source_events_unreadable", "Of these, those whose source is known, by source.", ("source",), "unreadable"),
    Family("source_events_rejected", "Events refused, by source.", ("source",), "rejected_of"),
    Family("events_rejected", "Events refused, by reason.", ("source", "reason"), "rejected"),
    Family("condition_mismatches", "Conditions that met values of the wrong types.", (), "mismatches"),
    Family(
        "enrichments_failed", "Events that went on without it, since it failed.", ("enrichment",), "enrichment_failed"
    ),
    Family("turns_failed", "Turns that came to nothing; the router's are those of `log`.", ("lane",), "turn_failed"),
    Family("destination_events", "Events routed while the destination was there.", ("destination",), "events"),
    Family("deliveries_routed", "Deliveries that entered a lane; of the warehouse: records.", ("destination",), "to"),
    Family("deliveries_delivered", "Deliveries taken; of the warehouse: records.", ("destination",), "delivered"),
    Family("deliveries_filtered", "Events not meant for it.", ("destination", "reason"), "filtered"),
    Family("deliveries_dead", "Dead letters, by class.", ("destination", "class"), "dead"),
    Family(
        "failures_retried",
        "Failures of a delivery, or of a batch as a whole, after which it is tried again, by the status of the answer.",
        ("destination", "status"),
        "retried",
    ),
    Family("deliveries_replayed", "Dead letters sent again, by class.", ("destination", "class"), "replayed"),
    Family(
        "deliveries_discarded",
        "Deliveries that an operator gave up, by what they were: `waiting`, or a class of dead letters.",
        ("destination", "what"),
        "discarded",
    ),
    Family(
        "deliveries_forgotten",
        "Deliveries that went with a person's data, by what they were: `waiting`, or a class of dead letters.",
        ("destination", "what"),
        "forgotten",
    ),
    Family(
        "warehouse", "What the warehouse met: late_duplicates, discarded, refused, unreadable.", ("what",), "warehouse"
    ),
)
"""Counters of all shards: the same whichever collector is asked, and kept over restarts."""

LAG = Family(
    "delivery_seconds",
    "From routing to delivery; of the warehouse: records. A histogram; a replay's begin when they are in their lane.",
    ("destination",),
)
"""The same, as a histogram."""

STATE = (
    Family("up", "Whether the event log is reachable."),
    Family("waiting", "Units that wait: events in the log, deliveries, or the warehouse's records.", ("lane",)),
    Family("oldest_seconds", "Age of the oldest waiting item.", ("lane",)),
    Family("parked_keys", "Order keys that wait.", ("destination",)),
    Family(
        "destination_state",
        "1 backing off, 2 on hold, 3 paused, 0 none of these: see `destination_stopped`.",
        ("destination",),
    ),
    Family(
        "destination_stopped",
        "1 while nothing is sent: `backoff`, `hold`, `paused`, `failing`, `no_worker`, `switched_off`, `no_rules`.",
        ("destination", "why"),
    ),
    Family("next_try_seconds", "Until a destination that backs off or is on hold is tried again.", ("destination",)),
    Family("routing_failing", "1 while the router's turns come to nothing."),
    Family(
        "limit_used",
        "What is used of `backlog`, or by the oldest delivery of `max_age`: at 1 deliveries become dead letters.",
        ("destination", "limit"),
    ),
    Family(
        "processes", "Collectors and workers that are there, by the version of the rules in use.", ("kind", "rules")
    ),
    Family(
        "rules_problems", "Of these, those whose rules file can't be used as it is: they go on with the last good one."
    ),
    Family(
        "audit_difference",
        "What is missing (below 0: too much) by the sums of `eventrouter audit`, and the lanes' counters.",
        ("what",),
    ),
    Family("dedup_window_seconds", "How far back ids are remembered."),
    Family("server_memory_used_bytes", "Memory in use by the event log's server; of several, by the fullest."),
    Family("server_memory_max_bytes", "Its maxmemory; 0: none."),
    Family(
        "server_memory_budget_used",
        f"What is used of the part that events may fill ({BUDGET_PERCENT} %): from 1 on collectors spool.",
    ),
)
"""Gauges; all but `up` are left out while the event log is away."""

OWN = (
    Family("collector_requests_refused", "Requests this collector refused, by the code of its answer.", ("code",)),
    Family("collector_values_mended", "Values that JSON can't hold, replaced by it.", ("source", "reason")),
    Family("collector_webhooks_ignored", "Webhooks for which the source's `when` is false.", ("source",)),
    Family(
        "collector_measurements_dropped", "Requests with what clients measure about themselves, taken and not kept."
    ),
)
"""Counters of the one collector that is asked, since it started: add up those of all collectors."""

BEGUN: dict[str, dict[tuple[str, ...], int]] = {"collector_requests_refused": {("unavailable",): 0}}
"""Of these, those that are there before they count."""

SPOOL_STATE = (
    Family("spool_bytes", "What waits on this collector's disk for the event log.", (), "bytes"),
    Family("spool_events", "Events, refused ones included, that wait there.", (), "events"),
    Family("spool_oldest_seconds", "Age of the first of them.", (), "oldest_seconds"),
    Family("spool_max_bytes", "How much may wait there.", (), "max_bytes"),
)
SPOOL_COUNTERS = (
    Family("spool_spooled", "Events that went to this collector's disk.", (), "spooled"),
    Family("spool_drained", "Events that went on from there to the event log.", (), "drained"),
    Family("spool_unreadable", "Events that were set aside because the disk has changed them.", (), "unreadable"),
)
"""Of the one collector that is asked, where it has a spool."""


def render(
    snapshot: Snapshot | None,
    counted: Mapping[str, Mapping[tuple[str, ...], int]] | None = None,
    spool: SpoolState | None = None,
    status: Mapping[str, Any] | None = None,
) -> bytes:
    """The text format of Prometheus. Without a snapshot (Redis is away) what the shards tell is left out.

    What the collector that is asked `counted` (by the names of `OWN`, then by labels) and its `spool` are shown too.
    `status` is what `status_of` says of the snapshot.
    """
    own = {one: {**BEGUN.get(one.name, {}), **counted.get(one.name, {})} for one in OWN} if counted else {}
    gauges = _gauges(snapshot)
    if snapshot is not None and status is not None:
        gauges |= _of_status(status)
    if spool is not None:
        own |= {family: {(): getattr(spool, family.field)} for family in SPOOL_COUNTERS}
        gauges |= {family.name: {(): getattr(spool, family.field)} for family in SPOOL_STATE}
    registry = CollectorRegistry()
    registry.register(_Metrics(snapshot, _shared(snapshot, status or {}), gauges, own))
    return generate_latest(registry) + generate_latest(_process)


class _Metrics(Collector):
    def __init__(
        self,
        snapshot: Snapshot | None,
        shared: Mapping[Family, Mapping[tuple[str, ...], int]],
        gauges: dict[str, dict[tuple[str, ...], float]],
        own: Mapping[Family, Mapping[tuple[str, ...], int]],
    ) -> None:
        self._snapshot = snapshot
        self._shared = shared
        self._gauges = gauges
        self._own = own

    def collect(self) -> Iterator[Metric]:
        for family in (*STATE, *SPOOL_STATE):
            if family.name in self._gauges:
                gauge = GaugeMetricFamily(f"eventrouter_{family.name}", family.text, labels=family.labels)
                for labels, value in self._gauges[family.name].items():
                    gauge.add_metric(labels, value)
                yield gauge
        for family, values in (*self._shared.items(), *self._own.items()):
            counter = CounterMetricFamily(f"eventrouter_{family.name}", family.text, labels=family.labels)
            for labels, number in sorted(values.items()):
                counter.add_metric(labels, number)
            yield counter
        if self._snapshot is not None:
            lag = HistogramMetricFamily(f"eventrouter_{LAG.name}", LAG.text, labels=LAG.labels)
            for name in self._snapshot.lanes:
                if name != "log":
                    lag.add_metric((name,), *histogram(self._snapshot.counts, name))
            yield lag


def _shared(snapshot: Snapshot | None, status: Mapping[str, Any]) -> dict[Family, Mapping[tuple[str, ...], int]]:
    if snapshot is None:
        return {}
    values: dict[Family, dict[tuple[str, ...], int]] = {
        family: {} if family.labels else {(): snapshot.counts[family.field]} for family in SHARED
    }
    families = {family.field: family for family in SHARED if family.labels}
    for field, labels in _begun(snapshot, status):
        values[families[field]][labels] = 0
    for field, number in snapshot.counts.items():
        kind, _, rest = field.partition(":")
        if rest and kind in families:
            family = families[kind]
            values[family][tuple(rest.split(":", len(family.labels) - 1))] = number
        if kind == "rejected":
            by_source, source = values[families["rejected_of"]], (rest.partition(":")[0],)
            by_source[source] = by_source.get(source, 0) + number
    return dict(values)


def _begun(snapshot: Snapshot, status: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Counters that are there before they count: Prometheus sees no increase in what begins with 1."""
    for source in status.get("sources", ()):
        yield from (("accepted", (source,)), ("rejected_of", (source,)))
    yield from (("enrichment_failed", (name,)) for name in status.get("enrichments", ()))
    for name in snapshot.lanes:
        yield "turn_failed", (name,)
        if name == "log":
            continue
        yield from (("to", (name,)), ("delivered", (name,)))
        if name != "warehouse":
            yield from (("dead", (name, class_)) for class_ in DEAD_LETTER_CLASSES)


def _gauges(snapshot: Snapshot | None) -> dict[str, dict[tuple[str, ...], float]]:
    """The values of the gauges, by name and labels."""
    if snapshot is None:
        return {"up": {(): 0}}
    since = snapshot.dedup_since_ms
    lanes = snapshot.lanes.items()
    destinations = [(name, lane) for name, lane in lanes if name != "log"]
    missing = differences(snapshot.counts, {name: lane.waiting for name, lane in lanes})
    return {
        "up": {(): 1},
        "waiting": {(name,): lane.waiting for name, lane in lanes},
        "oldest_seconds": {(name,): age(snapshot, name) or 0 for name, _ in lanes},
        "parked_keys": {(name,): lane.parked_keys for name, lane in destinations},
        "processes": dict(Counter((one.kind, one.rules) for one in snapshot.processes)),
        "rules_problems": {(): sum(bool(one.problem) for one in snapshot.processes)},
        "audit_difference": {(what,): by for what, by in missing.items()},
        "dedup_window_seconds": {(): (snapshot.now_ms - since) / 1000 if since else 0},
        "server_memory_used_bytes": {(): snapshot.memory_used},
        "server_memory_max_bytes": {(): snapshot.memory_max},
        "server_memory_budget_used": {(): budget_used(snapshot)},
    }


def _of_status(status: Mapping[str, Any]) -> dict[str, dict[tuple[str, ...], float]]:
    rows = status["destinations"]
    states = {name: row["state"].split(", ") for name, row in rows.items()}
    return {
        "destination_state": {(name,): STATES.get(parts[0], 0) for name, parts in states.items()},
        "destination_stopped": {
            (name, why): int(state in parts) for name, parts in states.items() for state, why in WHY.items()
        },
        "next_try_seconds": {
            (name,): row["next_try_seconds"] for name, row in rows.items() if row["next_try_seconds"] is not None
        },
        "routing_failing": {(): int(status["router"]["state"] == "failing")},
        "limit_used": {(name, limit): part for name, row in rows.items() for limit, part in row["limits_used"].items()},
    }
