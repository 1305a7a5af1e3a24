"""Alerts and incidents with histories that are explained, and what is said of them."""

from dataclasses import replace
from datetime import timedelta

from services.domain.severity import Severity
from services.manager.core.alert import Alert, AlertHistoryEntry, AlertHistoryKind
from services.manager.core.alert_changes import open_alert
from services.manager.core.alert_lifecycle import AlertState, AlertStatus
from services.manager.core.explanation import (
    ExplainedAlert,
    ExplainedIncident,
    ExplanationRecord,
    ExplanationStep,
    RuleRevision,
    StepKind,
)
from services.manager.core.explanation_steps import explain_alert, explain_incident
from services.manager.core.incident import (
    Incident,
    IncidentAlert,
    IncidentHistoryEntry,
    IncidentHistoryKind,
)
from services.manager.core.incident_changes import open_incident
from tests.fakes.transitions import NOW, a_subject, a_transition

MINUTE = timedelta(minutes=1)
SHOP = '"High error count" on shop'
RULE_TEXT = (
    '"High error count" fires when count > threshold of events where (service == "shop") and (level >= ERROR) '
    "in a window of 5m, for each service, host; the threshold is 100."
)
WINDOW_TEXT = f"{SHOP}: count 120, total 400 in the window from 2026-01-01 12:55:00 to 13:00:00 UTC."
TRACE = "0af7651916cd43dd8448eb211c80319c"


def an_alert(resource: str = "shop") -> Alert:
    transition = a_transition(subject=a_subject(resource), revision=17)
    status = AlertStatus(state=AlertState.FIRING, last_firing=transition.evaluation)
    return replace(open_alert(transition.subject, "t", status, now=NOW).alert, fire_time=NOW)


def entry(kind: AlertHistoryKind, *, after: int = 0, **fields: object) -> AlertHistoryEntry:
    return AlertHistoryEntry(
        id=f"{kind} {after}",
        alert_id=an_alert().id,
        kind=kind,
        create_time=NOW + after * MINUTE,
        **fields,  # type: ignore[arg-type]
    )


def member(alert: Alert) -> IncidentAlert:
    return IncidentAlert(
        id=alert.id,
        rule_name=alert.subject.rule_name,
        service=alert.service,
        resource=alert.subject.resource,
        severity=Severity.HIGH,
        labels={},
        fire_time=alert.fire_time,
    )


def an_incident() -> Incident:
    return open_incident(member(an_alert()), now=NOW).incident


def incident_entry(kind: IncidentHistoryKind, *, after: int = 0, **fields: object) -> IncidentHistoryEntry:
    return IncidentHistoryEntry(
        id=f"{kind} {after}",
        incident_id=an_incident().id,
        kind=kind,
        create_time=NOW + after * MINUTE,
        **fields,  # type: ignore[arg-type]
    )


def steps_of(*history: AlertHistoryEntry, **fields: object) -> list[ExplanationStep]:
    explained = ExplainedAlert(alert=an_alert(), history=history, revisions=(17,))
    record = ExplanationRecord(alerts=[explained], **fields)  # type: ignore[arg-type]
    return [step for step in explain_alert(record).steps if step.kind is not StepKind.RULE]


def incident_steps(*history: IncidentHistoryEntry) -> list[tuple[StepKind, str, str]]:
    explained = ExplainedIncident(incident=an_incident(), history=history)
    steps = explain_incident(ExplanationRecord(incidents=[explained])).steps
    return [(step.kind, step.text, step.decided_by) for step in steps]


A_RULE = RuleRevision(
    rule_id="rule-1",
    revision=17,
    edit_time=NOW - 60 * MINUTE,
    name="High error count",
    scope='service == "shop"',
    filter="level >= ERROR",
    condition="count > threshold",
    threshold=100,
    window=5 * MINUTE,
    group_by=("service", "host"),
)
