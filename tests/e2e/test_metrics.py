"""The metrics of every service: the names that users chart exist from the start and follow the flow of events."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection
from typing import Any

import confluent_kafka
import pytest
import yaml
from confluent_kafka import OFFSET_BEGINNING, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from cli.demo.scenario import EXPECTED_ALERTS, event_batches, missing_results
from stack.ports import Ports
from stack.servers import Addresses
from stack.testing import isolated_wiring, temporary_system
from stack.wiring import SERVICES
from tests.e2e.event_times import at_one_time
from tests.e2e.prometheus import DEPLOY, Prometheus, running_prometheus
from tests.e2e.world import World, wait_until
from tests.unit.deploy.test_observability import DASHBOARDS, charted, dashboard_queries, panels
from tocsin.alerts.v1.alert_pb2 import AlertTransition

EVENTS = sum(map(len, event_batches()))
DELIVERIES = sum(len(expected.channels) for expected in EXPECTED_ALERTS)
CHANNELS = {"pagerduty", "slack", "email", "webhook"}
PARTITIONS = {"0", "1", "2", "3"}
# One failure opens a breaker, and it stays open; a partition without events is known to be idle after a second.
SETTINGS = {
    "NOTIFIER_BREAKER_FAIL_MAX": "1",
    "NOTIFIER_MAX_ATTEMPTS": "1",
    "NOTIFIER_BREAKER_FIRST_RESET": "10m",
    "NOTIFIER_BREAKER_RESET": "10m",
    "EVALUATOR_IDLE": "1s",
    "MANAGER_COUNT_INTERVAL": "200ms",
}
# There once secrets are masked, which is off by default.
UNLESS_USED = {"tocsin_ingest_values_redacted_total"}
# In every field of an event that can hold a string.
MARK = "content-of-a-log"

Labels = dict[str, str]


def text(port: int, path: str = "/metrics") -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


class ExportedMetrics:
    """One reading of all services' metrics."""

    def __init__(self, world: World) -> None:
        ports = world.system.wiring.ports
        self.texts = {name: text(getattr(ports, f"{name}_admin")) for name in SERVICES}
        self._samples = {
            name: [sample for family in text_string_to_metric_families(shown) for sample in family.samples]
            for name, shown in self.texts.items()
        }

    def series(self, service: str, name: str, **labels: str) -> list[tuple[Labels, float]]:
        return [
            (sample.labels, sample.value)
            for sample in self._samples[service]
            if sample.name == name and labels.items() <= sample.labels.items()
        ]

    def sum(self, service: str, name: str, **labels: str) -> float:
        """Return the sum over the other labels; fail when there is no such series."""
        found = self.series(service, name, **labels)
        assert found, f"{service} does not export {name} {labels}"
        return sum(value for _, value in found)

    def by(self, service: str, name: str, label: str, **labels: str) -> dict[str, float]:
        """Return the sums by one label, as `sum by (label)` does."""
        sums: dict[str, float] = {}
        for each, value in self.series(service, name, **labels):
            sums[each[label]] = sums.get(each[label], 0) + value
        return sums

    def names(self) -> set[str]:
        return {sample.name for samples in self._samples.values() for sample in samples}


@pytest.fixture(scope="module")
def metered(kafka: str, postgres: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    servers, folder = Addresses(kafka=kafka, postgres=postgres, redis=redis_url), tmp_path_factory.mktemp("metered")
    with isolated_wiring(servers) as wiring, temporary_system(wiring, folder, print, settings=SETTINGS) as system:
        yield World(system)


@pytest.fixture(scope="module")
def before(metered: World) -> ExportedMetrics:
    """Give the metrics before any event."""
    return ExportedMetrics(metered)


@pytest.fixture(scope="module")
def after(metered: World, before: ExportedMetrics) -> ExportedMetrics:  # noqa: ARG001 - read first
    """Give the metrics after three alerts have been delivered and their results stored."""

    def is_idle() -> bool:
        flushes = ExportedMetrics(metered).series("evaluator", "tocsin_evaluator_flush_rows_count")
        return any(count for _, count in flushes)

    # Only then is it known that the other partitions have nothing, and event time is that of the events.
    wait_until(is_idle, what="partitions without events known to be idle")
    metered.edge.post("/api/logs/batch", at_one_time([event for batch in event_batches() for event in batch]))

    def is_delivered() -> bool:
        results = metered.results()
        return not missing_results(results.alerts, results.deliveries)

    def settled() -> ExportedMetrics | None:
        exported = ExportedMetrics(metered)
        is_settled = exported.sum("manager", "tocsin_manager_results_total") == DELIVERIES
        ages = exported.series("evaluator", "tocsin_evaluator_watermark_age_seconds")
        return exported if is_settled and len(ages) == len(PARTITIONS) else None

    wait_until(is_delivered, what="three alerts delivered")
    return wait_until(settled, what="results stored and the watermark known")


def test_the_names_that_users_chart_are_there_from_the_start(before: ExportedMetrics) -> None:
    assert before.sum("manager", "alerts_processed_total") == 0
    assert before.sum("manager", "alerts_deduplicated_total") == 0
    assert before.by("notifier", "notifications_sent_total", "status") == {"success": 0, "failure": 0}
    assert before.by("notifier", "notifications_sent_total", "channel", status="failure") == dict.fromkeys(CHANNELS, 0)
    # As they are written in charts, to the letter.
    assert "\nalerts_processed_total 0.0\n" in before.texts["manager"]
    assert "\nalerts_deduplicated_total 0.0\n" in before.texts["manager"]


def test_metrics_exist_before_the_first_event(before: ExportedMetrics) -> None:
    assert before.sum("ingest", "tocsin_ingest_events_accepted_total") == 0
    assert before.sum("evaluator", "events_evaluated_total") == 0
    assert before.sum("evaluator", "late_events_total") == 0
    assert before.by("notifier", "tocsin_notifier_breaker_state", "channel") == dict.fromkeys(CHANNELS, 0)
    assert before.by("notifier", "tocsin_notifier_queue_depth", "channel", state="waiting").keys() == CHANNELS
    assert before.sum("manager", "tocsin_outbox_waiting") == before.sum("notifier", "tocsin_outbox_waiting") == 0


def test_counts_follow_the_flow(after: ExportedMetrics) -> None:
    assert after.sum("ingest", "tocsin_ingest_events_accepted_total") == EVENTS
    assert after.sum("evaluator", "events_evaluated_total") == EVENTS
    assert after.sum("evaluator", "tocsin_evaluator_transitions_total", reason="condition_met") == len(EXPECTED_ALERTS)
    assert after.sum("manager", "alerts_processed_total") == len(EXPECTED_ALERTS)
    assert after.sum("manager", "alerts_deduplicated_total") == 0
    assert after.by("notifier", "notifications_sent_total", "status") == {"success": DELIVERIES, "failure": 0}
    assert after.sum("evaluator", "tocsin_evaluator_groups_firing") == len(EXPECTED_ALERTS)


def test_the_time_from_alert_to_notification_is_a_histogram(after: ExportedMetrics) -> None:
    name = "tocsin_notifier_notification_latency_seconds"
    assert after.sum("notifier", f"{name}_count", kind="FIRING") == DELIVERIES
    assert after.sum("notifier", f"{name}_bucket", le="+Inf") == DELIVERIES
    # It begins when the evaluator decided: no earlier than that, and no later than all deliveries were seen.
    assert 0 < after.sum("notifier", f"{name}_sum") < DELIVERIES * 30
    borders = sorted(float(labels["le"]) for labels, _ in after.series("notifier", f"{name}_bucket", channel="slack"))
    assert borders[0] <= 0.01
    assert borders[-2] >= 30


def test_each_consumer_exports_its_lag_by_partition(after: ExportedMetrics) -> None:
    for service, group in (
        ("evaluator", "alert-rule-engine-group"),
        ("evaluator", "alert-rule-engine-window-group"),
        ("manager", "alert-manager-group"),
        ("manager", "alert-manager-results-group"),
        ("notifier", "notification-service-group"),
    ):
        lags = after.by(service, "tocsin_kafka_consumer_lag", "partition", group=group)
        assert lags.keys() == PARTITIONS, group


def test_the_watermark_is_not_far_behind(after: ExportedMetrics) -> None:
    ages = after.by("evaluator", "tocsin_evaluator_watermark_age_seconds", "partition")
    assert ages.keys() == PARTITIONS
    assert all(-1 < age < 60 for age in ages.values())


@pytest.mark.usefixtures("after")
def test_a_duplicate_firing_is_counted_as_deduplicated(metered: World) -> None:
    processed = ExportedMetrics(metered).sum("manager", "alerts_processed_total")
    publish_again(metered)
    wait_until(
        lambda: ExportedMetrics(metered).sum("manager", "alerts_deduplicated_total") == 1, what="one is deduplicated"
    )
    assert ExportedMetrics(metered).sum("manager", "alerts_processed_total") == processed + 1


def publish_again(world: World) -> None:
    """Publish what the evaluator publishes when a group fires again without a resolution: with another window."""
    wiring = world.system.wiring
    topic = wiring.topic_prefix + "alerts"
    consumer = confluent_kafka.Consumer({"bootstrap.servers": wiring.addresses.kafka, "group.id": "reader"})
    try:
        consumer.assign([TopicPartition(topic, int(each), OFFSET_BEGINNING) for each in PARTITIONS])
        record = wait_until(lambda: consumer.poll(1.0), what="a record of alerts")
    finally:
        consumer.close()
    transition = AlertTransition.FromString(record.value() or b"")
    transition.id = transition.id[::-1]
    for moment in (transition.window.start_time, transition.window.end_time):
        moment.seconds += 300
    producer = confluent_kafka.Producer({"bootstrap.servers": wiring.addresses.kafka})
    producer.produce(topic, transition.SerializeToString(), key=record.key())
    assert producer.flush(10) == 0


@pytest.mark.usefixtures("after")
def test_a_channel_that_fails_shows_in_breaker_failures_and_depth(metered: World) -> None:
    metered.behave("slack", status=500)
    slow = {"service": "breaker-test", "level": "WARN", "message": "slow", "responseTime": 3000}
    metered.edge.post("/api/logs/batch", at_one_time([slow] * 60))

    def shows() -> bool:
        exported = ExportedMetrics(metered)
        return (
            exported.sum("notifier", "tocsin_notifier_breaker_state", channel="slack") == 2
            and exported.sum("notifier", "notifications_sent_total", status="failure", channel="slack") >= 1
            and exported.sum("notifier", "tocsin_notifier_queue_depth", channel="slack", state="failed") >= 1
        )

    wait_until(shows, what="the open breaker, the failure and the queue are exported")


@pytest.mark.usefixtures("after")
def test_no_label_contains_text_of_a_log(metered: World) -> None:
    event = {
        "service": MARK,
        "level": "ERROR",
        "message": MARK,
        "statusCode": 503,
        "responseTime": 9000,
        "host": MARK,
        "attributes": {MARK: MARK},
    }
    odd, bad = event | {"traceId": MARK}, event | {"level": MARK}
    status, answer = metered.request("POST", "/api/logs/batch", at_one_time([*[event] * 120, odd, bad]))
    assert (status, answer["acceptedCount"]) == (200, 121)
    assert metered.request("GET", f"/api/{MARK}")[0] == 404
    assert metered.request("GET", f"/api/alerts/{MARK}")[0] in {400, 404}
    wait_until(lambda: len(metered.alerts(f"&resource={MARK}")) == 3, what="three alerts")
    wait_until(lambda: len(mine(metered)) >= 2, what="somebody is notified")
    shown = [*ExportedMetrics(metered).texts.values(), text(metered.system.wiring.ports.mesh, "/stats/prometheus")]
    assert not [each for each in shown if MARK in each]


def mine(world: World) -> list[dict[str, Any]]:
    ids = {alert["id"] for alert in world.alerts(f"&resource={MARK}")}
    return [each for each in world.deliveries() if each["alert"] in ids]


@pytest.mark.usefixtures("after")
def test_a_rule_is_shown_with_what_all_evaluators_counted(metered: World) -> None:
    def counted() -> dict[str, Any] | None:
        shown = json.loads(metered.command("rules", "show", "Slow responses", "-o", "json").stdout)["statistics"]
        return shown if shown["firedAlertCount"] else None

    statistics = wait_until(counted, what="the evaluator has reported")
    assert statistics["matchedEventCount"] > 50
    assert statistics["lateEventCount"] == 0
    assert statistics["evaluateTime"]


def test_health_and_metrics_are_on_the_same_port(metered: World) -> None:
    for name in SERVICES:
        health = json.loads(text(getattr(metered.system.wiring.ports, f"{name}_admin"), "/health"))
        assert (health["service"], health["status"]) == (name, "SERVING")


@pytest.fixture(scope="module")
def measured(metered: World, after: ExportedMetrics) -> World:  # noqa: ARG001 - read first
    """Give the system once it measures itself: the last tests use it, since canaries are events too."""
    system = metered.system
    system.stop_one("manager")
    settings = {**system.wiring.settings, "MANAGER_CANARY_INTERVAL": "1s"}
    system.wiring = replace(system.wiring, settings=settings)
    system.start_one("manager")
    system.wait_until_reachable()
    # Of what happened before, this process has no histogram.
    failing = {"service": "after-restart", "level": "ERROR", "message": "no", "statusCode": 503}
    metered.edge.post("/api/logs/batch", at_one_time([failing] * 120))
    wait_until(lambda: metered.alerts("&resource=after-restart"), what="an alert after the restart")
    return metered


def test_canaries_are_measured_up_to_the_notifier_and_nobody_learns_of_them(measured: World) -> None:
    name = "tocsin_notifier_canary_latency_seconds"

    def returned() -> ExportedMetrics | None:
        exported = ExportedMetrics(measured)
        return exported if exported.series("notifier", f"{name}_count") else None

    exported = wait_until(returned, what="a canary at the notifier")
    assert 0 < exported.sum("notifier", f"{name}_sum") < 60 * exported.sum("notifier", f"{name}_count")
    assert exported.sum("manager", "tocsin_manager_canaries_total", outcome="accepted") >= 1
    assert not [alert for alert in measured.alerts() if "canary" in json.dumps(alert)]
    assert not [one for one in measured.deliveries() if "canary" in json.dumps(one)]
    rules = measured.edge.get("/api/alert-rules")["alertRules"]
    assert not [rule for rule in rules if "canary" in rule["name"]]


def test_every_metric_on_the_dashboards_is_exported_by_the_running_system(measured: World) -> None:
    # A histogram has no series before its first value; that of canaries has one by now.
    measured.edge.post(f"/api/alerts/{measured.alerts()[0]['id']}/acknowledge", {})
    # Read by hand: the client's parser gives Envoy's counters another name.
    gateway = set(re.findall(r"^(\w+)[{ ]", text(measured.system.wiring.ports.mesh, "/stats/prometheus"), re.MULTILINE))
    assert charted() - UNLESS_USED <= ExportedMetrics(measured).names() | gateway


PROMETHEUS = shutil.which("prometheus")
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None, reason="prometheus is not installed; Debian's package of that name has it"
)
# Nothing of these happens in a system that is well.
MAY_BE_EMPTY = {"Background work that fails", "Prometheus rules that fire"}


@pytest.fixture(scope="module")
def prometheus(measured: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    wiring = measured.system.wiring
    folder = tmp_path_factory.mktemp("prometheus")
    with running_prometheus(str(PROMETHEUS), wiring.ports, Ports.free().edge, folder) as running:
        yield running


def filled_in(query: str) -> str:
    """Return a query as Grafana sends it."""
    return re.sub(r"\$__(rate_interval|range|interval)", "1m", re.sub(r"\$(?!__)[a-z]+", ".*", query))


@needs_prometheus
def test_every_query_of_every_panel_has_a_result(measured: World, prometheus: Prometheus) -> None:
    measured.edge.post(f"/api/alerts/{measured.alerts()[0]['id']}/acknowledge", {})
    # Shares are of what has happened since Prometheus has read twice.
    failing = {"service": "while-scraped", "level": "ERROR", "message": "no", "statusCode": 503}
    measured.edge.post("/api/logs/batch", at_one_time([failing] * 120))
    empty = {
        (uid, panel["title"], target["expr"])
        for uid, dashboard in DASHBOARDS.items()
        for panel in panels(dashboard)
        for target in panel["targets"]
        if panel["title"] not in MAY_BE_EMPTY and not any(name in target["expr"] for name in UNLESS_USED)
    }

    def are_filled() -> bool:
        for each in list(empty):
            if prometheus.query(filled_in(each[2])):
                empty.discard(each)
        return not empty

    try:
        wait_until(are_filled)
    except AssertionError:
        pytest.fail("no result:\n" + "\n".join(map(str, sorted(empty))))


@needs_prometheus
def test_prometheus_takes_every_other_query_and_loads_the_rules(prometheus: Prometheus) -> None:
    for dashboard in DASHBOARDS.values():
        for query in dashboard_queries(dashboard):
            if named := re.fullmatch(r"label_values\((\w+), (\w+)\)", query):
                assert prometheus.ask(f"label/{named[2]}/values", **{"match[]": named[1]}), query
            else:
                prometheus.query(filled_in(query))
    (group,) = prometheus.ask("rules")["groups"]
    expected = yaml.safe_load((DEPLOY / "prometheus_rules.yml").read_text())["groups"][0]["rules"]
    assert [rule["name"] for rule in group["rules"]] == [rule["alert"] for rule in expected]
    wait_until(lambda: all(rule["health"] != "unknown" for rule in prometheus.ask("rules")["groups"][0]["rules"]))
    assert [rule for rule in prometheus.ask("rules")["groups"][0]["rules"] if rule["health"] != "ok"] == []
