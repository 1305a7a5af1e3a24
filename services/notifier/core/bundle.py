"""What a bundle of held notifications says: one line for each alert or incident, the most severe first."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.notifier.core.notification import NotificationContent, NotificationIncidentAlert, NotificationKind

# What a bundle is about begins with this: it is neither an alert nor an incident.
BUNDLE_PREFIX = "bundle/"
_NOTICE = "notification-limit/"
# A message shows fewer; the others are counted.
_MAX_ALERTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleContent:
    """What is in a bundle, in short; `leading` stands for it where one alert is expected."""

    title: str
    leading: NotificationContent
    alerts: tuple[NotificationIncidentAlert, ...]
    subject_count: int
    open_count: int
    services: tuple[str, ...]


def bundle_subject(notification_id: object) -> str:
    """Return what receivers see as one thing: each bundle is one of its own, so that none takes another's place."""
    return f"{BUNDLE_PREFIX}{notification_id}"


def is_bundle(subject_id: str) -> bool:
    """Return whether a delivery is a bundle."""
    return subject_id.startswith(BUNDLE_PREFIX)


def notice_subject(tenant: str, number: int) -> str:
    """Return the subject of the notice that a tenant has reached its limit, and of its end."""
    return f"{_NOTICE}{tenant}/{number}"


def is_notice(subject_id: str) -> bool:
    """Return whether a delivery is such a notice: no alert's history has it."""
    return subject_id.startswith(_NOTICE)


def bundle_of(held: Sequence[NotificationContent]) -> BundleContent:
    """Return what a bundle of at least one held notification says. Of a subject the last one counts."""
    last: dict[str, NotificationContent] = {}
    for notification in sorted(held, key=lambda each: each.sequence):
        last[notification.subject_id] = notification
    subjects = sorted(last.values(), key=lambda each: (_has_ended(each), -each.severity, each.fire_time))
    alerts = tuple(_alert(each) for each in subjects)
    count = len(subjects)
    return BundleContent(
        title=f"{count} {'alert was' if count == 1 else 'alerts were'} held back by the limit of notifications",
        leading=subjects[0],
        alerts=alerts[:_MAX_ALERTS],
        subject_count=count,
        open_count=sum(not _has_ended(each) for each in subjects),
        services=tuple(dict.fromkeys(alert.service for alert in alerts if alert.service)),
    )


def _has_ended(notification: NotificationContent) -> bool:
    return notification.kind is NotificationKind.RESOLVED


def _alert(notification: NotificationContent) -> NotificationIncidentAlert:
    incident = notification.incident
    return NotificationIncidentAlert(
        alert_id=notification.alert_id,
        rule=incident.title if incident and incident.title else notification.rule,
        resource=notification.resource,
        service=notification.service.name if notification.service else notification.group.get("service", ""),
        severity=notification.severity.name,
        state="FIRING" if notification.kind is NotificationKind.UPDATED else notification.kind.name,
        fire_time=notification.fire_time,
    )
