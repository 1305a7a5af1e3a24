"""Silenced: nobody is notified. The silence ends: everybody is, once, whoever is killed meanwhile."""

import json

import pytest

from tests.e2e.event_times import at_one_time
from tests.e2e.world import World, never, wait_until

SERVICE = "silenced-service"
RULE = {
    "name": "Silenced for a while",
    "type": "CUSTOM",
    "filter": f'service == "{SERVICE}"',
    "condition": "count > threshold",
    "threshold": 1,
    "windowMinutes": 5,
    "severity": "MEDIUM",
}


def deliveries_of(world: World, alert: str) -> list[tuple[str, str]]:
    return sorted((one["channel"], one["kind"]) for one in world.deliveries() if one["alert"] == alert)


@pytest.mark.timeout(240)
def test_people_are_notified_once_when_a_silence_ends_and_the_manager_is_killed(world: World) -> None:
    rule_id = world.create_rule(RULE)
    added = world.command(
        "silences",
        "add",
        f'service="{SERVICE}", severity!="CRITICAL"',
        "--for",
        "1h",
        "-m",
        "a deployment",
        "-o",
        "json",
    )
    assert added.returncode == 0, added.stderr
    silence = json.loads(added.stdout)["id"]
    status, refused = world.request("POST", "/api/silences", {"matchers": ["a=~("], "comment": "x", "authr": "y"})
    assert (status, "authr" in json.dumps(refused)) == (400, True)
    status, _ = world.request("POST", "/api/silences:preview", {"matchers": [f"service={SERVICE}"]})
    assert status == 200
    events = at_one_time([{"service": SERVICE, "level": "ERROR", "message": "no"}] * 3)
    assert world.request("POST", "/api/logs/batch", events)[0] == 200
    (alert,) = wait_until(lambda: world.alerts(f"&ruleId={rule_id}"), what="the alert fires")
    assert alert["silencedBy"] == [silence]
    assert "silenced" in world.command("alerts", "list").stdout
    never(lambda: deliveries_of(world, alert["id"]), during=2.0)
    status, ended = world.request("POST", f"/api/silences/{silence}/expire", {})
    assert (status, ended["silence"]["state"]) == (200, "EXPIRED")
    world.system.kill("manager")
    world.system.start_one("manager")
    world.system.wait_until_reachable()
    notified = [("slack", "FIRING")]
    wait_until(lambda: deliveries_of(world, alert["id"]) == notified, what="people are notified")
    never(lambda: deliveries_of(world, alert["id"]) != notified, during=3.0)
    assert world.request("DELETE", f"/api/alert-rules/{rule_id}")[0] == 200
    whole = [("slack", "FIRING"), ("slack", "RESOLVED")]
    wait_until(lambda: deliveries_of(world, alert["id"]) == whole, what="and of the end")
