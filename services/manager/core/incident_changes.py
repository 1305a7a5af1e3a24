"""A change of one incident: what joins it, what ends it, what people do to it, and the entries of its history.

Life of an incident: the alert that is related to no other one opens it; related ones join. When its last open alert
has ended, it settles: it is resolved some minutes later, unless another alert joins before. A related alert that fires
within the reopening time opens it again. People acknowledge it, perhaps until some time, assign, comment, merge, split
and resolve it; acknowledging and resolving are done once, and a command that comes too late changes nothing.

Invariants: an incident has at least one alert; an open alert is open in exactly one incident; an incident that is not
resolved has an open alert or settles; `cause` is one of its alerts. A step that comes again changes nothing.

No step notifies anybody: incident_notifications.py compares an incident with what its receivers know of it.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from services.domain.values import replaced
from services.manager.core.correlation import CorrelationSettings, probable_cause
from services.manager.core.dependency_graph import DependencyGraph
from services.manager.core.incident import (
    Correlation,
    Incident,
    IncidentAlert,
    IncidentHistoryEntry,
    IncidentHistoryKind,
    IncidentNotification,
    IncidentState,
    NotifiedReceiver,
    WithheldReason,
    Withholding,
    incident_history_id_of,
    incident_id_of,
)

# The first notification after those that had the numbers of their kinds.
FIRST_ADOPTED_SEQUENCE = 3


# What of an alert an edit of its rule changes, and what follows from that.
_EDITED = (
    "rule_name",
    "service",
    "resource",
    "severity",
    "labels",
    "routes",
    "file_route",
    "is_acknowledged",
)


class IncidentReason(StrEnum):
    """What a step of an incident did, and why."""

    OPENED = "opened"
    JOINED = "joined"
    REOPENED = "reopened"
    ALERT_UPDATED = "alert_updated"
    ALERT_WITHHELD = "alert_withheld"
    NOTIFIED = "notified"
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
    """An incident after a step, the entries of its history, what the step did, and whom to notify."""

    incident: Incident
    reason: IncidentReason
    history: tuple[IncidentHistoryEntry, ...] = ()
    notifications: tuple[IncidentNotification, ...] = ()


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
    entry = _alert_entry(incident, IncidentHistoryKind.OPENED, alert, now)
    return IncidentChange(
        incident=incident,
        reason=IncidentReason.OPENED,
        history=(entry, *_withheld_entries(incident, alert, (), now)),
    )


def adopt(alert: IncidentAlert, *, is_acknowledged: bool = False, now: datetime) -> IncidentChange:
    """Open an incident with an alert that was notified of by itself, before incidents were: it keeps its key.

    Whoever was notified of it is notified of its end; of an acknowledgement too, unless they were before.
    """
    change = open_incident(replace(alert, audible_version=1), now=now)
    receiver = NotifiedReceiver(
        name="",
        first_time=alert.fire_time,
        last_time=now,
        version=1,
        cause=alert.id,
        severity=alert.severity,
        is_acknowledged=is_acknowledged,
        file_routes=(alert.file_route,),
    )
    incident = replace(
        change.incident, dedup_key=alert.id, sequence=FIRST_ADOPTED_SEQUENCE - 1, receivers={"": receiver}
    )
    return replace(change, incident=incident)


def join(incident: Incident, alert: IncidentAlert, correlation: Correlation, *, now: datetime) -> IncidentChange:
    """Add an alert to an incident; a resolved one is open again, and nobody has acknowledged it."""
    if alert.id in incident.alerts:
        return IncidentChange(incident=incident, reason=IncidentReason.ALREADY_IN_INCIDENT)
    alert = replace(alert, correlation=correlation)
    entry = _alert_entry(incident, IncidentHistoryKind.JOINED, alert, now)
    entries = (entry, *_withheld_entries(incident, alert, (), now))
    alerts = {**incident.alerts, alert.id: alert}
    if incident.is_open:
        after = replace(next_version(incident, now), alerts=alerts, settle_time=None)
        return IncidentChange(incident=after, reason=IncidentReason.JOINED, history=entries)
    reopened = replace(
        _unacknowledged(next_version(incident, now)),
        alerts=alerts,
        settle_time=None,
        resolve_time=None,
        resolved_by="",
        merged_into="",
    )
    history = (_alert_entry(incident, IncidentHistoryKind.REOPENED, alert, now), *entries)
    return IncidentChange(incident=reopened, reason=IncidentReason.REOPENED, history=history)


def end_alert(incident: Incident, alert_id: str, *, settle: timedelta, now: datetime) -> IncidentChange:
    """Take note that an alert has ended; with the last one the incident begins to settle."""
    alert = incident.alerts.get(alert_id)
    if alert is None or not alert.is_open:
        return IncidentChange(incident=incident, reason=IncidentReason.ALERT_NOT_OPEN)
    after = next_version(incident, now)
    ended = replace(alert, is_open=False, end_version=after.version)
    after = replace(after, alerts={**incident.alerts, alert_id: ended})
    if after.is_open and not after.open_alerts:
        after = replace(after, settle_time=now + settle)
    entry = _alert_entry(incident, IncidentHistoryKind.ALERT_RESOLVED, ended, now)
    return IncidentChange(incident=after, reason=IncidentReason.ALERT_RESOLVED, history=(entry,))


def update_alert(incident: Incident, alert: IncidentAlert, *, now: datetime) -> IncidentChange:
    """Take over what was edited in an alert's rule; the history of the alert says so."""
    known = incident.alerts[alert.id]
    if all(getattr(known, name) == getattr(alert, name) for name in _EDITED):
        return IncidentChange(incident=incident, reason=IncidentReason.ALREADY_IN_INCIDENT)
    edited = replace(known, **{name: getattr(alert, name) for name in _EDITED})
    after = replace(next_version(incident, now), alerts={**incident.alerts, alert.id: edited})
    return IncidentChange(incident=after, reason=IncidentReason.ALERT_UPDATED)


def withhold(
    incident: Incident, alert_id: str, withheld_by: tuple[Withholding, ...], *, now: datetime
) -> IncidentChange:
    """Take over what withholds notifications of an open alert.

    When nothing does any more, but somebody has acknowledged the incident of which nobody knows, it stays withheld:
    somebody takes care of it.
    """
    known = incident.alerts[alert_id]
    is_released = known.withheld_by and not withheld_by and not known.audible_version
    is_taken = incident.state is IncidentState.ACKNOWLEDGED
    if is_released and is_taken and not any(receiver.is_active for receiver in incident.receivers.values()):
        withheld_by = (Withholding(reason=WithheldReason.ACKNOWLEDGED, by=incident.acknowledged_by),)
    if known.withheld_by == withheld_by or not known.is_open:
        return IncidentChange(incident=incident, reason=IncidentReason.ALREADY_IN_INCIDENT)
    after = next_version(incident, now)
    alert = replace(known, withheld_by=withheld_by)
    after = replace(after, alerts={**incident.alerts, alert_id: alert})
    entries = _withheld_entries(after, alert, known.withheld_by, now)
    return IncidentChange(incident=after, reason=IncidentReason.ALERT_WITHHELD, history=entries)


def settle(incident: Incident, *, now: datetime) -> IncidentChange:
    """Resolve an incident that has settled."""
    if not incident.is_open or incident.settle_time is None or now < incident.settle_time:
        return IncidentChange(incident=incident, reason=IncidentReason.NOT_DUE)
    return resolved(incident, IncidentReason.SETTLED, "", "", incident.settle_time, now)


def resolve_incident(incident: Incident, *, actor: str, comment: str, now: datetime) -> IncidentChange:
    """Resolve an incident by hand, with all of its alerts."""
    if not incident.is_open:
        return IncidentChange(incident=incident, reason=IncidentReason.ALREADY_RESOLVED)
    ended = replace(incident, alerts=all_ended(incident))
    return resolved(ended, IncidentReason.RESOLVED_BY_HAND, actor, comment, now, now)


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
        next_version(incident, now),
        state=IncidentState.ACKNOWLEDGED,
        acknowledge_time=incident.acknowledge_time or now,
        acknowledged_by=actor,
        acknowledged_until=until,
    )
    return commanded(after, IncidentReason.ACKNOWLEDGED, IncidentHistoryKind.ACKNOWLEDGED, actor, comment)


def unacknowledge(incident: Incident, *, actor: str, comment: str, now: datetime) -> IncidentChange:
    """Take an acknowledgement back."""
    if incident.state is not IncidentState.ACKNOWLEDGED:
        return IncidentChange(incident=incident, reason=IncidentReason.NOT_ACKNOWLEDGED)
    after = _unacknowledged(next_version(incident, now))
    return commanded(after, IncidentReason.UNACKNOWLEDGED, IncidentHistoryKind.UNACKNOWLEDGED, actor, comment)


def expire_acknowledgement(incident: Incident, *, now: datetime) -> IncidentChange:
    """End an acknowledgement whose time has come."""
    until = incident.acknowledged_until
    if incident.state is not IncidentState.ACKNOWLEDGED or until is None or now < until:
        return IncidentChange(incident=incident, reason=IncidentReason.NOT_DUE)
    after = _unacknowledged(next_version(incident, now))
    kind = IncidentHistoryKind.ACKNOWLEDGEMENT_EXPIRED
    return commanded(after, IncidentReason.ACKNOWLEDGEMENT_EXPIRED, kind, "", "")


def assign(incident: Incident, assignee: str, *, actor: str, comment: str, now: datetime) -> IncidentChange:
    """Assign an incident to somebody, or to nobody when the name is empty."""
    if incident.assignee == assignee:
        return IncidentChange(incident=incident, reason=IncidentReason.ALREADY_ASSIGNED)
    after = replace(next_version(incident, now), assignee=assignee)
    return commanded(after, IncidentReason.ASSIGNED, IncidentHistoryKind.ASSIGNED, actor, comment)


def add_comment(incident: Incident, *, actor: str, comment: str, now: datetime) -> IncidentChange:
    """Add a comment to the history, also of a resolved incident."""
    after = next_version(incident, now)
    return commanded(after, IncidentReason.COMMENTED, IncidentHistoryKind.COMMENTED, actor, comment)


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


def _withheld_entries(
    incident: Incident, alert: IncidentAlert, before: Collection[Withholding], now: datetime
) -> tuple[IncidentHistoryEntry, ...]:
    """Return an entry for each reason that begins to hold, and one when none holds any more; it may do so again."""
    kind = IncidentHistoryKind.WITHHELD
    begun = [each for each in alert.withheld_by if each not in before]
    words = [(each.by, "; ".join(part for part in (each.reason.words, each.comment) if part)) for each in begun]
    if before and not alert.withheld_by:
        words = [("", "nothing withholds it any more")]
    return tuple(
        IncidentHistoryEntry(
            id=incident_history_id_of(incident.id, kind, alert.id, by, comment, str(incident.version)),
            incident_id=incident.id,
            kind=kind,
            create_time=now,
            alert_id=alert.id,
            comment=comment,
            decided_by=by,
        )
        for by, comment in words
    )


def _unacknowledged(incident: Incident) -> Incident:
    alerts = incident.alerts
    if any(each.reason is WithheldReason.ACKNOWLEDGED for alert in alerts.values() for each in alert.withheld_by):
        alerts = {alert.id: _without_acknowledgement(alert) for alert in alerts.values()}
    return replace(
        incident,
        alerts=alerts,
        state=IncidentState.OPEN,
        acknowledge_time=None,
        acknowledged_by="",
        acknowledged_until=None,
    )


def _without_acknowledgement(alert: IncidentAlert) -> IncidentAlert:
    left = tuple(each for each in alert.withheld_by if each.reason is not WithheldReason.ACKNOWLEDGED)
    return replace(alert, withheld_by=left)


def resolved(
    incident: Incident, reason: IncidentReason, actor: str, comment: str, time: datetime, now: datetime
) -> IncidentChange:
    """Return the change that resolves an incident."""
    after = replace(
        next_version(incident, now),
        state=IncidentState.RESOLVED,
        settle_time=None,
        resolve_time=time,
        resolved_by=actor,
    )
    return commanded(after, reason, IncidentHistoryKind.RESOLVED, actor, comment)


def commanded(
    after: Incident, reason: IncidentReason, kind: IncidentHistoryKind, actor: str, comment: str, *occasion: str
) -> IncidentChange:
    """Return a change with its entry; `occasion` names the other incident, where there is one."""
    entry = IncidentHistoryEntry(
        id=incident_history_id_of(after.id, kind, str(after.version), *occasion),
        incident_id=after.id,
        kind=kind,
        create_time=after.update_time,
        actor=actor,
        comment=comment,
        decided_by=occasion[0] if occasion else "",
    )
    return IncidentChange(incident=after, reason=reason, history=(entry,))


def all_ended(incident: Incident) -> dict[str, IncidentAlert]:
    """Return the alerts of an incident as they are when it ends with its next version."""
    return {
        alert.id: replace(alert, is_open=False, end_version=incident.version + 1) if alert.is_open else alert
        for alert in incident.alerts.values()
    }


def next_version(incident: Incident, now: datetime) -> Incident:
    """Return an incident with its next version."""
    return replaced(incident, version=incident.version + 1, update_time=now)
