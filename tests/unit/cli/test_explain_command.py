"""Explanations on the command line, against the real service on a store in memory."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from services.manager.core.alert import AlertHistoryEntry, AlertHistoryKind
from services.manager.core.alert_changes import open_alert
from services.manager.core.alert_lifecycle import AlertState, AlertStatus
from services.manager.core.incident import Incident, IncidentAlert
from services.manager.core.incident_changes import open_incident
from services.manager.messages.alerts import alert_message
from tests.fakes.edge import Edge
from tests.fakes.transitions import NOW, a_subject, a_transition
from tests.unit.cli.commands import Command

HOSTILE = "x\x1b[2J\u202egnp\r\nFORGED"


@pytest.fixture
def explained(edge: Edge) -> Incident:
    """An incident with one alert, of which a channel took a notification."""
    status = AlertStatus(state=AlertState.FIRING, last_firing=a_transition().evaluation)
    subject = replace(a_subject("shop"), rule_name=HOSTILE, resource=HOSTILE)
    alert = open_alert(subject, "t", status, now=NOW).alert
    edge.store.tables.alerts[alert.id] = alert
    edge.alerts = [alert_message(alert)]
    for n, kind in enumerate((AlertHistoryKind.FIRED, AlertHistoryKind.NOTIFIED)):
        entry = AlertHistoryEntry(
            id=str(n),
            alert_id=alert.id,
            kind=kind,
            create_time=NOW + timedelta(seconds=n),
            channel="slack" if n else "",
        )
        edge.store.tables.history[entry.id] = entry
    member = IncidentAlert(
        id=alert.id,
        rule_name=HOSTILE,
        service="shop",
        resource=HOSTILE,
        severity=subject.severity,
        labels={},
        fire_time=NOW,
    )
    change = open_incident(member, now=NOW)
    rows = edge.store.tables.incidents
    rows.incidents[change.incident.id] = change.incident, 1
    rows.history |= {entry.id: entry for entry in change.history}
    return change.incident


def test_an_alert_is_explained_by_the_beginning_of_its_id(tocsin: Command, explained: Incident) -> None:
    done = tocsin("explain", explained.cause[:8], "-o", "wide")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("Notified: slack.")
    assert "took the notification" in done.stdout
    assert f"incident {explained.id}" in done.stdout
    steps = json.loads(tocsin("explain", explained.cause, "-o", "json").stdout)["steps"]
    assert [step["kind"] for step in steps] == ["RULE", "FIRED", "CORRELATED", "DELIVERED"]


def test_an_incident_is_explained_too(tocsin: Command, explained: Incident) -> None:
    for given in (explained.id, explained.id[:8]):
        steps = json.loads(tocsin("explain", given, "-o", "json").stdout)["steps"]
        assert [step["kind"] for step in steps] == ["RULE", "CORRELATED", "DELIVERED"]


def test_text_from_logs_has_no_effect_on_the_terminal(tocsin: Command, explained: Incident) -> None:
    for form in ("table", "wide"):
        done = tocsin("explain", explained.id, "-o", form)
        assert r"\x1b[2J" in done.stdout
        assert [char for char in done.output if not char.isprintable() and char != "\n"] == []
        assert not any(line.strip().startswith("FORGED") for line in done.stdout.splitlines())


def test_a_beginning_of_several_ids_is_refused_with_what_they_are(
    tocsin: Command, edge: Edge, explained: Incident
) -> None:
    # The alert gets an id that begins as the incident's does.
    edge.alerts[0].id = explained.id[:8] + edge.alerts[0].id[8:]
    done = tocsin("explain", explained.id[:8])
    assert done.exit_code == 1
    assert "alert, FIRING" in done.stderr
    assert "incident, OPEN" in done.stderr


def test_labels_need_the_option(tocsin: Command) -> None:
    done = tocsin("explain", "team=shop", "severity=HIGH")
    assert done.exit_code == 2
    assert "labels need --labels" in done.stderr
    assert "No routing tree was ever set" in tocsin("explain", "--labels", "team=shop", "severity=HIGH").stdout


def test_what_is_neither_is_refused(tocsin: Command) -> None:
    done = tocsin("explain", "0" * 36)
    assert done.exit_code == 1
    assert "NOT_FOUND" in done.stderr


def test_a_beginning_that_no_id_has_is_refused_with_it(tocsin: Command) -> None:
    done = tocsin("explain", "zz")
    assert done.exit_code == 1
    assert 'NOT_FOUND: no alert or incident has an id that begins with "zz"' in " ".join(done.stderr.split())
    refused = tocsin("notifications", "retry", "0000", "-o", "json")
    assert json.loads(refused.stderr)["error"]["code"] == "NOT_FOUND"
