"""An alert says who owns its service, where the runbook is, and what was deployed before."""

import json
from pathlib import Path

import yaml

from tests.e2e.event_times import at_one_time
from tests.e2e.world import World, wait_until

SERVICE = "catalog-pay"
RUNBOOK = "https://wiki.example/catalog-pay"
RULE = {
    "name": "catalog rule",
    "type": "CUSTOM",
    "filter": f'service == "{SERVICE}"',
    "condition": "count >= 3",
    "threshold": 3,
    "windowMinutes": 5,
    "severity": "LOW",
}


def test_a_notification_names_owner_runbook_and_the_deployment_before(world: World, tmp_path: Path) -> None:
    file = tmp_path / "catalog.yaml"
    entry = {"name": SERVICE, "owner": "team-pay", "links": {"runbook": RUNBOOK}, "dependsOn": ["catalog-ledger"]}
    file.write_text(yaml.safe_dump(entry))
    applied = world.command("catalog", "apply", str(file))
    assert applied.returncode == 0, applied.stderr
    change = {"service": "catalog-ledger", "kind": "DEPLOYMENT", "version": "7.1.3", "actor": "ci"}
    status, recorded = world.request("POST", "/api/changes", change)
    assert (status, recorded["change"]["version"]) == (200, "7.1.3"), recorded
    status, refused = world.request("POST", "/api/changes", change | {"kind": "BUILD"})
    assert (status, refused["details"][1]["fieldViolations"][0]["field"]) == (400, "kind")
    rule = tmp_path / "rule.yaml"
    rule.write_text(yaml.safe_dump(RULE))
    assert world.command("rules", "create", str(rule)).returncode == 0
    events = at_one_time([{"service": SERVICE, "level": "ERROR", "message": f"broken {n}"} for n in range(4)])
    world.command("send", "-", text="".join(json.dumps(one) + "\n" for one in events))
    (alert,) = wait_until(lambda: world.alerts(f"&resource={SERVICE}"), what="the alert fires")
    assert alert["serviceInfo"]["owner"] == "team-pay"
    whole = world.edge.get(f"/api/alerts/{alert['id']}")["alert"]
    assert [(each["change"]["version"], each["distance"]) for each in whole["recentChanges"]] == [("7.1.3", 1)]
    shown = world.command("alerts", "show", alert["id"]).stdout
    assert all(text in shown for text in ("team-pay", RUNBOOK, "7.1.3"))
    (sent,) = wait_until(
        lambda: [one for one in world.deliveries("webhook") if one["alert"] == alert["id"]], what="it is delivered"
    )
    body = json.loads(sent["body"])["alert"] if isinstance(sent["body"], str) else sent["body"]["alert"]
    assert (body["service"]["owner"], body["service"]["links"]) == ("team-pay", {"runbook": RUNBOOK})
    assert [one["version"] for one in body["recentChanges"]] == ["7.1.3"]
    assert world.command("catalog", "delete", SERVICE).returncode == 0
