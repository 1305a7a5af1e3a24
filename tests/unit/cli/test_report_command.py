"""Reports on the command line, against the real service on a store in memory."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from cli import reports
from cli.reports import format_span
from services.contract.timestamps import duration_of
from services.manager.core.alert import AlertHistoryEntry, AlertHistoryKind
from services.manager.core.alert_changes import open_alert
from services.manager.core.alert_lifecycle import AlertState, AlertStatus
from services.manager.core.incident import Incident, IncidentAlert, IncidentState
from tests.fakes.edge import Edge
from tests.fakes.transitions import a_subject, a_transition
from tests.unit.cli.commands import Command

HOSTILE = "x\x1b[2J\u202egnp\r\nFORGED"


@pytest.fixture
def busy(edge: Edge) -> Edge:
    """An edge whose store has alerts, an incident and notifications of yesterday."""
    fired = edge.clock.now() - timedelta(days=1)
    for n in range(4):
        status = AlertStatus(state=AlertState.RESOLVED, last_firing=a_transition().evaluation)
        subject = replace(a_subject("shop"), rule_name=HOSTILE, resource=HOSTILE, labels={"service": HOSTILE})
        alert = replace(open_alert(subject, str(n), status, now=fired).alert, fire_time=fired)
        taken = fired + timedelta(seconds=90) if n == 0 else None
        alert = replace(alert, resolve_time=fired + timedelta(hours=1), acknowledge_time=taken)
        edge.store.tables.alerts[alert.id] = alert
        kind = AlertHistoryKind.NOTIFICATION_FAILED if n == 0 else AlertHistoryKind.NOTIFIED
        entry = AlertHistoryEntry(id=str(n), alert_id=alert.id, kind=kind, create_time=fired, channel=HOSTILE)
        edge.store.tables.history[entry.id] = entry
    member = IncidentAlert(
        id=alert.id,
        rule_name=HOSTILE,
        service=HOSTILE,
        resource=HOSTILE,
        severity=subject.severity,
        labels={},
        fire_time=fired,
    )
    incident = Incident(
        id="i",
        state=IncidentState.OPEN,
        alerts={member.id: member},
        create_time=fired,
        update_time=fired,
        cause=member.id,
    )
    edge.store.tables.incidents.incidents["i"] = incident, 1
    return edge


@pytest.mark.usefixtures("busy")
def test_a_report_shows_alerts_incidents_and_notifications(tocsin: Command) -> None:
    done = tocsin("report", "--days", "3", "-o", "wide")
    assert done.exit_code == 0, done.stderr
    for title in ("Alerts by day", "Noisiest rules", "Flapping", "Incidents by probable cause", "Notifications by day"):
        assert title in done.stdout
    assert "1 (25%)" in done.stdout
    assert "1m 30s, p90 1m 30s" in done.stdout
    assert "\N{FULL BLOCK}" * 16 in done.stdout


@pytest.mark.usefixtures("busy")
def test_text_from_logs_has_no_effect_on_the_terminal(tocsin: Command) -> None:
    done = tocsin("report")
    assert r"x\x1b[2J" in done.stdout
    assert [char for char in done.output if not char.isprintable() and char != "\n"] == []
    assert not any(line.strip().startswith("FORGED") for line in done.stdout.splitlines())


@pytest.mark.usefixtures("busy")
def test_programs_get_what_they_asked_for(tocsin: Command) -> None:
    report = json.loads(tocsin("report", "alerts", "notifications", "-o", "json").stdout)
    assert list(report) == ["alerts", "notifications"]
    assert report["alerts"]["total"]["count"] == 4
    assert report["alerts"]["rules"][0]["ruleName"] == HOSTILE
    assert len(report["notifications"]["days"]) == 7


def test_nothing_is_a_short_report(tocsin: Command) -> None:
    done = tocsin("report")
    assert done.exit_code == 0, done.stderr
    assert "by day" not in done.stdout
    assert "by day" not in tocsin("report", "incidents").stdout


def test_a_wrong_zone_is_refused(tocsin: Command) -> None:
    done = tocsin("report", "--zone", "Mars/Base")
    assert done.exit_code == 1
    assert "timeZone" in done.stderr
    assert tocsin("report", "--days", "93").exit_code == 2


def test_a_terminal_without_unicode_gets_other_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ascii:
        encoding = "ascii"

    monkeypatch.setattr(reports, "stdout", Ascii())
    assert reports._bars([0, 1, 100]) == ["", "#", "#" * 16]


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(seconds=0.4), "0s"),
        (timedelta(seconds=59), "59s"),
        (timedelta(minutes=2), "2m"),
        (timedelta(minutes=2, seconds=30), "2m 30s"),
        (timedelta(hours=1, minutes=5, seconds=9), "1h 5m"),
        (timedelta(days=3, hours=4), "3d 4h"),
    ],
)
def test_a_span_has_its_two_largest_units(span: timedelta, text: str) -> None:
    assert format_span(duration_of(span)) == text
    assert format_span(Duration()) == "0s"


def test_days_have_their_weekdays(tocsin: Command, busy: Edge) -> None:
    yesterday = busy.clock.now() - timedelta(days=1)
    assert f"{yesterday:%a %Y-%m-%d}" in tocsin("report").stdout
