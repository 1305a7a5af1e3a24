"""Whatever fails in between: every alert is delivered, and delivered once."""

from typing import Any

import pytest

from cli.demo.scenario import EXPECTED_ALERTS, missing_results
from stack.testing import Servers
from tests.e2e.event_times import at_one_time, scenario_batches
from tests.e2e.world import World, never, wait_until

# How long nothing more may arrive after everything expected has arrived.
QUIET = 3.0

# Of severity MEDIUM, which the routes send to Slack only.
ONLY_SLACK = {
    "name": "notified on Slack only",
    "type": "CUSTOM",
    "filter": 'service == "mail-service"',
    "condition": "count > threshold",
    "threshold": 50,
    "windowMinutes": 5,
    "severity": "MEDIUM",
}


def send(world: World, part: list[list[dict[str, object]]]) -> None:
    for batch in part:
        status, answer = world.request("POST", "/api/logs/batch", batch)
        assert (status, answer["acceptedCount"]) == (200, len(batch))


def is_taken(world: World, batch: list[dict[str, object]]) -> bool:
    try:
        status, _ = world.request("POST", "/api/logs/batch", batch)
    except ConnectionError:
        return False
    assert status in {200, 503}
    return status == 200


def exactly_the_expected_alerts(world: World) -> None:
    def all_there() -> bool:
        results = world.results()
        return not missing_results(results.alerts, results.deliveries)

    wait_until(all_there, timeout=60, what="three alerts on all their channels")
    never(lambda: world.results().differences, during=QUIET)
    assert len(world.alerts()) == len(EXPECTED_ALERTS)


def deliveries_of(world: World, alert: str) -> list[dict[str, str]]:
    deliveries = [one for one in world.deliveries() if one["alert"] == alert]
    return [{name: one[name] for name in ("alert", "channel", "kind")} for one in deliveries]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("service", ["evaluator", "manager", "notifier"])
def test_after_a_service_was_killed_each_alert_is_delivered_once(own_world: World, service: str) -> None:
    all_batches = scenario_batches()
    send(own_world, all_batches[:3])
    own_world.system.kill(service)
    send(own_world, all_batches[3:])
    own_world.system.start_one(service)
    exactly_the_expected_alerts(own_world)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("program", ["ingest", "envoy"])
def test_a_killed_ingest_or_envoy_refuses_events_and_keeps_what_it_accepted(own_world: World, program: str) -> None:
    all_batches = scenario_batches()
    send(own_world, all_batches[:3])
    own_world.system.kill(program)
    assert not is_taken(own_world, all_batches[3])
    own_world.system.start_one(program)
    own_world.system.wait_until_reachable()
    send(own_world, all_batches[3:])
    exactly_the_expected_alerts(own_world)


@pytest.mark.timeout(240)
def test_after_postgres_was_killed_each_alert_is_delivered_once(own_world: World, own_servers: Servers) -> None:
    all_batches = scenario_batches()
    send(own_world, all_batches[:3])
    own_servers.kill("postgres")
    # Ingest accepts events, and the evaluator evaluates them.
    send(own_world, all_batches[3:])
    wait_until(lambda: own_world.request("GET", "/api/alerts")[0] == 503, what="queries are refused")
    own_servers.start("postgres")
    own_world.system.wait_until_reachable()
    exactly_the_expected_alerts(own_world)


@pytest.mark.timeout(240)
def test_after_a_kill_just_behind_the_last_event_each_alert_is_delivered_once(own_world: World) -> None:
    send(own_world, scenario_batches())
    services = ("evaluator", "manager", "notifier")
    for service in services:
        own_world.system.kill(service)
    for service in services:
        own_world.system.start_one(service)
    exactly_the_expected_alerts(own_world)


@pytest.mark.timeout(240)
def test_without_redis_the_alerts_are_the_same(own_world: World, own_servers: Servers) -> None:
    all_batches = scenario_batches()
    send(own_world, all_batches[:3])
    own_servers.kill("redis")
    send(own_world, all_batches[3:])
    exactly_the_expected_alerts(own_world)


@pytest.mark.timeout(240)
def test_without_kafka_ingest_refuses_with_a_retry_delay_and_loses_nothing(
    own_world: World, own_servers: Servers
) -> None:
    all_batches = scenario_batches()
    send(own_world, all_batches[:3])
    own_servers.kill("kafka")

    def refusal() -> dict[str, Any] | None:
        status, answer = own_world.request("POST", "/api/logs/batch", all_batches[3])
        return answer if status in {429, 503} else None

    answer = wait_until(refusal, timeout=30, what="a refusal")
    assert any(detail["@type"].endswith("RetryInfo") for detail in answer["details"]), answer
    own_servers.start("kafka")
    wait_until(lambda: own_world.request("GET", "/health")[0] == 200, timeout=60, what="ingest finds Kafka again")
    # The refused events are sent again; with those accepted before they make the alerts fire.
    send(own_world, all_batches[3:])
    exactly_the_expected_alerts(own_world)


@pytest.mark.timeout(240)
def test_a_failing_channel_opens_its_breaker_and_gets_its_deliveries_later(own_world: World) -> None:
    # The default rules' alerts go to e-mail anyway; this rule's go to Slack only, or to its fallback.
    own_world.create_rule(ONLY_SLACK)
    own_world.behave("slack", status=500)
    send(own_world, scenario_batches())
    send(own_world, [at_one_time([{"service": "mail-service", "level": "INFO", "message": "sent"}] * 51)])

    def breaker() -> str:
        breakers = own_world.edge.get("/api/circuit-breakers")["circuitBreakers"]
        return str(next(one["state"] for one in breakers if one["channel"] == "slack"))

    wait_until(lambda: breaker() != "CLOSED", what="Slack's breaker opens")
    failed = wait_until(
        lambda: own_world.edge.get("/api/notifications/failed")["failedNotifications"], what="failures stored"
    )
    assert {one["channel"] for one in failed} == {"slack"}
    assert all(one["status"] in {"PENDING", "RETRYING"} for one in failed)
    (alone,) = wait_until(lambda: own_world.alerts("&severities=MEDIUM"), what="the alert that goes to Slack only")
    fallback = [{"alert": alone["id"], "channel": "email", "kind": "FIRING"}]
    wait_until(lambda: deliveries_of(own_world, alone["id"]) == fallback, what="the fallback delivers")

    own_world.behave("slack")
    expected = len(EXPECTED_ALERTS) + 1
    wait_until(lambda: len(own_world.deliveries("slack")) == expected, timeout=90, what="Slack gets all deliveries")
    wait_until(lambda: breaker() == "CLOSED", what="Slack's breaker closes")
    wait_until(lambda: not own_world.edge.get("/api/notifications/failed")["failedNotifications"], what="nothing waits")
    never(lambda: len(own_world.deliveries("slack")) > len(EXPECTED_ALERTS) + 1, during=QUIET)
