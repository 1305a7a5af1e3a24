"""The tocsin command against a running system."""

import json
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.event_times import at_one_time
from tests.e2e.world import World, wait_until

RULE = {
    "name": "command line rule",
    "type": "CUSTOM",
    "filter": 'service == "command-test"',
    "condition": "count >= 3 && threshold < 5.0",
    "threshold": 3,
    "windowMinutes": 5,
    "severity": "LOW",
    "labels": {"team": "cli"},
}


def test_a_rule_is_created_updated_and_deleted(world: World, tmp_path: Path) -> None:
    file = tmp_path / "rule.yaml"
    file.write_text(yaml.safe_dump(RULE))
    assert world.command("rules", "validate", str(file)).returncode == 0
    done = world.command("rules", "create", str(file), "--output", "json")
    assert done.returncode == 0, done.stderr
    (created,) = json.loads(done.stdout)
    assert created["groupBy"] == ["service"]

    file.write_text(json.dumps({"threshold": 4}))
    updated = json.loads(world.command("rules", "update", created["id"], str(file), "-o", "json").stdout)
    assert (updated["threshold"], updated["name"]) == (4, RULE["name"])
    assert json.loads(world.command("rules", "disable", created["id"], "-o", "json").stdout)["enabled"] is False
    assert json.loads(world.command("rules", "enable", created["id"], "-o", "json").stdout)["enabled"] is True
    assert "command line rule" in world.command("rules", "list").stdout
    assert world.command("rules", "delete", created["id"]).returncode == 0
    deleted = world.command("rules", "get", created["id"])
    assert deleted.returncode == 1
    assert "NOT_FOUND" in deleted.stderr


def test_the_rules_of_a_file_are_applied_by_their_names_and_found_by_them(world: World, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    for threshold, change in ((3, "created"), (3, "unchanged"), (4, "updated")):
        file.write_text(yaml.safe_dump({"rules": [RULE | {"name": "applied rule", "threshold": threshold}]}))
        done = world.command("rules", "apply", str(file), "-o", "json")
        assert [one["change"] for one in json.loads(done.stdout)] == [change], done.stderr
    assert json.loads(world.command("rules", "get", "Applied rule", "-o", "json").stdout)["threshold"] == 4
    assert world.command("rules", "delete", "applied rule").returncode == 0


def test_a_bad_rule_is_refused_with_the_field_and_the_place(world: World, tmp_path: Path) -> None:
    file = tmp_path / "rule.json"
    file.write_text(json.dumps(RULE | {"filter": "servce == 'x'"}))
    done = world.command("rules", "validate", str(file))
    assert done.returncode == 1
    assert "filter" in done.stderr
    assert "column 1" in done.stderr


def test_a_file_without_a_rule_is_wrong_usage(world: World, tmp_path: Path) -> None:
    file = tmp_path / "rule.yaml"
    file.write_text("thresold: 3\n")
    done = world.command("rules", "create", str(file))
    assert done.returncode == 2
    assert "thresold" in done.stderr


def test_an_alert_is_listed_shown_acknowledged_and_resolved(world: World, tmp_path: Path) -> None:
    file = tmp_path / "rule.yaml"
    file.write_text(yaml.safe_dump(RULE | {"name": "command line alert", "filter": 'service == "command-alert"'}))
    assert world.command("rules", "create", str(file)).returncode == 0
    event = {"service": "command-alert", "level": "ERROR", "user": {"tier": "silver"}}
    events = at_one_time([event | {"message": f"broken {number}"} for number in range(4)])
    lines = "".join(json.dumps(one) + "\n" for one in events)

    assert world.command("send", "-", text=lines).returncode == 0
    wait_until(lambda: world.alerts("&resource=command-alert"), what="the alert fires")
    done = world.command("alerts", "list", "--resource", "command-alert", "--state", "firing", "-o", "json")
    (alert,) = json.loads(done.stdout)
    assert alert["labels"] == {"team": "cli"}
    assert {(one["attributes"]["user.tier"], one["traceId"]) for one in alert["samples"]} == {("silver", "")}
    table = world.command("alerts", "show", alert["id"]).stdout
    assert all(text in table for text in ("broken", "user.tier", "silver", "no trace id"))
    acknowledged = world.command("alerts", "ack", alert["id"], "--actor", "ann", "-m", "mine", "-o", "json")
    assert json.loads(acknowledged.stdout)["acknowledgedBy"] == "ann"
    short = alert["id"][:12]
    late = world.command("alerts", "ack", short, "--actor", "bob", "-m", "see ticket 7").stdout
    assert "Already acknowledged by ann at" in late
    resolved = world.command("alerts", "resolve", short, "--actor", "ann", "-o", "json")
    assert json.loads(resolved.stdout)["state"] == "RESOLVED"
    shown = json.loads(world.command("alerts", "show", alert["id"], "-o", "json").stdout)
    kinds = [entry["kind"] for entry in shown["history"] if entry["kind"] not in {"NOTIFIED", "REPEATED"}]
    assert kinds == ["FIRED", "ACKNOWLEDGED", "ACKNOWLEDGED", "RESOLVED"]
    wait_until(
        lambda: (
            [one["kind"] for one in world.deliveries("webhook") if one["alert"] == alert["id"]]
            == ["FIRING", "ACKNOWLEDGED", "RESOLVED"]
        ),
        what="each step is delivered once, in order",
    )
    notified = wait_until(lambda: notified_states(world, short), what="the history has all three deliveries")
    assert notified == ["FIRING", "ACKNOWLEDGED", "RESOLVED"]
    sent = json.loads(world.command("notifications", "list", "--alert", short, "-o", "json").stdout)
    assert {(one["channel"], one["state"], one["recipient"].rpartition(":")[0]) for one in sent} == {
        ("webhook", "DELIVERED", "http://127.0.0.1")
    }
    filters = ["--label", "team=cli", "--service", "command-alert", "--rule", "command line alert", "--since", "1h"]
    assert [one["id"] for one in json.loads(world.command("alerts", "list", *filters, "-o", "json").stdout)] == [
        alert["id"]
    ]
    assert json.loads(world.command("alerts", "list", *filters, "--label", "team=x", "-o", "json").stdout) == []
    explained = json.loads(world.command("explain", short, "-o", "json").stdout)
    assert explained["summary"] == "Notified: webhook."
    steps = [step["kind"] for step in explained["steps"]]
    assert steps[:4] == ["RULE", "EVALUATED", "FIRED", "CORRELATED"]
    assert (steps.count("DELIVERED"), {"NOTIFIED", "ACKNOWLEDGED", "RESOLVED"} <= set(steps)) == (3, True)
    assert world.edge.get(f"/api/alerts/{alert['id']}/explain")["explanation"]["summary"] == explained["summary"]
    assert world.edge.get("/api/reports/notifications?days=2&timeZone=Asia/Kathmandu")["total"]["deliveredCount"] != "0"
    report = json.loads(world.command("report", "alerts", "--days", "2", "-o", "json").stdout)["alerts"]
    assert report["total"]["acknowledgedCount"] >= 1


def notified_states(world: World, alert: str) -> list[str]:
    """The states that the history says somebody was notified of at an address, once there are three."""
    history = json.loads(world.command("alerts", "show", alert, "-o", "json").stdout)["history"]
    states = [one["notifiedState"] for one in history if one["kind"] == "NOTIFIED" and one["recipient"]]
    return states if len(states) == 3 else []


def test_failed_notifications_and_breakers_are_shown(world: World) -> None:
    assert world.command("notifications", "failed").returncode == 0
    breakers = json.loads(world.command("notifications", "breakers", "-o", "json").stdout)
    assert {one["channel"] for one in breakers} >= {"slack", "email", "pagerduty", "webhook"}


def test_a_server_that_does_not_answer_is_reported(world: World) -> None:
    done = world.command("alerts", "list", "--server", "127.0.0.1:1")
    assert done.returncode == 3
    assert "UNAVAILABLE" in done.stderr


def test_the_catalog_is_applied_shown_and_drawn(world: World, tmp_path: Path) -> None:
    file = tmp_path / "catalog.yaml"
    services: list[Any] = [{"name": "e2e shop/web", "owner": "web", "dependsOn": ["e2e-pay"]}, {"name": "e2e-pay"}]
    file.write_text(yaml.safe_dump({"services": services}))
    for change in ("created", "unchanged"):
        done = world.command("catalog", "apply", str(file), "-o", "json")
        assert [one["change"] for one in json.loads(done.stdout)] == [change] * 2, done.stderr
    assert world.command("catalog", "graph", "e2e shop/web").stdout == "e2e shop/web  web\n└── e2e-pay\n"
    status, found = world.request("GET", "/api/catalog/services/e2e%20shop%2Fweb")
    assert (status, found["service"]["dependsOn"]) == (200, ["e2e-pay"])
    status, replaced = world.request("PUT", "/api/catalog/services/e2e-pay", {"tier": "1"})
    assert (status, replaced["service"]["tier"]) == (200, "1")
    status, refused = world.request("PUT", "/api/catalog/services/e2e-pay", {"teir": "1"})
    assert (status, refused["details"][1]["fieldViolations"][0]["field"]) == (400, "teir")
    status, graph = world.request("GET", "/api/catalog/graph?service=e2e-pay&depth=1")
    assert (status, [edge["origin"] for edge in graph["edges"]]) == (200, ["DECLARED"])
    for service in services:
        assert world.command("catalog", "delete", service["name"]).returncode == 0
    assert world.request("DELETE", "/api/catalog/services/e2e-pay")[0] == 404
