"""Writes docs/grafana/eventrouter.json, a dashboard: `python tests/grafana_reference.py`. A test checks that."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eventrouter.metrics import WHY

PAGE = Path(__file__).parent.parent / "docs" / "grafana" / "eventrouter.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24

ONE = 'destination=~"$destination"'
LANE = 'lane=~"$destination"'
OK, BAD = (None, "green"), "red"

Query = tuple[str, str]
"""PromQL and the legend."""


def query(number: int, expression: str, legend: str, **more: Any) -> dict[str, Any]:
    return {"datasource": SOURCE, "expr": expression, "legendFormat": legend, "refId": chr(65 + number), **more}


def panel(kind: str, title: str, text: str, queries: Sequence[Query], width: int, **more: Any) -> dict[str, Any]:
    """A panel; `more` is `unit`, or the `defaults` of its field."""
    unit, defaults = more.pop("unit", "short"), more.pop("defaults", {})
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": SOURCE,
        "targets": [query(number, *one) for number, one in enumerate(queries)],
        "gridPos": {"w": width, "h": 4 if kind == "stat" else 8},
        "fieldConfig": {"defaults": {"unit": unit, **defaults}, "overrides": []},
        **more,
    }


def graph(title: str, text: str, *queries: Query, width: int = 12, unit: str = "short") -> dict[str, Any]:
    options = {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    defaults = {"min": 0, "custom": {"fillOpacity": 10, "showPoints": "never"}}
    return panel("timeseries", title, text, queries, width, unit=unit, options=options, defaults=defaults)


def number(title: str, text: str, expression: str, *steps: tuple[float | None, str], unit: str = "short") -> Any:
    """A number, with the values from which on it has a color."""
    thresholds = {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}
    options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
    return panel(
        "stat", title, text, [(expression, "")], 3, unit=unit, options=options, defaults={"thresholds": thresholds}
    )


def states() -> dict[str, Any]:
    colors = {"backing off": "yellow", "on hold": BAD, "paused": "blue", "failing": BAD, "no worker": BAD}
    options = {
        str(value): {"text": word, "color": colors.get(word, "green" if word == "well" else "blue"), "index": value}
        for value, word in enumerate(("well", *WHY))
    }
    codes = " or ".join(
        f'eventrouter_destination_stopped{{why="{why}",{ONE}}} * {value}' for value, why in enumerate(WHY.values(), 1)
    )
    return panel(
        "state-timeline",
        "State",
        "What holds deliveries back; `eventrouter status` says why.",
        [(f"max by (destination) ({codes})", "{{destination}}")],
        WIDTH,
        defaults={"mappings": [{"type": "value", "options": options}], "custom": {"fillOpacity": 70}},
        options={"mergeValues": True, "showValue": "auto", "rowHeight": 0.9},
    )


def quantile(part: float) -> str:
    buckets = f"rate(eventrouter_delivery_seconds_bucket{{{ONE}}}[$__rate_interval])"
    return f"histogram_quantile({part}, max by (destination, le) ({buckets}))"


def rate(metric: str, labels: str, where: str = "") -> str:
    """Of all shards: every collector tells the same."""
    return f"max by ({labels}) (rate(eventrouter_{metric}_total{{{where}}}[$__rate_interval]))"


ROWS: dict[str, list[dict[str, Any]]] = {
    "Now": [
        number("Event log", "1: a collector reaches it.", "max(eventrouter_up)", (None, BAD), (1, "green")),
        number(
            "Collectors",
            "That are there.",
            'max(sum by (instance) (eventrouter_processes{kind="collector"}))',
            (None, BAD),
            (1, "green"),
        ),
        number(
            "Workers",
            "That are there.",
            'max(sum by (instance) (eventrouter_processes{kind="worker"}))',
            (None, BAD),
            (1, "green"),
        ),
        number("Accepted", "Events a second.", rate("events_accepted", ""), (None, "blue"), unit="cps"),
        number(
            "Oldest in the log",
            "Age of the first event that is not routed.",
            'max(eventrouter_oldest_seconds{lane="log"})',
            OK,
            (10, "yellow"),
            (60, BAD),
            unit="s",
        ),
        number(
            "Dead letters",
            "In the last hour.",
            "sum(max by (destination, class) (increase(eventrouter_deliveries_dead_total[1h])))",
            OK,
            (1, "yellow"),
        ),
        number(
            "Memory",
            "Used of what events may fill: from 100% on collectors spool.",
            "max(eventrouter_server_memory_budget_used)",
            OK,
            (0.8, "yellow"),
            (1, BAD),
            unit="percentunit",
        ),
        number(
            "Rules",
            "Processes whose rules file can't be used as it is.",
            "max(eventrouter_rules_problems)",
            OK,
            (1, BAD),
        ),
    ],
    "Events": [
        graph(
            "Events a second",
            "What came and what became of it.",
            (rate("events_accepted", ""), "accepted"),
            (rate("events_routed", ""), "routed"),
            (rate("events_duplicates", ""), "duplicates"),
            unit="cps",
        ),
        graph(
            "Refused events a second",
            "By source and reason; they are in rejected_events.",
            (rate("events_rejected", "source, reason"), "{{source}} {{reason}}"),
            unit="cps",
        ),
        graph(
            "Accepted by source",
            "Events a second.",
            (rate("source_events_accepted", "source"), "{{source}}"),
            unit="cps",
        ),
        graph(
            "In the event log",
            "Events that wait to be routed.",
            ('max(eventrouter_waiting{lane="log"})', "events"),
        ),
    ],
    "Destinations": [
        states(),
        graph(
            "Delivered a second",
            "The warehouse counts records.",
            (rate("deliveries_delivered", "destination", ONE), "{{destination}}"),
            unit="cps",
        ),
        graph(
            "Failures a second",
            "Of a delivery, or of a batch as a whole, that are tried again; by the answer's status.",
            (rate("failures_retried", "destination, status", ONE), "{{destination}} {{status}}"),
            unit="cps",
        ),
        graph("Waiting", "Deliveries.", (f"max by (lane) (eventrouter_waiting{{{LANE}}})", "{{lane}}")),
        graph(
            "Oldest",
            "Age of the oldest delivery that waits.",
            (f"max by (lane) (eventrouter_oldest_seconds{{{LANE}}})", "{{lane}}"),
            unit="s",
        ),
        graph(
            "From routing to delivery",
            "Within so long half of the deliveries arrive, and 99% of them; what waits is not in it.",
            (quantile(0.5), "{{destination}} half"),
            (quantile(0.99), "{{destination}} 99%"),
            unit="s",
        ),
        graph(
            "Limits used",
            "At 100% deliveries become dead letters.",
            (f"max by (destination, limit) (eventrouter_limit_used{{{ONE}}})", "{{destination}} {{limit}}"),
            unit="percentunit",
        ),
        graph(
            "Dead letters a second",
            "By class.",
            (rate("deliveries_dead", "destination, class", ONE), "{{destination}} {{class}}"),
            unit="cps",
        ),
        graph(
            "Filtered a second",
            "Events not meant for it, by reason.",
            (rate("deliveries_filtered", "destination, reason", ONE), "{{destination}} {{reason}}"),
            unit="cps",
        ),
        graph(
            "Parked order keys",
            "Whose first delivery failed by itself.",
            (f"max by (destination) (eventrouter_parked_keys{{{ONE}}})", "{{destination}}"),
        ),
    ],
    "Warehouse and router": [
        graph("Met by the warehouse", "A second.", (rate("warehouse", "what"), "{{what}}"), unit="cps"),
        graph(
            "Turns that came to nothing", "A second, by lane.", (rate("turns_failed", "lane"), "{{lane}}"), unit="cps"
        ),
        graph(
            "Window of duplicates",
            "How far back ids are remembered.",
            ("max(eventrouter_dedup_window_seconds)", "window"),
            unit="s",
        ),
        graph(
            "Memory of the event log's server",
            "In use, and the most.",
            ("max(eventrouter_server_memory_used_bytes)", "used"),
            ("max(eventrouter_server_memory_max_bytes)", "maxmemory"),
            unit="bytes",
        ),
    ],
    "Collectors": [
        graph(
            "Refused requests a second",
            "By instance and code; `unavailable` is 503.",
            (
                "sum by (instance, code) (rate(eventrouter_collector_requests_refused_total[$__rate_interval]))",
                "{{instance}} {{code}}",
            ),
            unit="cps",
        ),
        graph(
            "Spool", "What waits on each collector's disk.", ("eventrouter_spool_bytes", "{{instance}}"), unit="bytes"
        ),
        graph("Oldest in the spool", "Age.", ("eventrouter_spool_oldest_seconds", "{{instance}}"), unit="s"),
        graph(
            "Memory",
            "Of each collector's process.",
            ("process_resident_memory_bytes and on (instance, job) eventrouter_up", "{{instance}}"),
            unit="bytes",
        ),
    ],
}


def placed() -> list[dict[str, Any]]:
    """The panels with their places."""
    panels: list[dict[str, Any]] = []
    x = y = 0
    for title, row in ROWS.items():
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        panels.append({"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": place})
        x, y = 0, y + 1
        for one in row:
            if x + one["gridPos"]["w"] > WIDTH:
                x, y = 0, y + one["gridPos"]["h"]
            panels.append(one | {"gridPos": {"x": x, "y": y, **one["gridPos"]}})
            x += one["gridPos"]["w"]
        y += row[-1]["gridPos"]["h"]
    return [{"id": number, **one} for number, one in enumerate(panels, 1)]


def reference() -> str:
    """The whole file."""
    variables = [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        {
            "name": "destination",
            "label": "Destination",
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": "label_values(eventrouter_destination_state, destination)", "refId": "destination"},
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "current": {"text": "All", "value": "$__all"},
        },
    ]
    dashboard = {
        "uid": "eventrouter",
        "title": "eventrouter",
        "tags": ["eventrouter"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": variables},
        "panels": placed(),
    }
    return json.dumps(dashboard, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
