"""The alert rules and the dashboard: what they ask for is what the exporter gives."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from ropeway.app.monitor.metrics import Metrics
from tests.unit.app.monitor import recorded

MONITORING = Path(__file__).resolve().parents[4] / "agent" / "monitoring"
RULES = yaml.safe_load((MONITORING / "ropeway.rules.yml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((MONITORING / "ropeway.dashboard.json").read_text(encoding="utf-8"))

ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"]}


@pytest.fixture(scope="module")
def served():
    """Give the names of what is served, with their labels."""
    exposition = Metrics().exposition(recorded.answer(recorded.with_classes())).decode()
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def named(expression):
    return set(re.findall(r"\bropeway_[a-z0-9_]+", expression))


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_asks_for_metrics_that_the_exporter_serves(served, alert):
    names = named(ALERTS[alert]["expr"])
    assert names
    assert names <= served.keys()


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_names_labels_that_its_metrics_have(served, alert):
    rule = ALERTS[alert]
    labels = set.union(*(served[name] for name in named(rule["expr"]))) | {"instance"}
    used = set(re.findall(r"\$labels\.([a-z]+)", json.dumps(rule["annotations"])))
    assert "instance" in used
    assert used <= labels


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_is_wrong_and_what_to_do(alert):
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"].keys() == {"summary", "description"}
    assert all(sentence.endswith(".") for sentence in rule["annotations"].values())


@pytest.mark.parametrize("title", PANELS)
def test_a_panel_asks_for_metrics_that_the_exporter_serves(served, title):
    for target in PANELS[title]["targets"]:
        names = named(target["expr"])
        assert names
        assert names <= served.keys()
        legend = set(re.findall(r"{{([a-z]+)}}", target["legendFormat"]))
        assert legend <= {"instance"}.union(*(served[name] for name in names))


def test_panels_do_not_overlap():
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in PANELS.values())
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_dashboard_reads_whichever_prometheus_is_chosen():
    sources = re.findall(r'"uid": "([^"]*)"', json.dumps(DASHBOARD["panels"]))
    assert set(sources) == {"${datasource}"}


def test_every_alert_has_a_test():
    tests = Path(__file__).resolve().parents[3] / "system" / "ropeway.rules.test.yml"
    cases = yaml.safe_load(tests.read_text(encoding="utf-8"))["tests"]
    fired = {
        case["alertname"]
        for group in cases
        for case in group["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert fired == ALERTS.keys()
