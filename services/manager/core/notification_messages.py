"""What receivers of an incident are notified of, before it is known how many there are of each message."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.manager.core.escalation import EscalationMessage
from services.manager.core.incident import (
    AlertBundle,
    Incident,
    IncidentNotification,
    IncidentNotificationKind,
    NotifyReason,
)
from services.manager.core.notification_entries import notification_id_in


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverMessage:
    """What several receivers are notified of alike."""

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
