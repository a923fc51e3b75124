"""Pins that prometheus-alerts.yml and grafana-dashboard.json in config/ ask for metrics and labels that there are."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pyproxy.control.pair_view import Known, Transitions, make_view, render
from pyproxy.observe.metrics import Layout, render_ejections, render_overrides
from tests.unit.control.test_pair_view import SPEAKER, STATUS
from tests.unit.observe.test_metrics import LISTENERS, POOLS, rendered

CONFIG = Path(__file__).parents[3] / "config"
GIVEN = {"instance", "job"}  # labels that Prometheus adds to everything that it reads

_METRIC = re.compile(r"\b(pyproxy_[a-z0-9_]+)(\{[^}]*\})?")
_CONDITION = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_USED_LABEL = re.compile(r"\$labels\.(\w+)|\{\{(\w+)\}\}")


@cache
def samples() -> dict[str, dict[str, set[str]]]:
    """What the program writes: of each sample its labels, of each label its values."""
    layout = Layout(LISTENERS, POOLS, 4)
    text = rendered(layout, [0] * layout.size) + render_overrides({"web/web1/state": 1.0})
    transitions = Transitions()
    transitions.count("master", "no advert for 3.6 s")
    text += render_ejections({("web", "web1"): 1}) + render(make_view(Known(SPEAKER, 1.0, STATUS)), transitions, 0)
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


def problems(expression: str, used: str = "") -> list[str]:
    """What an expression asks for that isn't there; ``used`` is text with labels of its result."""
    metrics = _METRIC.findall(expression)
    found = [] if metrics else [f"no metric in {expression}"]
    known = set(GIVEN)
    for name, selector in metrics:
        labels = samples().get(name)
        if labels is None:
            found.append(f"there is no {name}")
            continue
        known |= labels.keys()
        for label, operator, value in _CONDITION.findall(selector):
            if label not in labels.keys() | GIVEN:
                found.append(f"{name} has no label {label}")
            elif operator in ("=", "!=") and label in labels and value not in labels[label]:
                found.append(f"{name} is never {label}={value}")
    grouped = [label.strip() for group in _GROUPING.findall(expression) for label in group.split(",")]
    grouped += [next(filter(None, pair)) for pair in _USED_LABEL.findall(used)]
    return found + [f"no label {label} in {expression}" for label in grouped if label not in known]


def rules() -> list[dict[str, Any]]:
    """All alert rules."""
    groups = yaml.safe_load((CONFIG / "prometheus-alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    content: dict[str, Any] = json.loads((CONFIG / "grafana-dashboard.json").read_text())
    return content


def targets() -> Iterator[tuple[str, str, str]]:
    """Title, expression and legend of all that the dashboard draws."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"], target["legendFormat"]


@pytest.mark.parametrize(
    ("expression", "used", "problem"),
    [
        ("rate(pyproxy_nothing_total[5m])", "", "there is no pyproxy_nothing_total"),
        ('pyproxy_retries_total{code="5xx"}', "", "pyproxy_retries_total has no label code"),
        ('pyproxy_backend_state{state="drained"}', "", "pyproxy_backend_state is never state=drained"),
        ("sum by (pool, le) (pyproxy_backend_up)", "", "no label le in sum by (pool, le) (pyproxy_backend_up)"),
        ("pyproxy_queue_length", "{{ $labels.backend }}", "no label backend in pyproxy_queue_length"),
        ("pyproxy_queue_length", "{{backend}}", "no label backend in pyproxy_queue_length"),
        ("up == 0", "", "no metric in up == 0"),
    ],
)
def test_what_is_not_there_is_found(expression: str, used: str, problem: str) -> None:
    """The tests below would see it."""
    assert problems(expression, used) == [problem]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_there_is(rule: dict[str, Any]) -> None:
    """In its expression and in its texts; it says how bad it is, what it is about, and what to do."""
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert set(rule["annotations"]) == {"summary", "description"}
    assert problems(rule["expr"], "".join(rule["annotations"].values())) == []


def test_each_alert_says_why_its_threshold_is_what_it_is() -> None:
    """In a comment below its name."""
    lines = [line.strip() for line in (CONFIG / "prometheus-alerts.yml").read_text().splitlines()]
    names = [number for number, line in enumerate(lines) if line.startswith("- alert:")]
    assert len(names) == len(rules()) >= 10
    assert [lines[number] for number in names if not lines[number + 1].startswith("# ")] == []


@pytest.mark.parametrize(("title", "expression", "legend"), list(targets()))
def test_the_dashboard_asks_for_what_there_is(title: str, expression: str, legend: str) -> None:
    """In its curves and in their names."""
    asked = re.sub(r"\$__\w+|\$(?=instance|pool)", "", expression)
    assert problems(asked, legend) == [], title


def test_the_dashboard_can_be_loaded_and_read() -> None:
    """Panels have numbers of their own and don't lie on each other, each says what it shows, variables are defined."""
    content = dashboard()
    panels = content["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 10
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["type"] == "row" or panel["description"]
    variables = {item["name"]: item for item in content["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(panels)))
    assert used == set(variables) == {"datasource", "instance", "pool"}
    for name in ("instance", "pool"):
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variables[name]["definition"]).groups()  # type: ignore[union-attr]
        assert problems(metric, f"{{{{{label}}}}}") == []
