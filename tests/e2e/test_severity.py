"""A rule whose severity is raised while it fires."""

from tests.e2e.event_times import at_one_time
from tests.e2e.world import World, wait_until

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


def deliveries_of(world: World, alert: str) -> list[tuple[str, str]]:
    return sorted((one["channel"], one["kind"]) for one in world.deliveries() if one["alert"] == alert)


def edit(world: World, rule_id: str, severity: str) -> None:
    status, _ = world.request("PATCH", f"/api/alert-rules/{rule_id}", {"severity": severity})
    assert status == 200


def test_the_channels_of_a_raised_severity_are_notified_at_once_and_once(world: World) -> None:
    rule_id = world.create_rule(RULE)
    events = at_one_time([{"service": SERVICE, "level": "ERROR", "message": "no"}] * 3)
    status, _ = world.request("POST", "/api/logs/batch", events)
    assert status == 200

    def open_one(severity: str) -> dict[str, str] | None:
        found = [one for one in world.alerts(f"&ruleId={rule_id}") if one["state"] == "FIRING"]
        return found[0] if [one["severity"] for one in found] == [severity] else None

    low = wait_until(lambda: open_one("LOW"), what="the alert fires")
    wait_until(
        lambda: deliveries_of(world, low["id"]) == [("webhook", "FIRING")], what="the channel of LOW is notified"
    )
    edit(world, rule_id, "CRITICAL")
    high = wait_until(lambda: open_one("CRITICAL"), what="a CRITICAL alert takes its place")
    channels = ("email", "pagerduty", "slack")
    # It is of the same incident, so the channel of LOW is notified too.
    notified = [*((channel, "FIRING") for channel in channels), ("webhook", "UPDATED")]
    wait_until(lambda: deliveries_of(world, high["id"]) == notified, what="the channels of CRITICAL are notified")
    edit(world, rule_id, "MEDIUM")
    lowered = wait_until(lambda: open_one("MEDIUM"), what="the open alert takes the lower severity")
    assert lowered["id"] == high["id"]
    status, _ = world.request("DELETE", f"/api/alert-rules/{rule_id}")
    assert status == 200
    ends = [(channel, "RESOLVED") for channel in (*channels, "webhook")]
    wait_until(
        lambda: deliveries_of(world, high["id"]) == sorted(notified + ends),
        what="those who were notified get the resolution",
    )
    assert deliveries_of(world, low["id"]) == [("webhook", "FIRING")]
    (old,) = [one for one in world.alerts(f"&ruleId={rule_id}") if one["id"] == low["id"]]
    assert old["supersededBy"] == high["id"]
