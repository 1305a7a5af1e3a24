"""A rule whose severity is raised while it fires."""

from tests.e2e.moments import together
from tests.e2e.world import World, until

SERVICE = "severity-service"
RULE = {
    "name": "Severity that is raised",
    "type": "CUSTOM",
    "filter": f'service == "{SERVICE}"',
    "condition": "count > threshold",
    "threshold": 1,
    "windowMinutes": 5,
    "severity": "LOW",
}


def told(world: World, alert: str) -> list[tuple[str, str]]:
    return sorted((one["channel"], one["kind"]) for one in world.deliveries() if one["alert"] == alert)


def edit(world: World, rule_id: str, severity: str) -> None:
    status, _ = world.ask("PATCH", f"/api/alert-rules/{rule_id}", {"severity": severity})
    assert status == 200


def test_the_channels_of_a_raised_severity_hear_at_once_and_once(world: World) -> None:
    rule_id = world.edge.post("/api/alert-rules", RULE)["alertRule"]["id"]
    events = together([{"service": SERVICE, "level": "ERROR", "message": "no"}] * 3)
    status, _ = world.ask("POST", "/api/logs/batch", events)
    assert status == 200

    def open_one(severity: str) -> dict[str, str] | None:
        found = [one for one in world.alerts(f"&ruleId={rule_id}") if one["state"] == "FIRING"]
        return found[0] if [one["severity"] for one in found] == [severity] else None

    low = until(lambda: open_one("LOW"), what="the alert fires")
    until(lambda: told(world, low["id"]) == [("webhook", "FIRING")], what="the channel of LOW hears")
    edit(world, rule_id, "CRITICAL")
    high = until(lambda: open_one("CRITICAL"), what="a CRITICAL alert takes its place")
    heard = [(channel, "FIRING") for channel in ("email", "pagerduty", "slack")]
    until(lambda: told(world, high["id"]) == heard, what="the channels of CRITICAL hear")
    edit(world, rule_id, "MEDIUM")
    lowered = until(lambda: open_one("MEDIUM"), what="the open alert takes the lower severity")
    assert lowered["id"] == high["id"]
    status, _ = world.ask("DELETE", f"/api/alert-rules/{rule_id}")
    assert status == 200
    ends = [(channel, "RESOLVED") for channel in ("email", "pagerduty", "slack")]
    until(lambda: told(world, high["id"]) == sorted(heard + ends), what="its end is told to those who heard of it")
    assert told(world, low["id"]) == [("webhook", "FIRING")]
    (old,) = [one for one in world.alerts(f"&ruleId={rule_id}") if one["id"] == low["id"]]
    assert old["supersededBy"] == high["id"]
