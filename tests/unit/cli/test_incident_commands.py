"""Incidents on the command line."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from cli import incidents
from cli.incidents import IncidentStateChoice
from cli.lookup import complete_incident
from cli.output import OutputFormat
from services.domain.severity import Severity
from services.manager.core.incident import (
    Correlation,
    CorrelationReason,
    Incident,
    IncidentAlert,
    IncidentHistoryKind,
    IncidentNotificationKind,
)
from services.manager.core.incident_changes import join, open_incident
from services.manager.core.service_changes import ServiceChange, ServiceChangeKind
from tests.fakes.edge import Edge
from tests.unit.cli.commands import Command, error_of
from tocsin.incidents.v1 import incident_pb2

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOSTILE = "\x1b[31mred\x1b[0m [bold]"


@pytest.fixture(autouse=True)
def _without_logs() -> Iterator[None]:
    """Keep the service's log, which runs in this process, out of the command's output."""
    with capture_logs():
        yield


def alert(name: str, service: str) -> IncidentAlert:
    return IncidentAlert(
        id=f"{name}1234567-89ab-7def-8123-456789abcdef",
        rule_name="High error count",
        service=service,
        resource=f"{service} {HOSTILE}",
        severity=Severity.CRITICAL,
        labels={"team": "pay"},
        fire_time=NOW,
    )


@pytest.fixture
def stored(edge: Edge) -> list[Incident]:
    """Two open incidents: of a database with two services, and of mail."""
    whole = open_incident(alert("a", "database"), now=NOW).incident
    for name, service, why in [
        ("b", "shop", Correlation(reason=CorrelationReason.DEPENDENCY, path=("shop", "database"))),
        ("c", "search", Correlation(reason=CorrelationReason.LABELS, labels={"team": "pay"})),
        ("d", "database", Correlation(reason=CorrelationReason.SAME_RESOURCE)),
        ("f", "database", Correlation(reason=CorrelationReason.DEPENDENCY, path=("database",))),
    ]:
        whole = join(whole, alert(name, service), why, now=NOW).incident
    other = open_incident(alert("e", "mail"), now=NOW + timedelta(seconds=1)).incident
    rows = edge.store.tables.incidents
    rows.incidents = {incident.id: (incident, 1) for incident in (whole, other)}
    rows.revision = 1
    entries = open_incident(alert("a", "database"), now=NOW).history
    firing = IncidentNotificationKind.FIRING
    notified = replace(
        entries[0], id="n", kind=IncidentHistoryKind.NOTIFIED, notified_kind=firing, receivers=("slack", "pager")
    )
    rows.history = {entry.id: replace(entry, comment=HOSTILE) for entry in (*entries, notified)}
    return [whole, other]


def test_incidents_are_listed_with_their_cause(tocsin: Command, stored: list[Incident]) -> None:
    done = tocsin("incidents", "list")
    assert done.exit_code == 0, done.output
    header, *rows = [line for line in done.stdout.splitlines() if line.strip("─ ")]
    assert header.split() == ["ID", "State", "Severity", "Title", "Alerts", "Opened", "Assignee"]
    assert [row.split()[0] for row in rows] == [incident.id[:8] for incident in reversed(stored)]
    assert "5/5" in rows[1]
    assert "\x1b" not in done.stdout
    wide = tocsin("incidents", "list", "-o", "wide").stdout
    assert stored[0].id in wide
    assert "database, search, shop" in wide
    listed = json.loads(tocsin("incidents", "list", "--service", "mail", "-o", "json").stdout)
    assert [each["id"] for each in listed] == [stored[1].id]
    assert tocsin("incidents", "list", "--alert", next(iter(stored[1].alerts)), "--state", "open").stdout.count("mail")


def test_an_incident_is_shown_whole(tocsin: Command, stored: list[Incident]) -> None:
    done = tocsin("incidents", "show", stored[0].id[:10])
    assert done.exit_code == 0, done.output
    text = " ".join(done.stdout.split())
    for part in (
        "Alerts 5 open of 5",
        "Services database, search, shop",
        "probable cause; began it",
        "depends: shop → database",
        "same team=pay",
        "same resource",
        "same service",
        "OPENED",
        "NOTIFIED FIRING",
        "slack, pager",
    ):
        assert part in text
    assert "\x1b" not in done.stdout
    found = json.loads(tocsin("incidents", "show", stored[0].id, "-o", "json").stdout)
    assert found["incident"]["causeAlertId"] == stored[0].cause
    assert len(found["alerts"]) == 5


def test_an_incident_is_taken_given_back_and_resolved(tocsin: Command, stored: list[Incident]) -> None:
    name = stored[1].id
    taken = tocsin("incidents", "ack", name, "--actor", "ann", "--for", "2h", "-o", "json")
    assert json.loads(taken.stdout)["acknowledgedUntil"]
    again = tocsin("incidents", "ack", name, "--actor", "bob")
    assert "Nothing changed: it was acknowledged by ann at " in again.stdout
    assert "Acknowledged" in tocsin("incidents", "show", name).stdout
    assert tocsin("incidents", "unack", name).exit_code == 0
    assert "Nothing changed: it was so already." in tocsin("incidents", "unack", name).stdout
    assert " bob" in tocsin("incidents", "assign", name, "bob").stdout
    assert tocsin("incidents", "comment", name, "look at it", "--actor", "ann").exit_code == 0
    assert "RESOLVED" in tocsin("incidents", "resolve", name, "--actor", "ann").stdout
    assert "it was resolved by ann at " in tocsin("incidents", "resolve", name).stdout
    history = json.loads(tocsin("incidents", "show", name, "-o", "json").stdout)["history"]
    assert [entry["kind"] for entry in history][-2:] == ["COMMENTED", "RESOLVED"]
    late = tocsin("incidents", "ack", name, "-o", "json")
    assert late.exit_code == 1
    assert error_of(late)["code"] == "FAILED_PRECONDITION"


def test_incidents_are_merged_and_split(tocsin: Command, stored: list[Incident]) -> None:
    whole, other = stored
    assert "6/6" in tocsin("incidents", "merge", whole.id, other.id).stdout
    assert "Merged into" in tocsin("incidents", "show", other.id).stdout
    done = json.loads(tocsin("incidents", "split", whole.id, *other.alerts, "-o", "json").stdout)
    assert (done["incident"]["alertCount"], done["newIncident"]["alertCount"]) == (5, 1)
    refused = tocsin("incidents", "split", whole.id, "unknown-unknown-unknown-unknown-unknown", "-o", "json")
    assert error_of(refused)["code"] == "FAILED_PRECONDITION"


def test_a_beginning_that_two_incidents_share_is_refused(tocsin: Command, stored: list[Incident], edge: Edge) -> None:
    alike = [replace(incident, id=f"0{incident.id[1:]}") for incident in stored]
    edge.store.tables.incidents.incidents = {incident.id: (incident, 1) for incident in alike}
    refused = tocsin("incidents", "show", "0", "-o", "json")
    assert refused.exit_code == 1
    assert "several incidents" in error_of(refused)["message"]


def test_the_shell_completes_ids(monkeypatch: pytest.MonkeyPatch, stored: list[Incident], edge: Edge) -> None:
    monkeypatch.setenv("TOCSIN_SERVER", edge.address)
    ((name, text),) = complete_incident(stored[0].id[:9])
    assert name == stored[0].id
    assert text.startswith("OPEN High error count: database")
    assert "\x1b" not in text
    monkeypatch.setenv("TOCSIN_SERVER", "127.0.0.1:1")
    assert complete_incident("a") == []


def test_the_states_are_those_of_the_contract() -> None:
    assert list(IncidentStateChoice) == [name for name, number in incident_pb2.Incident.State.items() if number]


def test_incidents_are_listed_by_the_labels_of_their_alerts(tocsin: Command, stored: list[Incident]) -> None:
    listed = json.loads(tocsin("incidents", "list", "--matcher", 'team="pay"', "-o", "json").stdout)
    assert {each["id"] for each in listed} == {incident.id for incident in stored}
    assert json.loads(tocsin("incidents", "list", "--matcher", "team!=pay", "-o", "json").stdout) == []
    assert tocsin("incidents", "list", "--matcher", "team").exit_code == 2


def stop_after(lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C after so many incidents."""
    printed = incidents._print_change
    left = [None] * lines

    def print_change(incident: incident_pb2.Incident, output: OutputFormat) -> None:
        printed(incident, output)
        left.pop()
        if not left:
            raise KeyboardInterrupt

    monkeypatch.setattr(incidents, "_print_change", print_change)


def test_incidents_are_watched_with_a_line_for_each_change(
    tocsin: Command, stored: list[Incident], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(2, monkeypatch)
    done = tocsin("incidents", "watch")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert sorted(line.split()[-1] for line in lines) == sorted(incident.id for incident in stored)
    whole = next(line for line in lines if stored[0].id in line)
    assert "OPEN  CRITICAL  High error count: database" in whole
    assert "alerts 5/5  assignee -" in whole
    assert "\x1b" not in done.stdout


def test_only_the_chosen_incidents_are_watched_also_as_json(
    tocsin: Command, stored: list[Incident], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(1, monkeypatch)
    done = tocsin("incidents", "watch", "--service", "mail", "--severity", "critical", "-o", "json")
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [stored[1].id]


def test_an_incident_shows_the_changes_before_its_alerts(tocsin: Command, stored: list[Incident], edge: Edge) -> None:
    title = "Changes before its alerts fired"
    assert title not in tocsin("incidents", "show", stored[0].id).stdout
    time = NOW - timedelta(minutes=5)
    edge.store.tables.changes["x"] = ServiceChange(
        id="x", service="search", kind=ServiceChangeKind.DEPLOYMENT, version="7.1", time=time, create_time=time
    )
    shown = tocsin("incidents", "show", stored[0].id).stdout
    assert title in shown
    assert "7.1" in shown
    assert title not in tocsin("incidents", "show", stored[1].id).stdout
