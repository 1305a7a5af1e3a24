"""The life of one incident, minute by minute, and of what its receivers are notified."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from services.domain.severity import Severity
from services.manager.core.flapping import FlappingSettings
from services.manager.core.incident import (
    Correlation,
    Incident,
    IncidentAlert,
    IncidentNotification,
    WithheldReason,
    Withholding,
)
from services.manager.core.incident_changes import (
    IncidentChange,
    IncidentReason,
    end_alert,
    join,
    open_incident,
)
from services.manager.core.incident_notifications import (
    NotificationContext,
    plan_notifications,
)
from services.manager.core.routing_tree import AlertRoute

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
CONTEXT = NotificationContext(flapping=FlappingSettings(count=3, span=timedelta(minutes=30)))
SETTLE = timedelta(minutes=2)
MINUTE = timedelta(minutes=1)
SLACK = AlertRoute(path="root/0", receivers=("slack",))
PAGER = AlertRoute(path="root/1", receivers=("pager", "slack"))
SILENCED = (Withholding(reason=WithheldReason.SILENCED, by="s"),)


def at(minute: float) -> datetime:
    return NOW + minute * MINUTE


def alert(
    name: str,
    *routes: AlertRoute,
    minute: float = 0,
    severity: Severity = Severity.MEDIUM,
    withheld_by: tuple[Withholding, ...] = (),
    file_route: str = "",
    resource: str = "",
) -> IncidentAlert:
    return IncidentAlert(
        id=name,
        rule_name="rule",
        service="shop",
        resource=resource or name,
        severity=severity,
        labels={},
        fire_time=at(minute),
        routes=routes or (SLACK,),
        withheld_by=withheld_by,
        file_route=file_route,
    )


class Story:
    """One incident, step by step, and what receivers were notified of."""

    def __init__(self, first: IncidentAlert | Incident, minute: float = 0) -> None:
        self.minute = minute
        self.notified: list[IncidentNotification] = []
        opened = first if isinstance(first, Incident) else open_incident(first, now=at(minute)).incident
        self.incident = opened
        self.plan()

    def plan(self, minute: float | None = None) -> list[str]:
        """Notify; return what, to whom."""
        self.minute = self.minute if minute is None else minute
        change = plan_notifications(self.incident, CONTEXT, now=at(self.minute))
        self.last = change
        self.incident = change.incident
        self.notified += change.notifications
        again = plan_notifications(self.incident, CONTEXT, now=at(self.minute))
        assert again.incident is self.incident
        assert again.reason is IncidentReason.NOT_DUE
        return described(change.notifications)

    def take(self, change: IncidentChange, minute: float | None = None) -> list[str]:
        self.incident = change.incident
        return self.plan(minute)

    def join(self, *alerts: IncidentAlert, minute: float | None = None) -> list[str]:
        self.minute = self.minute if minute is None else minute
        for each in alerts:
            self.incident = join(self.incident, each, Correlation(), now=at(self.minute)).incident
        return self.plan()

    def end(self, *names: str, minute: float | None = None) -> list[str]:
        self.minute = self.minute if minute is None else minute
        for name in names:
            self.incident = end_alert(self.incident, name, settle=SETTLE, now=at(self.minute)).incident
        return self.plan()

    @property
    def waits_until(self) -> float | None:
        time = self.incident.notify_time
        return None if time is None else (time - NOW) / MINUTE


def described(notifications: Iterable[IncidentNotification]) -> list[str]:
    return [
        f"{each.kind} {'+'.join(each.receivers) or 'file'} {each.alert_id}: {each.reason}" for each in notifications
    ]
