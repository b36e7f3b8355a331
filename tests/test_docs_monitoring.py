"""The dashboard and the alert rules: they ask for metrics and labels that exist, and the docs explain each alert."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from eventrouter.metrics import LAG, OWN, SHARED, SPOOL_COUNTERS, SPOOL_STATE, STATE, WHY, render
from eventrouter.records import DEAD_LETTER_CLASSES
from grafana_reference import PAGE, reference

DOCS = Path(__file__).parent.parent / "docs"
ALERTS = DOCS / "prometheus" / "alerts.yaml"

PROMETHEUS = {"instance", "job"}
"""Labels that Prometheus adds to whatever it reads."""
VALUES = {
    ("destination_stopped", "why"): set(WHY.values()),
    ("processes", "kind"): {"collector", "worker"},
    ("deliveries_dead", "class"): set(DEAD_LETTER_CLASSES),
    ("collector_requests_refused", "code"): {"unavailable"},
    ("waiting", "lane"): {"log", "warehouse"},
    ("oldest_seconds", "lane"): {"log", "warehouse"},
}
"""The values that labels may be compared with."""
LABELS = (
    {
        f"eventrouter_{one.name}{suffix}": set(one.labels)
        for families, suffix in (((*STATE, *SPOOL_STATE), ""), ((*SHARED, *OWN, *SPOOL_COUNTERS), "_total"))
        for one in families
    }
    | {f"eventrouter_{LAG.name}_bucket": {*LAG.labels, "le"}}
    | {family.name: set() for family in text_string_to_metric_families(render(None).decode())}
)


def rules() -> list[dict[str, Any]]:
    [group] = YAML(typ="safe").load(ALERTS)["groups"]
    return group["rules"]


def expressions() -> Iterator[tuple[str, str]]:
    """Where each expression stands, and its text, with values in the place of Grafana's variables."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in json.loads(PAGE.read_text())["panels"]:
        for target in panel.get("targets", []):
            text = target["expr"].replace("$__rate_interval", "1m").replace("$destination", ".*")
            yield f"{panel['title']} {target['refId']}", text


def parts(text: str) -> list[Any]:
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(text), lambda part: found.append(part) or True)
    return found


EXPRESSIONS = [pytest.param(text, id=name) for name, text in expressions()]


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_an_expression_asks_for_metrics_that_there_are(text):
    names = {part.name for part in parts(text) if isinstance(part, promql_parser.VectorSelector)}
    assert names - LABELS.keys() == set()
    assert names != set()


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_an_expression_compares_labels_that_the_metric_has_with_values_that_they_have(text):
    for part in parts(text):
        if isinstance(part, promql_parser.VectorSelector):
            for matcher in part.matchers.matchers:
                assert matcher.name in LABELS[part.name] | PROMETHEUS
                known = VALUES.get((part.name.removeprefix("eventrouter_").removesuffix("_total"), matcher.name))
                if known is not None and matcher.value != ".*":
                    assert set(matcher.value.split("|")) - known == set()


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_an_expression_groups_by_labels_that_there_are(text):
    for part in parts(text):
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
            inner = [one for one in parts(part.expr.prettify()) if isinstance(one, promql_parser.VectorSelector)]
            made = set(re.findall(r'label_replace\(.*?, "(\w+)"', part.expr.prettify(), re.DOTALL))
            known = set.union(*(LABELS[one.name] for one in inner)) | PROMETHEUS | made
            assert set(part.modifier.labels) - known == set()


def test_the_dashboard_is_current():
    assert reference() == PAGE.read_text("utf-8"), "run: python tests/grafana_reference.py"


def test_panels_of_the_dashboard_do_not_overlap():
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(PAGE.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert (cells & taken, place["x"] + place["w"] <= 24) == (set(), True)
        taken |= cells


def test_each_alert_says_what_is_the_matter_and_how_urgent_it_is():
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("page", "warn")
        assert rule["annotations"]["summary"]


def test_placeholders_of_a_summary_are_labels_of_its_expression():
    for rule in rules():
        wanted = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        outer = promql_parser.parse(rule["expr"])
        while isinstance(outer, promql_parser.BinaryExpr):
            outer = outer.lhs
        if isinstance(outer, promql_parser.Call):
            outer = outer.args[-1]
        if isinstance(outer, promql_parser.AggregateExpr):
            there = set(outer.modifier.labels) if outer.modifier else set()
        else:
            there = PROMETHEUS
        assert wanted - there == set(), rule["alert"]


def test_the_docs_say_of_each_alert_what_it_means_and_what_to_do():
    page = (DOCS / "operations.md").read_text("utf-8")
    rows = re.findall(r"^\| `(Eventrouter\w+)` \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    assert [name for name, *_ in rows] == [rule["alert"] for rule in rules()]
    assert all(means.strip() and do.strip() for _, means, do in rows)


def test_metrics_that_the_docs_name_are_there():
    names = re.findall(r"`(eventrouter_[a-z_]+)[`{ ]", (DOCS / "operations.md").read_text("utf-8"))
    assert [name for name in names if not {name, f"{name}_total"} & LABELS.keys()] == []
