"""Rows of incidents, their alerts and histories, as values and back."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from asyncpg import Record

from services.chassis.postgres_arrays import array_text
from services.domain.severity import Severity
from services.manager.adapters.postgres.alert_rows import labels_text, storable, storable_labels
from services.manager.core.escalation import Escalation
from services.manager.core.incident import (
    AlertBundle,
    Correlation,
    CorrelationReason,
    Incident,
    IncidentAlert,
    IncidentHistoryEntry,
    IncidentHistoryKind,
    IncidentNotificationKind,
    IncidentState,
    IncidentSummary,
    NotifiedReceiver,
    Withholding,
    summary_of,
)
from services.manager.core.routing_tree import AlertRoute

INCIDENT_COLUMNS = """
    id, state, cause, create_time, update_time, settle_time, resolve_time, resolved_by, acknowledge_time,
    acknowledged_by, acknowledged_until, assignee, merged_into, version, dedup_key, sequence, receivers, flapping,
    notify_time, escalations
"""
SUMMARY_COLUMNS = "title, severity, alert_count, open_alert_count, services"
MEMBER_COLUMNS = """
    incident_id, alert_id, position, rule_name, service, resource, severity, labels, fire_time, is_open, correlation,
    is_acknowledged, routes, file_route, withheld_by, audible_version, end_version
"""
INCIDENT_HISTORY_COLUMNS = """
    id, incident_id, kind, create_time, alert_id, actor, comment, correlation, notified_kind, receivers,
    notification_id, decided_by, fired_alerts, ended_alerts
"""

# What is read and written whole. Fields that were added later have their defaults in older rows.
_RECEIVERS = msgspec.json.Decoder(dict[str, NotifiedReceiver])
_ESCALATIONS = msgspec.json.Decoder(dict[str, Escalation])
_FLAPPING = msgspec.json.Decoder(frozenset[tuple[str, str]])
_ROUTES = msgspec.json.Decoder(tuple[AlertRoute, ...])
_WITHHELD = msgspec.json.Decoder(tuple[Withholding, ...])


def member_of(row: Record) -> IncidentAlert:
    """Return an alert of an incident from MEMBER_COLUMNS."""
    return IncidentAlert(
        id=row["alert_id"],
        rule_name=row["rule_name"],
        service=row["service"],
        resource=row["resource"],
        severity=Severity[row["severity"]],
        labels=json.loads(row["labels"]),
        fire_time=row["fire_time"],
        is_open=row["is_open"],
        correlation=_correlation_of(row["correlation"]),
        is_acknowledged=row["is_acknowledged"],
        routes=_ROUTES.decode(row["routes"]),
        file_route=row["file_route"],
        withheld_by=_WITHHELD.decode(row["withheld_by"]),
        audible_version=row["audible_version"],
        end_version=row["end_version"],
    )


def member_rows(incident: Incident, before: Mapping[str, IncidentAlert]) -> Iterable[tuple[Any, ...]]:
    """Yield the values of MEMBER_COLUMNS of the alerts that are not as before."""
    for position, alert in enumerate(incident.alerts.values()):
        if before.get(alert.id) != alert:
            yield (
                incident.id,
                alert.id,
                position,
                storable(alert.rule_name),
                storable(alert.service),
                storable(alert.resource),
                alert.severity.name,
                labels_text(alert.labels),
                alert.fire_time,
                alert.is_open,
                _correlation_text(alert.correlation),
                alert.is_acknowledged,
                _json(alert.routes),
                storable(alert.file_route),
                _json(alert.withheld_by),
                alert.audible_version,
                alert.end_version,
            )


def incident_of(row: Record, alerts: Mapping[str, IncidentAlert]) -> Incident:
    """Return an incident with its alerts from INCIDENT_COLUMNS."""
    return Incident(
        id=row["id"],
        state=IncidentState(row["state"]),
        alerts=alerts,
        cause=row["cause"],
        create_time=row["create_time"],
        update_time=row["update_time"],
        settle_time=row["settle_time"],
        resolve_time=row["resolve_time"],
        resolved_by=row["resolved_by"],
        acknowledge_time=row["acknowledge_time"],
        acknowledged_by=row["acknowledged_by"],
        acknowledged_until=row["acknowledged_until"],
        assignee=row["assignee"],
        merged_into=row["merged_into"],
        version=row["version"],
        dedup_key=row["dedup_key"],
        sequence=row["sequence"],
        receivers=_RECEIVERS.decode(row["receivers"]),
        flapping=_FLAPPING.decode(row["flapping"]),
        notify_time=row["notify_time"],
        escalations=_ESCALATIONS.decode(row["escalations"]),
    )


def incident_row(incident: Incident) -> tuple[Any, ...]:
    """Return the values of INCIDENT_COLUMNS."""
    return (
        incident.id,
        incident.state.value,
        incident.cause,
        incident.create_time,
        incident.update_time,
        incident.settle_time,
        incident.resolve_time,
        incident.resolved_by,
        incident.acknowledge_time,
        incident.acknowledged_by,
        incident.acknowledged_until,
        incident.assignee,
        incident.merged_into,
        incident.version,
        incident.dedup_key,
        incident.sequence,
        _json(incident.receivers),
        _json(sorted(incident.flapping)),
        incident.notify_time,
        _json(incident.escalations),
    )


def summary_of_row(row: Record) -> IncidentSummary:
    """Return what a list shows from INCIDENT_COLUMNS and SUMMARY_COLUMNS."""
    return IncidentSummary(
        incident=incident_of(row, {}),
        title=row["title"],
        severity=Severity[row["severity"]],
        alert_count=row["alert_count"],
        open_alert_count=row["open_alert_count"],
        services=tuple(row["services"]),
    )


def summary_row(incident: Incident) -> tuple[Any, ...]:
    """Return the values of SUMMARY_COLUMNS."""
    summary = summary_of(incident)
    return (
        storable(summary.title),
        summary.severity.name,
        summary.alert_count,
        summary.open_alert_count,
        array_text([storable(service) for service in summary.services]),
    )


def incident_history_entry_of(row: Record) -> IncidentHistoryEntry:
    """Return a history entry from INCIDENT_HISTORY_COLUMNS."""
    return IncidentHistoryEntry(
        id=row["id"],
        incident_id=row["incident_id"],
        kind=IncidentHistoryKind(row["kind"]),
        create_time=row["create_time"],
        alert_id=row["alert_id"],
        actor=row["actor"],
        comment=row["comment"],
        correlation=_correlation_of(row["correlation"]),
        notified_kind=IncidentNotificationKind(row["notified_kind"]) if row["notified_kind"] else None,
        receivers=tuple(row["receivers"]),
        notification_id=row["notification_id"],
        decided_by=row["decided_by"],
        bundle=AlertBundle(fired=tuple(row["fired_alerts"]), ended=tuple(row["ended_alerts"])),
    )


def incident_history_row(entry: IncidentHistoryEntry) -> tuple[Any, ...]:
    """Return the values of INCIDENT_HISTORY_COLUMNS."""
    return (
        entry.id,
        entry.incident_id,
        entry.kind.value,
        entry.create_time,
        entry.alert_id,
        storable(entry.actor),
        storable(entry.comment),
        _correlation_text(entry.correlation),
        entry.notified_kind.value if entry.notified_kind else "",
        array_text(map(storable, entry.receivers)),
        entry.notification_id,
        storable(entry.decided_by),
        array_text(entry.bundle.fired),
        array_text(entry.bundle.ended),
    )


def _correlation_text(correlation: Correlation) -> str:
    return _NO_CORRELATION if correlation == _UNRELATED else _written(correlation)


def _written(correlation: Correlation) -> str:
    fields = {
        "incident": correlation.incident_id,
        "reason": correlation.reason.value,
        "path": [storable(service) for service in correlation.path],
        "labels": storable_labels(correlation.labels),
    }
    return _json(fields)


def _correlation_of(text: str) -> Correlation:
    fields = json.loads(text)
    return Correlation(
        incident_id=fields["incident"],
        reason=CorrelationReason(fields["reason"]),
        path=tuple(fields["path"]),
        labels=fields["labels"],
    )


def _json(value: object) -> str:
    """Return a value for a column of type json, which takes any text, jsonb does not."""
    return msgspec.json.encode(value).decode()


# That of most alerts and entries.
_UNRELATED = Correlation()
_NO_CORRELATION = _written(_UNRELATED)
