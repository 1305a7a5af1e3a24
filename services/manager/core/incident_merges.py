"""Merging incidents into one, and splitting one: alerts move, and the receivers of both learn what becomes of them."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta

from services.manager.core.incident import (
    Correlation,
    Incident,
    IncidentAlert,
    IncidentHistoryKind,
    IncidentState,
    incident_id_of,
)
from services.manager.core.incident_changes import (
    IncidentChange,
    IncidentReason,
    all_ended,
    commanded,
    next_version,
    resolved,
)

# Of an alert that has ended, and that another incident has notified of.
_NOTIFIED_BEFORE = -1


def merge_incidents(
    incident: Incident, other: Incident, *, actor: str, comment: str, now: datetime
) -> tuple[IncidentChange, IncidentChange]:
    """Move all alerts of another open incident into an open one; the other one is resolved, and keeps none of its own.

    Its alerts stay listed there, so that its history can be read, but ended: they count in the incident that took them.
    """
    if incident.id == other.id or not incident.is_open or not other.is_open:
        unchanged = IncidentReason.NOT_MERGEABLE
        return IncidentChange(incident=incident, reason=unchanged), IncidentChange(incident=other, reason=unchanged)
    taken = {alert.id: _moved(alert) for alert in other.alerts.values()}
    after = replace(next_version(incident, now), alerts={**taken, **incident.alerts})
    after = replace(after, settle_time=None if after.open_alerts else incident.settle_time)
    ended = resolved(replace(other, alerts=all_ended(other)), IncidentReason.MERGED, actor, comment, now, now)
    kind = IncidentHistoryKind.MERGED
    merged = commanded(after, IncidentReason.MERGED, kind, actor, comment, other.id)
    history = tuple(replace(entry, decided_by=incident.id) for entry in ended.history)
    return merged, replace(ended, incident=replace(ended.incident, merged_into=incident.id), history=history)


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
        alerts={alert.id: replace(_moved(alert), correlation=Correlation()) for alert in moved.values()},
        create_time=now,
        update_time=now,
        cause=first.id,
    )
    after = replace(next_version(incident, now), alerts=left)
    if not after.open_alerts:
        after = replace(after, settle_time=incident.settle_time or now + settle)
    if after.cause not in left:
        after = replace(after, cause=next(iter(left)))
    kind = IncidentHistoryKind.SPLIT
    return (
        commanded(after, IncidentReason.SPLIT, kind, actor, comment, new.id),
        commanded(new, IncidentReason.SPLIT, kind, actor, comment, incident.id),
    )


def _moved(alert: IncidentAlert) -> IncidentAlert:
    """Return an alert as another incident takes it: its receivers are notified of it, unless it has ended."""
    return replace(alert, audible_version=0 if alert.is_open else _NOTIFIED_BEFORE, end_version=0)
