"""A change of one incident: what joins it, what ends it, what people do to it, and the entries of its history.

Life of an incident: the alert that is related to no other one opens it; related ones join. When its last open alert
has ended, it settles: it is resolved some minutes later, unless another alert joins before. A related alert that fires
within the reopening time opens it again. People acknowledge it, perhaps until some time, assign, comment, merge, split
and resolve it; acknowledging and resolving are done once, and a command that comes too late changes nothing.

Invariants: an incident has at least one alert; an open alert is open in exactly one incident; an incident that is not
resolved has an open alert or settles; `cause` is one of its alerts. A step that comes again changes nothing.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from services.manager.core.correlation import CorrelationSettings, probable_cause
from services.manager.core.dependency_graph import DependencyGraph
from services.manager.core.incident import (
    Correlation,
    Incident,
    IncidentAlert,
    IncidentHistoryEntry,
    IncidentHistoryKind,
    IncidentState,
    incident_history_id_of,
    incident_id_of,
)


class IncidentReason(StrEnum):
    """What a step of an incident did, and why."""

    OPENED = "opened"
    JOINED = "joined"
    REOPENED = "reopened"
    ALERT_UPDATED = "alert_updated"
    ALERT_RESOLVED = "alert_resolved"
    SETTLED = "settled"
    ACKNOWLEDGED = "acknowledged"
    UNACKNOWLEDGED = "unacknowledged"
    ACKNOWLEDGEMENT_EXPIRED = "acknowledgement_expired"
    ASSIGNED = "assigned"
    COMMENTED = "commented"
    RESOLVED_BY_HAND = "resolved_by_hand"
    MERGED = "merged"
    SPLIT = "split"
    # Nothing changed.
    ALREADY_IN_INCIDENT = "already_in_incident"
    ALERT_NOT_OPEN = "alert_not_open"
    NOT_DUE = "not_due"
    ALREADY_ACKNOWLEDGED = "already_acknowledged"
    NOT_ACKNOWLEDGED = "not_acknowledged"
    ALREADY_ASSIGNED = "already_assigned"
    ALREADY_RESOLVED = "already_resolved"
    # An incident is merged into another one, and split so that both keep an alert.
    NOT_MERGEABLE = "not_mergeable"
    NOT_SPLITTABLE = "not_splittable"


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentChange:
    """An incident after a step, the entries of its history, and what the step did."""

    incident: Incident
    reason: IncidentReason
    history: tuple[IncidentHistoryEntry, ...] = ()


def open_incident(alert: IncidentAlert, *, now: datetime) -> IncidentChange:
    """Open an incident with its first alert."""
    incident = Incident(
        id=incident_id_of(alert.id),
        state=IncidentState.OPEN,
        alerts={alert.id: alert},
        create_time=now,
        update_time=now,
        cause=alert.id,
    )
    return IncidentChange(
        incident=incident,
        reason=IncidentReason.OPENED,
        history=(_alert_entry(incident, IncidentHistoryKind.OPENED, alert, now),),
    )


def join(incident: Incident, alert: IncidentAlert, correlation: Correlation, *, now: datetime) -> IncidentChange:
    """Add an alert to an incident; a resolved one is open again, and nobody has acknowledged it."""
    if alert.id in incident.alerts:
        return IncidentChange(incident=incident, reason=IncidentReason.ALREADY_IN_INCIDENT)
    alert = replace(alert, correlation=correlation)
    entry = _alert_entry(incident, IncidentHistoryKind.JOINED, alert, now)
    alerts = {**incident.alerts, alert.id: alert}
    if incident.is_open:
        after = replace(_next_version(incident, now), alerts=alerts, settle_time=None)
        return IncidentChange(incident=after, reason=IncidentReason.JOINED, history=(entry,))
    reopened = replace(
        _unacknowledged(_next_version(incident, now)),
        alerts=alerts,
        settle_time=None,
        resolve_time=None,
        resolved_by="",
        merged_into="",
    )
    history = (_alert_entry(incident, IncidentHistoryKind.REOPENED, alert, now), entry)
    return IncidentChange(incident=reopened, reason=IncidentReason.REOPENED, history=history)


def end_alert(incident: Incident, alert_id: str, *, settle: timedelta, now: datetime) -> IncidentChange:
    """Take note that an alert has ended; with the last one the incident begins to settle."""
    alert = incident.alerts.get(alert_id)
    if alert is None or not alert.is_open:
        return IncidentChange(incident=incident, reason=IncidentReason.ALERT_NOT_OPEN)
    ended = replace(alert, is_open=False)
    after = replace(_next_version(incident, now), alerts={**incident.alerts, alert_id: ended})
    if after.is_open and not after.open_alerts:
        after = replace(after, settle_time=now + settle)
    entry = _alert_entry(incident, IncidentHistoryKind.ALERT_RESOLVED, ended, now)
    return IncidentChange(incident=after, reason=IncidentReason.ALERT_RESOLVED, history=(entry,))


def update_alert(incident: Incident, alert: IncidentAlert, *, now: datetime) -> IncidentChange:
    """Take over what was edited in an alert's rule; the history of the alert says so."""
    known = incident.alerts[alert.id]
    edited = replace(alert, is_open=known.is_open, fire_time=known.fire_time, correlation=known.correlation)
    if edited == known:
        return IncidentChange(incident=incident, reason=IncidentReason.ALREADY_IN_INCIDENT)
    after = replace(_next_version(incident, now), alerts={**incident.alerts, alert.id: edited})
    return IncidentChange(incident=after, reason=IncidentReason.ALERT_UPDATED)


def settle(incident: Incident, *, now: datetime) -> IncidentChange:
    """Resolve an incident that has settled."""
    if not incident.is_open or incident.settle_time is None or now < incident.settle_time:
        return IncidentChange(incident=incident, reason=IncidentReason.NOT_DUE)
    return _resolved(incident, IncidentReason.SETTLED, "", "", incident.settle_time, now)


def resolve_incident(incident: Incident, *, actor: str, comment: str, now: datetime) -> IncidentChange:
    """Resolve an incident by hand, with all of its alerts."""
    if not incident.is_open:
        return IncidentChange(incident=incident, reason=IncidentReason.ALREADY_RESOLVED)
    alerts = {alert.id: replace(alert, is_open=False) for alert in incident.alerts.values()}
    ended = replace(incident, alerts=alerts)
    return _resolved(ended, IncidentReason.RESOLVED_BY_HAND, actor, comment, now, now)


def acknowledge(
    incident: Incident, *, actor: str, comment: str, until: datetime | None, now: datetime
) -> IncidentChange:
    """Acknowledge an incident, perhaps until some time. Who has acknowledged it may set another time."""
    if not incident.is_open:
        return IncidentChange(incident=incident, reason=IncidentReason.ALREADY_RESOLVED)
    is_same = (incident.acknowledged_by, incident.acknowledged_until) == (actor, until)
    if incident.state is IncidentState.ACKNOWLEDGED and (incident.acknowledged_by != actor or is_same):
        return IncidentChange(incident=incident, reason=IncidentReason.ALREADY_ACKNOWLEDGED)
    after = replace(
        _next_version(incident, now),
        state=IncidentState.ACKNOWLEDGED,
        acknowledge_time=incident.acknowledge_time or now,
        acknowledged_by=actor,
        acknowledged_until=until,
    )
    return _commanded(after, IncidentReason.ACKNOWLEDGED, IncidentHistoryKind.ACKNOWLEDGED, actor, comment)


def unacknowledge(incident: Incident, *, actor: str, comment: str, now: datetime) -> IncidentChange:
    """Take an acknowledgement back."""
    if incident.state is not IncidentState.ACKNOWLEDGED:
        return IncidentChange(incident=incident, reason=IncidentReason.NOT_ACKNOWLEDGED)
    after = _unacknowledged(_next_version(incident, now))
    return _commanded(after, IncidentReason.UNACKNOWLEDGED, IncidentHistoryKind.UNACKNOWLEDGED, actor, comment)


def expire_acknowledgement(incident: Incident, *, now: datetime) -> IncidentChange:
    """End an acknowledgement whose time has come."""
    until = incident.acknowledged_until
    if incident.state is not IncidentState.ACKNOWLEDGED or until is None or now < until:
        return IncidentChange(incident=incident, reason=IncidentReason.NOT_DUE)
    after = _unacknowledged(_next_version(incident, now))
    kind = IncidentHistoryKind.ACKNOWLEDGEMENT_EXPIRED
    return _commanded(after, IncidentReason.ACKNOWLEDGEMENT_EXPIRED, kind, "", "")


def assign(incident: Incident, assignee: str, *, actor: str, comment: str, now: datetime) -> IncidentChange:
    """Assign an incident to somebody, or to nobody when the name is empty."""
    if incident.assignee == assignee:
        return IncidentChange(incident=incident, reason=IncidentReason.ALREADY_ASSIGNED)
    after = replace(_next_version(incident, now), assignee=assignee)
    return _commanded(after, IncidentReason.ASSIGNED, IncidentHistoryKind.ASSIGNED, actor, comment)


def add_comment(incident: Incident, *, actor: str, comment: str, now: datetime) -> IncidentChange:
    """Add a comment to the history, also of a resolved incident."""
    after = _next_version(incident, now)
    return _commanded(after, IncidentReason.COMMENTED, IncidentHistoryKind.COMMENTED, actor, comment)


def merge_incidents(
    incident: Incident, other: Incident, *, actor: str, comment: str, now: datetime
) -> tuple[IncidentChange, IncidentChange]:
    """Move all alerts of another open incident into an open one; the other one is resolved, and keeps none of its own.

    Its alerts stay listed there, so that its history can be read, but ended: they count in the incident that took them.
    """
    if incident.id == other.id or not incident.is_open or not other.is_open:
        unchanged = IncidentReason.NOT_MERGEABLE
        return IncidentChange(incident=incident, reason=unchanged), IncidentChange(incident=other, reason=unchanged)
    after = replace(_next_version(incident, now), alerts={**other.alerts, **incident.alerts})
    after = replace(after, settle_time=None if after.open_alerts else incident.settle_time)
    left = {alert.id: replace(alert, is_open=False) for alert in other.alerts.values()}
    ended = _resolved(replace(other, alerts=left), IncidentReason.MERGED, actor, comment, now, now)
    kind = IncidentHistoryKind.MERGED
    merged = _commanded(after, IncidentReason.MERGED, kind, actor, comment, other.id)
    return merged, replace(ended, incident=replace(ended.incident, merged_into=incident.id))


def split_incident(
    incident: Incident, alert_ids: Collection[str], *, actor: str, comment: str, settle: timedelta, now: datetime
) -> tuple[IncidentChange, IncidentChange | None]:
    """Move some alerts of an open incident into a new one. Both must have an alert, and the new one an open one."""
    moved = {alert.id: alert for alert in incident.alerts.values() if alert.id in alert_ids}
    left = {alert.id: alert for alert in incident.alerts.values() if alert.id not in alert_ids}
    is_possible = incident.is_open and left and any(alert.is_open for alert in moved.values())
    if not is_possible or len(moved) < len(set(alert_ids)):
        return IncidentChange(incident=incident, reason=IncidentReason.NOT_SPLITTABLE), None
    first = next(iter(moved.values()))
    new = Incident(
        id=incident_id_of(first.id, f"{incident.id} {incident.version}"),
        state=IncidentState.OPEN,
        alerts={alert.id: replace(alert, correlation=Correlation()) for alert in moved.values()},
        create_time=now,
        update_time=now,
        cause=first.id,
    )
    after = replace(_next_version(incident, now), alerts=left)
    if not after.open_alerts:
        after = replace(after, settle_time=incident.settle_time or now + settle)
    if after.cause not in left:
        after = replace(after, cause=next(iter(left)))
    kind = IncidentHistoryKind.SPLIT
    return (
        _commanded(after, IncidentReason.SPLIT, kind, actor, comment, new.id),
        _commanded(new, IncidentReason.SPLIT, kind, actor, comment, incident.id),
    )


def with_cause(
    change: IncidentChange, graph: DependencyGraph, settings: CorrelationSettings, *, now: datetime
) -> IncidentChange:
    """Decide anew which alert probably caused the others, once all steps of a batch are made.

    While no alert is open, the last cause stays.
    """
    incident = change.incident
    if not incident.open_alerts:
        return change
    cause = probable_cause(incident.open_alerts, graph, settings.max_edges)
    if cause.alert_id == incident.cause:
        return change
    entry = IncidentHistoryEntry(
        id=incident_history_id_of(
            incident.id, IncidentHistoryKind.CAUSE_CHANGED, cause.alert_id, str(incident.version)
        ),
        incident_id=incident.id,
        kind=IncidentHistoryKind.CAUSE_CHANGED,
        create_time=now,
        alert_id=cause.alert_id,
        comment=cause.reason.value,
    )
    return replace(change, incident=replace(incident, cause=cause.alert_id), history=(*change.history, entry))


def _resolved(
    incident: Incident, reason: IncidentReason, actor: str, comment: str, time: datetime, now: datetime
) -> IncidentChange:
    after = replace(
        _next_version(incident, now),
        state=IncidentState.RESOLVED,
        settle_time=None,
        resolve_time=time,
        resolved_by=actor,
    )
    return _commanded(after, reason, IncidentHistoryKind.RESOLVED, actor, comment)


def _commanded(
    after: Incident, reason: IncidentReason, kind: IncidentHistoryKind, actor: str, comment: str, *occasion: str
) -> IncidentChange:
    entry = IncidentHistoryEntry(
        id=incident_history_id_of(after.id, kind, str(after.version), *occasion),
        incident_id=after.id,
        kind=kind,
        create_time=after.update_time,
        actor=actor,
        comment=comment,
    )
    return IncidentChange(incident=after, reason=reason, history=(entry,))


def _alert_entry(
    incident: Incident, kind: IncidentHistoryKind, alert: IncidentAlert, now: datetime
) -> IncidentHistoryEntry:
    return IncidentHistoryEntry(
        id=incident_history_id_of(incident.id, kind, alert.id),
        incident_id=incident.id,
        kind=kind,
        create_time=now,
        alert_id=alert.id,
        correlation=alert.correlation,
    )


def _unacknowledged(incident: Incident) -> Incident:
    return replace(
        incident,
        state=IncidentState.OPEN,
        acknowledge_time=None,
        acknowledged_by="",
        acknowledged_until=None,
    )


def _next_version(incident: Incident, now: datetime) -> Incident:
    return replace(incident, version=incident.version + 1, update_time=now)
