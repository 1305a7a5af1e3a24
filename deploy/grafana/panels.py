"""The form of a dashboard: panels with queries, laid out row by row, as Grafana's JSON."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_SOURCE = {"type": "prometheus", "uid": "prometheus"}
_WIDTH, _HEIGHT = 24, 8
# The values of a breaker's state.
BREAKER_STATES = (("0", "closed", "green"), ("1", "half open", "yellow"), ("2", "open", "red"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel; each query has the name of what it shows."""

    title: str
    description: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    is_stat: bool = False
    states: Sequence[tuple[str, str, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """What a reader can choose: a label's values."""

    name: str
    label: str
    query: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels that stand side by side, under a title."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """A dashboard, and the time that it shows."""

    uid: str
    title: str
    rows: Sequence[Row]
    since: str = "15m"
    refresh: str = "5s"
    annotations: Sequence[dict[str, Any]] = field(default_factory=tuple)


def quantile(share: float, histogram: str, by: str = "le", span: str = "$__rate_interval") -> str:
    """Return the query for a quantile that also shows a series' first observation, which a rate never sees."""
    name, _, selector = histogram.partition("{")
    series = f"{name}_bucket" + (f"{{{selector}" if selector else "")
    first = f"({series} unless {series} offset {span})"
    return f"histogram_quantile({share}, sum by ({by}) ({first} or increase({series}[{span}])))"


def quantiles(histogram: str, span: str = "$__rate_interval") -> list[tuple[str, str]]:
    """Return the queries for p50 and p99."""
    return [(quantile(share, histogram, span=span), f"p{share * 100:.0f}") for share in (0.5, 0.99)]


def write(dashboard: Dashboard, variables: Sequence[Variable]) -> str:
    """Return the dashboard as JSON, a line for each panel; of the variables those that it uses."""
    panels = _laid_out(dashboard.rows)
    text = json.dumps([panels, dashboard.annotations])
    used = [each for each in variables if re.search(rf"\${each.name}\b", text)]
    head = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["tocsin"],
        "timezone": "browser",
        "schemaVersion": 41,
        "version": 1,
        "editable": False,
        "refresh": dashboard.refresh,
        "time": {"from": f"now-{dashboard.since}", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["tocsin"], "asDropdown": True, "title": "Tocsin", "keepTime": True}],
        "annotations": {"list": list(dashboard.annotations)},
        "templating": {"list": [_variable(each) for each in used]},
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    joined = ",\n".join(f"    {json.dumps(panel)}" for panel in panels)
    return "{\n" + ",\n".join([*lines, f'  "panels": [\n{joined}\n  ]']) + "\n}\n"


def annotation(name: str, expression: str, title: str) -> dict[str, Any]:
    """Return marks in all charts where a query has a value."""
    target = {"refId": "A", "expr": expression, "interval": "15s"}
    return {
        "name": name,
        "enable": True,
        "iconColor": "red",
        "datasource": _SOURCE,
        "target": target,
        "titleFormat": title,
        "tagKeys": "severity",
    }


def _laid_out(rows: Sequence[Row]) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        place = {"h": 1, "w": _WIDTH, "x": 0, "y": top}
        panels.append({"type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []})
        width = _WIDTH // len(row.panels)
        for number, panel in enumerate(row.panels):
            place = {"h": _HEIGHT, "w": width, "x": number * width, "y": top + 1}
            panels.append(_panel(panel) | {"gridPos": place})
        top += 1 + _HEIGHT
    return [{"id": number, **panel} for number, panel in enumerate(panels, start=1)]


def _panel(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.states:
        options = {
            value: {"text": text, "color": color, "index": number}
            for number, (value, text, color) in enumerate(panel.states)
        }
        defaults["mappings"] = [{"type": "value", "options": options}]
    shown: dict[str, Any] = {"type": "stat"}
    if not panel.is_stat:
        defaults["custom"] = {"fillOpacity": 8, "showPoints": "never"}
        legend = {"displayMode": "list", "placement": "bottom"}
        shown = {"type": "timeseries", "options": {"legend": legend, "tooltip": {"mode": "multi"}}}
    targets = [
        {"refId": chr(ord("A") + number), "expr": expression, "legendFormat": name, "datasource": _SOURCE}
        for number, (expression, name) in enumerate(panel.queries)
    ]
    return {
        **shown,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": targets,
    }


def _variable(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": variable.query, "refId": variable.name},
        "definition": variable.query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "options": [],
    }
