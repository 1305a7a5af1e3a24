"""The notifications of an incident: their ids, how they are made of messages, and what its history says about them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.manager.core.alert import (
    AlertHistoryEntry,
    AlertHistoryKind,
    NotifiedState,
    history_id_of,
    notification_id_of,
)
from services.manager.core.escalation import EscalationMessage
from services.manager.core.flapping import FlappingSettings, flap_key
from services.manager.core.incident import (
    AlertBundle,
    Incident,
    IncidentHistoryEntry,
    IncidentHistoryKind,
    IncidentNotification,
    IncidentNotificationKind,
    NotifyReason,
    incident_history_id_of,
    incident_notification_id_of,
)
from services.manager.core.incident_changes import FIRST_ADOPTED_SEQUENCE


def notification_id_in(incident: Incident, kind: IncidentNotificationKind, sequence: int) -> str:
    """Return the id of a notification.

    The end of an alert that a former release has notified of has the id that this one gives it, which may do so too.
    """
    if incident.dedup_key and sequence == FIRST_ADOPTED_SEQUENCE and kind is IncidentNotificationKind.RESOLVED:
        return notification_id_of(incident.dedup_key, NotifiedState.RESOLVED)
    return incident_notification_id_of(incident.id, sequence)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverMessage:
    """What several receivers are notified of alike, before it is known how many there are of each message."""

    kind: IncidentNotificationKind
    reason: NotifyReason
    comment: str
    alert_id: str
    new_alerts: int
    ended_alerts: int
    bundle: AlertBundle
    is_flapping: bool
    # The file decides by the alert: its notifications name no receiver, and are records of their own.
    is_by_file: bool
    # The zone in which times are written to them.
    time_zone: str
    # The step of an escalation that it belongs to.
    step: EscalationMessage | None

    def notification(
        self, incident: Incident, receivers: Sequence[str], *, sequence: int, now: datetime
    ) -> IncidentNotification:
        """Return the message to some receivers of it, at its place among the notifications of the incident."""
        return IncidentNotification(
            id=notification_id_in(incident, self.kind, sequence),
            kind=self.kind,
            receivers=() if self.is_by_file else tuple(receivers),
            incident=incident,
            alert_id=self.alert_id,
            sequence=sequence,
            reason=self.reason,
            comment=self.comment,
            create_time=now,
            new_alerts=self.new_alerts,
            ended_alerts=self.ended_alerts,
            bundle=self.bundle,
            is_flapping=self.is_flapping,
            time_zone=self.time_zone,
        )


def notified_entry(notification: IncidentNotification, now: datetime) -> IncidentHistoryEntry:
    """Return the entry of a notification."""
    incident, kind = notification.incident, IncidentHistoryKind.NOTIFIED
    return IncidentHistoryEntry(
        id=incident_history_id_of(incident.id, kind, notification.id),
        incident_id=incident.id,
        kind=kind,
        create_time=now,
        alert_id=notification.alert_id,
        comment=notification.comment,
        notified_kind=notification.kind,
        receivers=notification.receivers,
        notification_id=notification.id,
        decided_by=notification.reason.value,
        bundle=notification.bundle.without(notification.alert_id),
    )


def entries_of_delivery(entry: AlertHistoryEntry, bundle: AlertBundle) -> list[AlertHistoryEntry]:
    """Return the entry of the alert that a notification is about, and those of the others that it tells of.

    A delivery that failed has told of none.
    """
    if entry.kind is not AlertHistoryKind.NOTIFIED:
        return [entry]
    bundled = [(alert_id, NotifiedState.FIRING) for alert_id in bundle.fired]
    bundled += [(alert_id, NotifiedState.RESOLVED) for alert_id in bundle.ended]
    others = [
        replace(
            entry,
            id=history_id_of(alert_id, AlertHistoryKind.NOTIFIED, entry.id),
            alert_id=alert_id,
            comment="; ".join(part for part in (entry.comment, "in a bundle") if part),
            notified_state=state,
        )
        for alert_id, state in bundled
    ]
    return [entry, *others]


def step_entry(incident: Incident, decided_by: str, comment: str, now: datetime) -> IncidentHistoryEntry:
    """Return the entry of a step of an escalation that began, or was passed over."""
    kind = IncidentHistoryKind.ESCALATED
    return IncidentHistoryEntry(
        id=incident_history_id_of(incident.id, kind, decided_by, now.isoformat(), comment),
        incident_id=incident.id,
        kind=kind,
        create_time=now,
        comment=comment,
        decided_by=decided_by,
    )


def failed_entry(incident: Incident, notification_id: str, now: datetime) -> IncidentHistoryEntry:
    """Return the entry of a notification that has reached nobody."""
    kind = IncidentHistoryKind.NOTIFICATION_FAILED
    return IncidentHistoryEntry(
        id=incident_history_id_of(incident.id, kind, notification_id),
        incident_id=incident.id,
        kind=kind,
        create_time=now,
        comment="a notification has reached none of its receivers",
        notification_id=notification_id,
    )


def flapping_entry(
    incident: Incident, key: tuple[str, str], settings: FlappingSettings, now: datetime
) -> IncidentHistoryEntry:
    """Return the entry of a rule that begins to flap for a resource."""
    of_key = [alert for alert in incident.alerts.values() if flap_key(alert) == key]
    last = max(of_key, key=lambda alert: (alert.fire_time, alert.id))
    kind, minutes = IncidentHistoryKind.FLAPPING, settings.span.total_seconds() / 60
    return IncidentHistoryEntry(
        id=incident_history_id_of(incident.id, kind, last.id),
        incident_id=incident.id,
        kind=kind,
        create_time=now,
        alert_id=last.id,
        comment=f"fired {settings.count} times or more within {minutes:g} minutes",
    )
