"""Whatever breaks in the middle: every alert comes, and comes once."""

import pytest

from cli.demo.scenario import EXPECTED_ALERTS, missing_results
from stack.testing import Servers
from tests.e2e.moments import trouble
from tests.e2e.world import World, never, until

# How long nothing more may come after all that was expected has come.
QUIET = 3.0

# Of severity MEDIUM, which the routes send to Slack only.
ONLY_SLACK = {
    "name": "told on Slack only",
    "type": "CUSTOM",
    "filter": 'service == "search-service"',
    "condition": "count > threshold",
    "threshold": 50,
    "windowMinutes": 5,
    "severity": "MEDIUM",
}


def send(world: World, part: list[list[dict[str, object]]]) -> None:
    for batch in part:
        status, answer = world.ask("POST", "/api/logs/batch", batch)
        assert (status, answer["acceptedCount"]) == (200, len(batch))


def is_taken(world: World, batch: list[dict[str, object]]) -> bool:
    try:
        status, _ = world.ask("POST", "/api/logs/batch", batch)
    except ConnectionError:
        return False
    assert status in {200, 503}
    return status == 200


def exactly_the_expected_alerts(world: World) -> None:
    def all_there() -> bool:
        seen = world.seen()
        return not missing_results(seen.alerts, seen.deliveries)

    until(all_there, within=60, what="three alerts on all their channels")
    never(lambda: world.seen().differences, during=QUIET)
    assert len(world.alerts()) == len(EXPECTED_ALERTS)


def deliveries_of(world: World, alert: str) -> list[dict[str, str]]:
    deliveries = [one for one in world.deliveries() if one["alert"] == alert]
    return [{name: one[name] for name in ("alert", "channel", "kind")} for one in deliveries]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("service", ["evaluator", "manager", "notifier"])
def test_a_killed_service_costs_no_alert_and_doubles_none(own_world: World, service: str) -> None:
    all_batches = trouble()
    send(own_world, all_batches[:3])
    own_world.system.kill(service)
    send(own_world, all_batches[3:])
    own_world.system.start_one(service)
    exactly_the_expected_alerts(own_world)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("program", ["ingest", "envoy"])
def test_a_killed_door_takes_nothing_and_keeps_what_it_took(own_world: World, program: str) -> None:
    all_batches = trouble()
    send(own_world, all_batches[:3])
    own_world.system.kill(program)
    assert not is_taken(own_world, all_batches[3])
    own_world.system.start_one(program)
    own_world.system.wait_until_reachable()
    send(own_world, all_batches[3:])
    exactly_the_expected_alerts(own_world)


@pytest.mark.timeout(240)
def test_a_killed_postgres_costs_no_alert_and_doubles_none(own_world: World, own_servers: Servers) -> None:
    all_batches = trouble()
    send(own_world, all_batches[:3])
    own_servers.kill("postgres")
    # Taking events and judging them goes on.
    send(own_world, all_batches[3:])
    until(lambda: own_world.ask("GET", "/api/alerts")[0] == 503, what="questions are refused")
    own_servers.start("postgres")
    own_world.system.wait_until_reachable()
    exactly_the_expected_alerts(own_world)


@pytest.mark.timeout(240)
def test_services_killed_just_after_the_last_event_cost_no_alert_and_double_none(own_world: World) -> None:
    send(own_world, trouble())
    services = ("evaluator", "manager", "notifier")
    for service in services:
        own_world.system.kill(service)
    for service in services:
        own_world.system.start_one(service)
    exactly_the_expected_alerts(own_world)


@pytest.mark.timeout(240)
def test_without_redis_the_alerts_are_the_same(own_world: World, own_servers: Servers) -> None:
    all_batches = trouble()
    send(own_world, all_batches[:3])
    own_servers.kill("redis")
    send(own_world, all_batches[3:])
    exactly_the_expected_alerts(own_world)


@pytest.mark.timeout(240)
def test_without_kafka_ingest_refuses_with_a_retry_hint_and_keeps_its_word(
    own_world: World, own_servers: Servers
) -> None:
    all_batches = trouble()
    send(own_world, all_batches[:3])
    own_servers.kill("kafka")

    def refusal() -> object:
        status, answer = own_world.ask("POST", "/api/logs/batch", all_batches[3])
        return answer if status in {429, 503} else None

    answer = until(refusal, within=30, what="a refusal")
    assert any(detail["@type"].endswith("RetryInfo") for detail in answer["details"]), answer
    own_servers.start("kafka")
    until(lambda: own_world.ask("GET", "/health")[0] == 200, within=60, what="ingest finds Kafka again")
    # What was refused is sent again, and together with what had been accepted before it makes the alerts.
    send(own_world, all_batches[3:])
    exactly_the_expected_alerts(own_world)


@pytest.mark.timeout(240)
def test_a_channel_that_fails_opens_its_breaker_and_is_made_up_for(own_world: World) -> None:
    # The default rules' alerts tell e-mail anyway; one of this rule is told on Slack alone, or by its stand-in.
    status, _ = own_world.ask("POST", "/api/alert-rules", ONLY_SLACK)
    assert status == 200
    own_world.behave("slack", status=500)
    send(own_world, trouble())

    def breaker() -> str:
        breakers = own_world.edge.get("/api/circuit-breakers")["circuitBreakers"]
        return str(next(one["state"] for one in breakers if one["channel"] == "slack"))

    until(lambda: breaker() != "CLOSED", what="Slack's breaker opens")
    failed = until(
        lambda: own_world.edge.get("/api/notifications/failed")["failedNotifications"], what="failures stored"
    )
    assert {one["channel"] for one in failed} == {"slack"}
    assert all(one["status"] in {"PENDING", "RETRYING"} for one in failed)
    (alone,) = until(lambda: own_world.alerts("&severities=MEDIUM"), what="the alert that only Slack would tell")
    told = [{"alert": alone["id"], "channel": "email", "kind": "FIRING"}]
    until(lambda: deliveries_of(own_world, alone["id"]) == told, what="the fallback delivers")

    own_world.behave("slack")
    expected = len(EXPECTED_ALERTS) + 1
    until(lambda: len(own_world.deliveries("slack")) == expected, within=90, what="Slack is told after all")
    until(lambda: breaker() == "CLOSED", what="Slack's breaker closes")
    until(lambda: not own_world.edge.get("/api/notifications/failed")["failedNotifications"], what="nothing waits")
    never(lambda: len(own_world.deliveries("slack")) > len(EXPECTED_ALERTS) + 1, during=QUIET)
