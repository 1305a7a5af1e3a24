"""Whatever fails in between: every alert is delivered, and delivered once.

One system of its own, with its servers, is broken by one test after the other, and whole again before each.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from cli.demo.scenario import EXPECTED_ALERTS
from stack.servers import SERVERS
from stack.testing import Servers, isolated_wiring, temporary_system
from stack.wiring import SERVICES
from tests.e2e.event_times import at_one_time
from tests.e2e.scenario import Scenario
from tests.e2e.world import World, never, wait_until

# How long nothing more may arrive after everything expected has arrived.
QUIET = 3.0

# The longest that a breaker stays open, which doubles while a channel fails.
SETTINGS = {"NOTIFIER_BREAKER_RESET": "5s"}

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


@dataclass(frozen=True)
class Breakable:
    """A system, and the servers that it alone uses."""

    world: World
    servers: Servers

    def mend(self) -> None:
        """Start what a test left dead, and return when calls reach every service."""
        self.servers.start(*SERVERS)
        for program in ("envoy", *SERVICES):
            self.world.system.start_one(program)
        self.world.system.wait_until_reachable()

    def doubled(self) -> list[tuple[str, str, str]]:
        """Return what a channel took twice, of all tests so far."""
        taken = Counter((one["alert"], one["channel"], one["kind"]) for one in self.world.deliveries())
        return [delivery for delivery, times in taken.items() if times > 1]


@pytest.fixture(scope="module")
def breakable(own_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Breakable]:
    own_servers.start(*SERVERS)
    folder = tmp_path_factory.mktemp("system")
    with (
        isolated_wiring(own_servers.addresses) as wiring,
        temporary_system(wiring, folder, print, settings=SETTINGS) as system,
    ):
        breakable = Breakable(World(system), own_servers)
        yield breakable
        # What comes twice may come later than the test that caused it is over.
        breakable.mend()
        never(breakable.doubled, during=QUIET)


@pytest.fixture
def world(breakable: Breakable) -> World:
    breakable.mend()
    return breakable.world


@pytest.fixture
def scenario(world: World) -> Scenario:
    return Scenario(world)


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


def exactly_the_expected_alerts(scenario: Scenario) -> None:
    wait_until(scenario.is_delivered, timeout=60, what="three alerts on all their channels")
    assert not scenario.results().differences
    assert len(scenario.new_alerts()) == len(EXPECTED_ALERTS)


def deliveries_of(world: World, alert: str) -> list[dict[str, str]]:
    deliveries = [one for one in world.deliveries() if one["alert"] == alert]
    return [{name: one[name] for name in ("alert", "channel", "kind")} for one in deliveries]


def taken_by_slack(world: World) -> set[str]:
    """Return the alerts of which Slack was notified that they fire."""
    return {one["alert"] for one in world.deliveries("slack") if one["kind"] == "FIRING"}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("service", ["evaluator", "manager", "notifier"])
def test_after_a_service_was_killed_each_alert_is_delivered_once(
    world: World, scenario: Scenario, service: str
) -> None:
    send(world, scenario.batches[:3])
    world.system.kill(service)
    send(world, scenario.batches[3:])
    world.system.start_one(service)
    exactly_the_expected_alerts(scenario)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("program", ["ingest", "envoy"])
def test_a_killed_ingest_or_envoy_refuses_events_and_keeps_what_it_accepted(
    world: World, scenario: Scenario, program: str
) -> None:
    send(world, scenario.batches[:3])
    world.system.kill(program)
    assert not is_taken(world, scenario.batches[3])
    world.system.start_one(program)
    world.system.wait_until_reachable()
    send(world, scenario.batches[3:])
    exactly_the_expected_alerts(scenario)


@pytest.mark.timeout(240)
def test_after_postgres_was_killed_each_alert_is_delivered_once(
    world: World, scenario: Scenario, own_servers: Servers
) -> None:
    send(world, scenario.batches[:3])
    own_servers.kill("postgres")
    # Ingest accepts events, and the evaluator evaluates them.
    send(world, scenario.batches[3:])
    wait_until(lambda: world.request("GET", "/api/alerts")[0] == 503, what="queries are refused")
    own_servers.start("postgres")
    world.system.wait_until_reachable()
    exactly_the_expected_alerts(scenario)


@pytest.mark.timeout(240)
def test_after_a_kill_just_behind_the_last_event_each_alert_is_delivered_once(world: World, scenario: Scenario) -> None:
    send(world, scenario.batches)
    services = ("evaluator", "manager", "notifier")
    for service in services:
        world.system.kill(service)
    for service in services:
        world.system.start_one(service)
    exactly_the_expected_alerts(scenario)


@pytest.mark.timeout(240)
def test_without_redis_the_alerts_are_the_same(world: World, scenario: Scenario, own_servers: Servers) -> None:
    send(world, scenario.batches[:3])
    own_servers.kill("redis")
    send(world, scenario.batches[3:])
    exactly_the_expected_alerts(scenario)


@pytest.mark.timeout(240)
def test_without_kafka_ingest_refuses_with_a_retry_delay_and_loses_nothing(
    world: World, scenario: Scenario, own_servers: Servers
) -> None:
    send(world, scenario.batches[:3])
    own_servers.kill("kafka")

    def refusal() -> dict[str, Any] | None:
        status, answer = world.request("POST", "/api/logs/batch", scenario.batches[3])
        return answer if status in {429, 503} else None

    answer = wait_until(refusal, timeout=30, what="a refusal")
    assert any(detail["@type"].endswith("RetryInfo") for detail in answer["details"]), answer
    own_servers.start("kafka")
    wait_until(lambda: world.request("GET", "/health")[0] == 200, timeout=60, what="ingest finds Kafka again")
    # The refused events are sent again; with those accepted before they make the alerts fire.
    send(world, scenario.batches[3:])
    exactly_the_expected_alerts(scenario)


@pytest.mark.timeout(240)
def test_a_failing_channel_opens_its_breaker_and_gets_its_deliveries_later(
    breakable: Breakable, world: World, scenario: Scenario
) -> None:
    # The default rules' alerts go to e-mail anyway; this rule's go to Slack only, or to its fallback.
    world.create_rule(ONLY_SLACK)
    world.behave("slack", status=500)
    send(world, scenario.batches)
    send(world, [at_one_time([{"service": "mail-service", "level": "INFO", "message": "sent"}] * 51)])

    def breaker() -> str:
        breakers = world.edge.get("/api/circuit-breakers")["circuitBreakers"]
        return str(next(one["state"] for one in breakers if one["channel"] == "slack"))

    wait_until(lambda: breaker() != "CLOSED", what="Slack's breaker opens")
    failed = wait_until(
        lambda: world.edge.get("/api/notifications/failed")["failedNotifications"], what="failures stored"
    )
    assert {one["channel"] for one in failed} == {"slack"}
    assert all(one["status"] in {"PENDING", "RETRYING"} for one in failed)
    (alone,) = wait_until(lambda: world.alerts("&severities=MEDIUM"), what="the alert that goes to Slack only")
    fallback = [{"alert": alone["id"], "channel": "email", "kind": "FIRING"}]
    wait_until(lambda: deliveries_of(world, alone["id"]) == fallback, what="the fallback delivers")

    world.behave("slack")
    expected = {alone["id"], *(alert["id"] for alert in scenario.alerts())}
    wait_until(lambda: expected <= taken_by_slack(world), timeout=90, what="Slack gets all deliveries")
    wait_until(lambda: breaker() == "CLOSED", what="Slack's breaker closes")
    wait_until(lambda: not world.edge.get("/api/notifications/failed")["failedNotifications"], what="nothing waits")
    assert not breakable.doubled()
