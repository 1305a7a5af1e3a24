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
def test_people_are_notified_once_when_a_silence_ends_and_the_manager_is_killed(own_world: World) -> None:
    rule_id = own_world.create_rule(RULE)
    added = own_world.command(
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
    status, refused = own_world.request("POST", "/api/silences", {"matchers": ["a=~("], "comment": "x", "authr": "y"})
    assert (status, "authr" in json.dumps(refused)) == (400, True)
    status, _ = own_world.request("POST", "/api/silences:preview", {"matchers": [f"service={SERVICE}"]})
    assert status == 200
    events = at_one_time([{"service": SERVICE, "level": "ERROR", "message": "no"}] * 3)
    assert own_world.request("POST", "/api/logs/batch", events)[0] == 200
    (alert,) = wait_until(lambda: own_world.alerts(f"&ruleId={rule_id}"), what="the alert fires")
    assert alert["silencedBy"] == [silence]
    assert "silenced" in own_world.command("alerts", "list").stdout
    never(lambda: deliveries_of(own_world, alert["id"]), during=2.0)
    status, ended = own_world.request("POST", f"/api/silences/{silence}/expire", {})
    assert (status, ended["silence"]["state"]) == (200, "EXPIRED")
    own_world.system.kill("manager")
    own_world.system.start_one("manager")
    notified = [("slack", "FIRING")]
    wait_until(lambda: deliveries_of(own_world, alert["id"]) == notified, what="people are notified")
    never(lambda: deliveries_of(own_world, alert["id"]) != notified, during=3.0)
    assert own_world.request("DELETE", f"/api/alert-rules/{rule_id}")[0] == 200
    whole = [("slack", "FIRING"), ("slack", "RESOLVED")]
    wait_until(lambda: deliveries_of(own_world, alert["id"]) == whole, what="and of the end")
