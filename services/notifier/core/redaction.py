"""Masks the secrets in a notification: what comes from logs, rules and the catalog, in one scan of all of it.

Ids stay, by which channels and people recognise what belongs together, and so do the names of those who acted and of
those who are notified, and why they are.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from services.notifier.core.notification import (
    NotificationChange,
    NotificationContent,
    NotificationIncident,
    NotificationIncidentAlert,
    NotificationSample,
    NotificationService,
)
from services.redaction.named_texts import NamedText, RedactTexts

# Gets a text and its key, and returns what takes its place.
_Change = Callable[[str, str], str]


def redact_content(content: NotificationContent, redact: RedactTexts) -> tuple[NotificationContent, Mapping[str, int]]:
    """Return the notification without secrets, and in how many texts something with each name was masked.

    It is the very same one where nothing was.
    """
    texts: list[NamedText] = []

    def collect(text: str, key: str) -> str:
        texts.append(NamedText(text, key))
        return text

    _changed(content, collect)
    redacted = redact(texts)
    if not redacted.value_counts:
        return content, {}
    # The second walk meets the texts in the order of the first.
    left = iter(redacted.texts)
    return _changed(content, lambda _text, _key: next(left)), redacted.value_counts


def _changed(content: NotificationContent, change: _Change) -> NotificationContent:
    window = content.window
    return replace(
        content,
        rule=change(content.rule, ""),
        description=change(content.description, ""),
        resource=change(content.resource, ""),
        group=_values(content.group, change),
        labels=_values(content.labels, change),
        window=None if window is None else replace(window, condition=change(window.condition, "")),
        samples=tuple(_sample(sample, change) for sample in content.samples),
        service=None if content.service is None else _service(content.service, change),
        changes=tuple(_related_change(each, change) for each in content.changes),
        incident=None if content.incident is None else _incident(content.incident, change),
    )


def _values(mapping: Mapping[str, str], change: _Change) -> dict[str, str]:
    return {key: change(value, key) for key, value in mapping.items()}


def _sample(sample: NotificationSample, change: _Change) -> NotificationSample:
    return replace(
        sample,
        service=change(sample.service, ""),
        host=change(sample.host, ""),
        text=change(sample.text, ""),
        attributes=_values(sample.attributes, change),
    )


def _service(service: NotificationService, change: _Change) -> NotificationService:
    return replace(
        service,
        name=change(service.name, ""),
        description=change(service.description, ""),
        links=_values(service.links, change),
    )


def _related_change(related: NotificationChange, change: _Change) -> NotificationChange:
    return replace(
        related,
        service=change(related.service, ""),
        version=change(related.version, ""),
        link=change(related.link, ""),
    )


def _incident(incident: NotificationIncident, change: _Change) -> NotificationIncident:
    cause = incident.cause
    return replace(
        incident,
        title=change(incident.title, ""),
        services=tuple(change(service, "") for service in incident.services),
        alerts=tuple(_alert(alert, change) for alert in incident.alerts),
        cause=None if cause is None else _alert(cause, change),
        cause_reason=change(incident.cause_reason, ""),
        links=_values(incident.links, change),
        changes=tuple(_related_change(each, change) for each in incident.changes),
    )


def _alert(alert: NotificationIncidentAlert, change: _Change) -> NotificationIncidentAlert:
    return replace(
        alert,
        rule=change(alert.rule, ""),
        resource=change(alert.resource, ""),
        service=change(alert.service, ""),
    )
