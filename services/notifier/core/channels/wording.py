"""An alert or an incident in words: plain text, which each channel escapes in its own way."""

import json
import re
from datetime import datetime, timedelta, tzinfo

from services.domain.links import is_link
from services.notifier.core.notification import (
    NotificationChange,
    NotificationContent,
    NotificationIncident,
    NotificationIncidentAlert,
    NotificationKind,
    NotificationSample,
    NotificationService,
)

JsonObject = dict[str, object]

_PLAIN = re.compile(r"[\w.:/@%+-]+")
# Before the name of an attribute in a rule's grouping.
_ATTRIBUTE = "attributes."
_MAX_SERVICE_TEXT = 1000
_MAX_SERVICES = 10
_MAX_ALERTS = 10
_MAX_ALERT_LINE = 200
_MAX_LINE = 800
_MINUTE = 60
_HOUR = 3600


def headline(notification: NotificationContent) -> str:
    """Return one line: how urgent it is, what happened, and the incident's title, or which rule and where."""
    kind, severity = notification.kind.name, notification.severity.name
    title = single_line(notification.incident.title) if notification.incident else ""
    title = title or f"{notification.rule} on {named_resource(notification)}"
    return single_line(f"[{severity}] {kind}: {title}")


def context_lines(notification: NotificationContent) -> tuple[str, ...]:
    """Return lines about the incident, the probable cause among them, and why its receivers are notified."""
    lines = [] if notification.incident is None else _incident_lines(notification.incident)
    if notification.reason:
        lines.append(f"Why you get this: {notification.reason}")
    return tuple(truncate(single_line(line), _MAX_LINE) for line in lines)


def leading_sections(notification: NotificationContent) -> list[str]:
    """Return texts of several lines, the most important first: incident and reason, its alerts, the description."""
    alerts = alert_lines(notification)
    sections = [
        "\n".join(context_lines(notification)),
        "\n".join(["Alerts:", *alerts] if alerts else []),
        multi_line(notification.description),
    ]
    return [section for section in sections if section]


def named_ids(notification: NotificationContent) -> list[tuple[str, str]]:
    """Return what the notification is about, with ids."""
    incident = [] if notification.incident is None else [("Incident", notification.incident.id)]
    return [*incident, ("Alert", notification.alert_id)]


def _incident_lines(incident: NotificationIncident) -> list[str]:
    services = ", ".join(incident.services[:_MAX_SERVICES])
    further = len(incident.services) - _MAX_SERVICES
    lines = [
        f"{_count(incident.alert_count, 'alert')}, {incident.open_alert_count} open"
        + (f", of {services}" if services else "")
        + (f" and {_count(further, 'other service')}" if further > 0 else "")
    ]
    if incident.new_alert_count or incident.ended_alert_count:
        lines.append(
            f"Since the last notification: {_count(incident.new_alert_count, 'new alert')},"
            f" {incident.ended_alert_count} ended"
        )
    if incident.cause is not None:
        reason = f": {incident.cause_reason}" if incident.cause_reason else ""
        # The reason is never cut because a resource is long.
        cause = truncate(single_line(f"{incident.cause.rule} on {incident.cause.resource}"), _MAX_ALERT_LINE)
        lines.append(f"Probable cause: {cause}{reason}")
    if incident.is_flapping:
        lines.append("It is flapping: it changes so often that only summaries are sent until that ends")
    if incident.assignee:
        lines.append(f"Assigned to {incident.assignee}")
    return lines


def alert_lines(notification: NotificationContent) -> tuple[str, ...]:
    """Return one line for each of the incident's most important alerts, and one that counts the others."""
    incident = notification.incident
    if incident is None:
        return ()
    shown = incident.alerts[:_MAX_ALERTS]
    lines = [truncate(_alert_line(alert, notification.zone), _MAX_ALERT_LINE) for alert in shown]
    if shown and incident.alert_count > len(shown):
        lines.append(f"and {incident.alert_count - len(shown)} more")
    return tuple(lines)


def _alert_line(alert: NotificationIncidentAlert, zone: tzinfo) -> str:
    since = format_time(alert.fire_time, zone)
    return single_line(f"{alert.severity} {alert.state} since {since}: {alert.rule} on {alert.resource}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def named_resource(notification: NotificationContent) -> str:
    """Return the resource with what it is, "user.tier=silver"; a service needs no such name."""
    match list(notification.group.items()):
        case [(name, value)] if name != "service":
            # Events without the field are a group as well.
            return f"{name.removeprefix(_ATTRIBUTE)}={value or '(none)'}"
        case _:
            return notification.resource


def facts(notification: NotificationContent) -> tuple[tuple[str, str], ...]:
    """Return names and values, the most important first."""
    pairs = [
        ("Rule", single_line(notification.rule)),
        ("Resource", single_line(named_resource(notification))),
        ("Severity", notification.severity.name),
    ]
    if owner := _owner(notification.service):
        pairs.append(("Owner", owner))
    if (window := notification.window) is not None:
        pairs += [
            ("Count", f"{window.count} of {window.total}"),
            ("Threshold", f"{window.threshold:g}"),
            ("Window", f"{format_duration(window.length)} from {format_time(window.start, notification.zone)}"),
        ]
        pairs += [("Condition", single_line(window.condition))] if window.condition else []
    pairs.append(("Fired", format_time(notification.fire_time, notification.zone)))
    if notification.kind is not NotificationKind.FIRING:
        by = f" by {single_line(notification.actor)}" if notification.actor else ""
        pairs.append(
            (notification.kind.name.capitalize(), format_time(notification.change_time, notification.zone) + by)
        )
    return tuple(pairs)


def plain_labels(notification: NotificationContent) -> str:
    """Return one line with the rule's labels that are no links, name=value; empty when there are none."""
    links = dict(label_links(notification))
    labels = [(name, value) for name, value in sorted(notification.labels.items()) if name not in links]
    return ", ".join(f"{single_line(name)}={single_line(value)}" for name, value in labels)


def links(notification: NotificationContent) -> tuple[tuple[str, str], ...]:
    """Return the names and addresses of all links: of the rule's labels, the service, the incident and the changes.

    What the rule links already is not linked again. Those who write rules, the catalog and changes have written these
    addresses; none that a log line names is ever made a link.
    """
    service = notification.service.links if notification.service else {}
    incident = notification.incident.links if notification.incident else {}
    changes = ((change_title(change), change.link) for change in _shown_changes(notification))
    found = list(label_links(notification))
    for name, address in (*sorted(service.items()), *sorted(incident.items()), *changes):
        if is_link(address) and all(address != other for _, other in found):
            found.append((name, address))
    return tuple(found)


def service_text(notification: NotificationContent) -> str:
    """Return one line that says what the service does; empty where that is not known."""
    service = notification.service
    if service is None or not service.description:
        return ""
    return truncate(single_line(f"{service.name}: {service.description}"), _MAX_SERVICE_TEXT)


def change_lines(notification: NotificationContent) -> tuple[str, ...]:
    """Return one line for each change before the cause or the alert fired: when, what, and by whom."""
    return tuple(
        single_line(
            f"{format_time(change.time, notification.zone)} {change_title(change)}"
            + (f" by {change.actor}" if change.actor else "")
        )
        for change in _shown_changes(notification)
    )


def _shown_changes(notification: NotificationContent) -> tuple[NotificationChange, ...]:
    """Return the changes before the incident's cause fired, or else before the alert did."""
    incident = notification.incident
    return incident.changes if incident is not None and incident.changes else notification.changes


def change_title(change: NotificationChange) -> str:
    """Return what was changed, such as "deployment of ledger 1.4.2"."""
    return single_line(f"{change.kind.lower().replace('_', ' ')} of {change.service} {change.version}")


def _owner(service: NotificationService | None) -> str:
    if service is None:
        return ""
    tier = f"tier {service.tier}" if service.tier else ""
    return single_line(", ".join(part for part in (service.owner, tier) if part))


def label_links(notification: NotificationContent) -> tuple[tuple[str, str], ...]:
    """Return the names and addresses of the rule's labels that are links, such as a runbook.

    Labels are written by those who write rules; no address that a log line names is ever made a link.
    """
    return tuple((name, value) for name, value in sorted(notification.labels.items()) if is_link(value))


def sample_source(sample: NotificationSample, zone: tzinfo) -> str:
    """Return one line that says where a sample event comes from, without its text and attributes."""
    parts = [format_time(sample.time, zone), sample.level, sample.service, sample.host]
    trace = f"trace {sample.trace_id}" if sample.trace_id else "no trace id"
    return single_line(" ".join(part for part in [*parts, trace] if part))


def format_attributes(sample: NotificationSample) -> str:
    """Return one line with a sample event's attributes, name=value; what could be misread is in quotation marks."""
    pairs = sorted(sample.attributes.items())
    return " ".join(f"{_quoted_if_odd(name)}={_quoted_if_odd(value)}" for name, value in pairs)


def _quoted_if_odd(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(single_line(text), ensure_ascii=False)


def format_time(time: datetime, zone: tzinfo) -> str:
    """Format a time as 2026-01-02 03:04:05 UTC."""
    return time.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def format_duration(duration: timedelta) -> str:
    """Format a duration as 5 min, 90 s or 2 h."""
    seconds = int(duration.total_seconds())
    if seconds >= _HOUR and seconds % _HOUR == 0:
        return f"{seconds // _HOUR} h"
    if seconds >= _MINUTE and seconds % _MINUTE == 0:
        return f"{seconds // _MINUTE} min"
    return f"{seconds} s"


def single_line(text: str) -> str:
    """Replace line breaks and other control characters, so that the text is one line."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def multi_line(text: str) -> str:
    """Replace control characters other than line breaks and tabs."""
    return "".join(char if char.isprintable() or char in "\n\t" else " " for char in text)


def truncate(text: str, limit: int) -> str:
    """Return the text; its beginning and an ellipsis when it is longer than `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
