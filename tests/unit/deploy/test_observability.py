"""Prometheus scrapes every service, and the dashboard charts metrics that exist."""

import ast
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml
from opentelemetry.metrics import Meter, Observation

from services.chassis import telemetry
from stack.ports import Ports
from stack.wiring import SERVICES

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
Dashboard: TypeAlias = dict[str, Any]
DASHBOARDS: dict[str, Dashboard] = {
    path.stem: json.loads(path.read_text()) for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
}
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
# Names that users chart already.
KEPT = {"alerts_processed_total", "alerts_deduplicated_total", "notifications_sent_total"}
# Metrics of the Prometheus client and of Envoy, those that the manager observes by name, and Prometheus' own.
OTHERS = {
    "tocsin_manager_alerts_open",
    "tocsin_manager_rules_enabled",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "envoy_http_downstream_rq_xx",
    "envoy_cluster_membership_healthy",
    "envoy_access_logs_open_telemetry_access_log_refusals_logs_dropped",
}


def instruments() -> Iterator[tuple[str, str, str]]:
    """Generate every instrument of the services from their source: kind, name and unit."""
    for path in (ROOT / "services").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr=making), args=[ast.Constant(value=str(name)), *rest]) if (
                    making.startswith("create_") or making == "call_histogram"
                ):
                    named = [each.value for each in node.keywords if each.arg == "unit"]
                    (unit, *_) = [each.value for each in [*rest, *named] if isinstance(each, ast.Constant)] or [""]
                    yield making, name, str(unit)


def make(meter: Meter, making: str, name: str, unit: str) -> None:
    if making == "call_histogram":
        telemetry.call_histogram(name, "", ()).observe(1)
        return
    if making.startswith("create_observable"):
        getattr(meter, making)(name, [lambda _: [Observation(1)]], unit=unit)
        return
    made = getattr(meter, making)(name, unit=unit)
    write = next(getattr(made, verb) for verb in ("add", "record", "set") if hasattr(made, verb))
    write(1)


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """Return the names of the services' instruments in Prometheus."""
    with telemetry.telemetry("test", "1", ""):
        for making, name, unit in set(instruments()):
            make(telemetry.meter("test"), making, name, unit)
        exposed, _ = telemetry.exposition()
    return {re.split(r"[{ ]", line)[0] for line in exposed.decode().splitlines() if not line.startswith("#")}


def panels(dashboard: Dashboard) -> list[Any]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def dashboard_queries(dashboard: Dashboard) -> list[str]:
    """Return the queries of panels, variables and annotations."""
    return [
        *(target["expr"] for panel in panels(dashboard) for target in panel["targets"]),
        *(variable["query"]["query"] for variable in dashboard["templating"]["list"]),
        *(annotation["target"]["expr"] for annotation in dashboard["annotations"]["list"]),
    ]


def charted() -> set[str]:
    expressions = " ".join(query for dashboard in DASHBOARDS.values() for query in dashboard_queries(dashboard))
    # A metric comes before a selector, a range or a closing bracket; labels are in brackets of their own.
    without_labels = re.sub(r"by \([^)]*\)|\{[^}]*\}|\$\w+", "", expressions)
    return set(re.findall(r"[a-z]+(?:_[a-z0-9]+)+(?=[\[\s),])", without_labels))


@pytest.fixture(params=DASHBOARDS)
def dashboard(request: pytest.FixtureRequest) -> Dashboard:
    return DASHBOARDS[request.param]


def test_there_is_an_overview_one_of_each_service_and_one_of_trends() -> None:
    assert DASHBOARDS.keys() == {"tocsin", *(f"tocsin-{name}" for name in SERVICES), "tocsin-trends"}
    assert len({each["title"] for each in DASHBOARDS.values()}) == len(DASHBOARDS)


def test_they_are_as_the_generator_writes_them() -> None:
    command = [sys.executable, str(DEPLOY / "grafana" / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_overview_has_the_figures_that_users_ask_for_first() -> None:
    titles = [panel["title"] for panel in panels(DASHBOARDS["tocsin"])]
    five = ["Alerts a second", "Deduplication", "Delivery success", "Breakers", "Time from alert to notification"]
    assert titles[: len(five)] == five


def test_every_metric_on_the_dashboards_is_exported(exported: set[str]) -> None:
    assert charted() <= exported | OTHERS


def test_metrics_that_users_chart_keep_their_names(exported: set[str]) -> None:
    assert exported >= KEPT
    assert charted() >= KEPT


def test_the_first_observation_of_a_histogram_is_shown(dashboard: Dashboard) -> None:
    # A series begins with it, so that a rate alone never sees it rise.
    for query in dashboard_queries(dashboard):
        if "histogram_quantile" in query:
            assert re.search(r"\((\S+( \S+)?) unless \1 offset (\S+)\) or increase\(\1\[\3\]\)", query), query


def test_an_alerting_rule_sees_the_first_increase_of_a_tenants_counter() -> None:
    groups = yaml.safe_load((DEPLOY / "prometheus_rules.yml").read_text())["groups"]
    queries = [rule["expr"] for group in groups for rule in group["rules"] if "(tenant)" in rule["expr"]]
    assert len(queries) > 1
    for query in queries:
        assert re.search(r"\((\S+) unless \1 offset (\S+)\) or increase\(\1\[\2\]\)", query), query


def test_each_panel_has_a_description_and_none_overlaps_another(dashboard: Dashboard) -> None:
    shown = panels(dashboard)
    places = [(x, y) for panel in shown for x in range(*span(panel, "x", "w")) for y in range(*span(panel, "y", "h"))]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(panel["title"] and panel["description"] and panel["targets"] for panel in shown)
    assert len({panel["title"] for panel in shown}) == len(shown)


def test_every_variable_that_a_query_uses_is_offered_and_each_is_used(dashboard: Dashboard) -> None:
    used = set(re.findall(r"\$([a-z]+)", " ".join(dashboard_queries(dashboard))))
    assert used == {variable["name"] for variable in dashboard["templating"]["list"]}


def test_the_dashboards_use_a_source_that_is_provisioned(dashboard: Dashboard) -> None:
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/tocsin.yaml").read_text())["datasources"]
    using = [*panels(dashboard), *dashboard["templating"]["list"], *dashboard["annotations"]["list"]]
    assert {each["datasource"]["uid"] for each in using} <= {source["uid"] for source in sources}
    for source in sources:
        host = re.fullmatch(r"http://([a-z]+):\d+", source["url"])
        assert host
        assert host[1] in COMPOSE


def test_the_dashboards_are_in_the_folder_that_grafana_reads() -> None:
    (provider,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/tocsin.yaml").read_text())["providers"]
    folder = provider["options"]["path"]
    assert f"./deploy/grafana/dashboards:{folder}:ro" in COMPOSE["grafana"]["volumes"]
    home = COMPOSE["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/tocsin.json"


def test_prometheus_scrapes_every_service_at_its_admin_port() -> None:
    jobs = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    scraped = {(each["names"][0], each["port"]) for job in jobs for each in job["dns_sd_configs"]}
    admin = {
        (service, int(value.rpartition(":")[2]))
        for service, content in COMPOSE.items()
        for name, value in content.get("environment", {}).items()
        if name.endswith("_ADMIN_LISTEN")
    }
    assert scraped == admin | {("api-gateway", 10000)}


def test_prometheus_beside_make_up_scrapes_the_same_jobs_at_the_ports_of_this_machine() -> None:
    jobs = yaml.safe_load((DEPLOY / "prometheus.local.yml").read_text())["scrape_configs"]
    scraped = {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs}
    ports = Ports()
    assert scraped == {
        **{name: [f"127.0.0.1:{getattr(ports, f'{name}_admin')}"] for name in SERVICES},
        "gateway": [f"127.0.0.1:{ports.mesh}"],
    }
    among_containers = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    assert [(job["job_name"], job.get("metrics_path")) for job in jobs] == [
        (job["job_name"], job.get("metrics_path")) for job in among_containers
    ]
    assert 9090 not in dataclasses.asdict(ports).values()


def span(panel: dict[str, Any], start: str, length: str) -> tuple[int, int]:
    place = panel["gridPos"]
    return place[start], place[start] + place[length]
