"""Prometheus metrics: what the shards count, and what this process knows of itself."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .counters import Snapshot

_process = CollectorRegistry()
ProcessCollector(registry=_process)
PlatformCollector(registry=_process)
GCCollector(registry=_process)

STATES = {"": 0, "backoff": 1, "hold": 2}


class _SnapshotCollector(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot
        counts = snapshot.counts
        for field, name, text in (
            ("accepted", "accepted", "Events kept in the event log."),
            ("routed", "routed", "Events routed."),
            ("duplicates", "duplicates", "Events dropped as duplicates."),
        ):
            yield CounterMetricFamily(f"eventrouter_events_{name}", text, value=counts[field])
        text = "Conditions that met values of the wrong types."
        yield CounterMetricFamily("eventrouter_condition_mismatches", text, value=counts["mismatches"])
        families = {
            "rejected": CounterMetricFamily(
                "eventrouter_events_rejected", "Events refused, by reason.", labels=("source", "reason")
            ),
            "to": CounterMetricFamily(
                "eventrouter_deliveries_routed", "Deliveries that entered a lane.", labels=("destination",)
            ),
            "delivered": CounterMetricFamily(
                "eventrouter_deliveries_delivered", "Deliveries taken.", labels=("destination",)
            ),
            "filtered": CounterMetricFamily(
                "eventrouter_deliveries_filtered", "Events not meant for it.", labels=("destination", "reason")
            ),
            "dead": CounterMetricFamily(
                "eventrouter_deliveries_dead", "Dead letters, by class.", labels=("destination", "class")
            ),
            "replayed": CounterMetricFamily(
                "eventrouter_deliveries_replayed", "Dead letters sent again.", labels=("destination",)
            ),
            "enrichment_failed": CounterMetricFamily(
                "eventrouter_enrichments_failed", "Batches that went on without it, or waited.", labels=("enrichment",)
            ),
            "warehouse": CounterMetricFamily(
                "eventrouter_warehouse",
                "What the warehouse met: late_duplicates, discarded, refused.",
                labels=("what",),
            ),
        }
        for field, number in sorted(counts.items()):
            kind, _, rest = field.partition(":")
            if rest and kind in families:
                families[kind].add_metric(rest.split(":", 1), number)
        yield from families.values()
        waiting = GaugeMetricFamily("eventrouter_waiting", "Units that wait in lanes.", labels=("lane",))
        parked = GaugeMetricFamily("eventrouter_parked_keys", "Order keys that wait.", labels=("destination",))
        oldest = GaugeMetricFamily("eventrouter_oldest_seconds", "Age of the oldest waiting item.", labels=("lane",))
        state = GaugeMetricFamily(
            "eventrouter_destination_state", "0 well, 1 backing off, 2 on hold.", labels=("destination",)
        )
        for name, lane in snapshot.lanes.items():
            waiting.add_metric([name], lane.waiting)
            oldest.add_metric([name], max(snapshot.now_ms - lane.oldest_ms, 0) / 1000 if lane.oldest_ms else 0)
            if name != "log":
                parked.add_metric([name], lane.parked_keys)
                state.add_metric([name], STATES.get(snapshot.health[name].get("state", ""), 0))
        yield from (waiting, parked, oldest, state)
        window = (snapshot.now_ms - snapshot.dedup_since_ms) / 1000 if snapshot.dedup_since_ms else 0
        yield GaugeMetricFamily("eventrouter_dedup_window_seconds", "How far back ids are remembered.", value=window)


def render(snapshot: Snapshot | None) -> bytes:
    """The text format of Prometheus; without a snapshot (Redis is away) only `eventrouter_up` and this process."""
    registry = CollectorRegistry()
    if snapshot is not None:
        registry.register(_SnapshotCollector(snapshot))
    up = GaugeMetricFamily("eventrouter_up", "Whether the event log is reachable.", value=int(snapshot is not None))

    class _Up(Collector):
        def collect(self) -> Iterator[Metric]:
            yield up

    registry.register(_Up())
    return generate_latest(registry) + generate_latest(_process)
