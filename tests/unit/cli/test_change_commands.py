"""tocsin changes, and what alerts show of their service."""

import json
from datetime import timedelta

from tests.fakes.clock import FakeClock
from tests.fakes.edge import Edge
from tests.unit.cli.commands import Command, error_of
from tocsin.alerts.v1.alert_pb2 import Alert, RelatedChange, ServiceInfo
from tocsin.changes.v1.service_change_pb2 import ServiceChange

REQUEST = "0195f7a6-0000-7000-8000-000000000000"


def test_a_change_is_recorded_once_and_listed(tocsin: Command, edge: Edge) -> None:
    at = (FakeClock().now() - timedelta(minutes=1)).isoformat()
    full = ("pay", "--version", "1.4.2", "--by", "ci", "--link", "https://ci.example/7", "--at", at)
    for _ in range(2):
        done = tocsin("changes", "record", *full, "--request-id", REQUEST, "-o", "json")
        assert done.exit_code == 0, done.output
    recorded = json.loads(done.stdout)
    assert (recorded["kind"], recorded["version"], recorded["actor"]) == ("DEPLOYMENT", "1.4.2", "ci")
    assert len(edge.store.tables.changes) == 1
    assert tocsin("changes", "record", "ledger", "--kind", "feature-flag").exit_code == 0
    table = tocsin("changes", "list").stdout
    assert all(text in table for text in ("pay", "FEATURE_FLAG", "1.4.2", "https://ci.example/7"))
    found = json.loads(tocsin("changes", "list", "ledger", "--kind", "feature-flag", "-o", "json").stdout)
    assert [change["service"] for change in found] == ["ledger"]
    assert json.loads(tocsin("changes", "list", "--kind", "other", "-o", "json").stdout) == []
    assert recorded["id"] in tocsin("changes", "list", "-o", "wide").stdout


def test_a_wrong_change_is_refused_with_its_field(tocsin: Command) -> None:
    done = tocsin("changes", "record", "pay", "--link", "ftp://x", "-o", "json")
    assert done.exit_code == 1
    assert [detail["field"] for detail in error_of(done)["details"]] == ["link"]
    assert tocsin("changes", "record", "pay", "--at", "yesterday").exit_code == 2
    assert tocsin("changes", "record", "pay", "--kind", "build").exit_code == 2


def test_an_alert_shows_its_service_and_the_changes_before_it(tocsin: Command, edge: Edge) -> None:
    change = ServiceChange(service="ledger", kind=ServiceChange.DEPLOYMENT, version="7.1", actor="ci")
    edge.alerts.append(
        Alert(
            id="0195f7a6-0000-7000-8000-000000000001",
            service_info=ServiceInfo(name="pay", owner="team-pay", tier="1", links={"runbook": "https://wiki.example"}),
            recent_changes=[RelatedChange(change=change, distance=1)],
        )
    )
    shown = tocsin("alerts", "show", edge.alerts[0].id).stdout
    for text in (
        "Owner",
        "team-pay",
        "Link runbook",
        "https://wiki.example",
        "Changes before it fired",
        "ledger",
        "7.1",
    ):
        assert text in shown
    edge.alerts[0].ClearField("recent_changes")
    assert "Changes before it fired" not in tocsin("alerts", "show", edge.alerts[0].id).stdout
