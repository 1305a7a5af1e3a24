"""Rows of alerts, their history and the processed transitions, as values and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from asyncpg import Record

from services.chassis.postgres_arrays import array_text
from services.domain.severity import Severity
from services.manager.core.alert import Alert, AlertHistoryEntry, AlertHistoryKind, AlertSubject, NotifiedState
from services.manager.core.alert_lifecycle import AlertState, AlertStatus, Evaluation, Fired
from services.manager.core.transitions import ReceivedTransition
from services.manager.messages.alerts import derived_labels

ALERT_COLUMNS = """
    id, fingerprint, state, severity, rule_id, rule_name, description, resource, evidence, fire_time,
    acknowledge_time, acknowledged_by, resolve_time, resolved_by, superseded_by, repeat_count, last_episode,
    last_selection, last_revision, last_firing_time, version, update_time, open_key, labels,
    silenced_by, is_notified
"""
HISTORY_COLUMNS = (
    "id, alert_id, kind, create_time, actor, comment, channel, trace_id, recipient, notified_state, notification_id"
)


def alert_of(row: Record) -> Alert:
    """Return an alert from ALERT_COLUMNS."""
    severity = Severity[row["severity"]]
    last_firing = Evaluation(
        episode=row["last_episode"],
        selection_revision=row["last_selection"],
        rule_revision=row["last_revision"],
        time=row["last_firing_time"],
        severity=severity,
    )
    subject = AlertSubject(
        open_key=row["open_key"],
        fingerprint=row["fingerprint"],
        severity=severity,
        rule_id=row["rule_id"],
        rule_name=row["rule_name"],
        description=row["description"],
        resource=row["resource"],
        evidence=row["evidence"],
        labels=labels_of_row(row),
    )
    return Alert(
        id=row["id"],
        subject=subject,
        status=AlertStatus(state=AlertState(row["state"]), last_firing=last_firing, repeat_count=row["repeat_count"]),
        fire_time=row["fire_time"],
        update_time=row["update_time"],
        version=row["version"],
        acknowledge_time=row["acknowledge_time"],
        acknowledged_by=row["acknowledged_by"],
        resolve_time=row["resolve_time"],
        resolved_by=row["resolved_by"],
        superseded_by=row["superseded_by"],
        silenced_by=tuple(row["silenced_by"]),
        is_notified=row["is_notified"],
    )


def labels_of_row(row: Record) -> dict[str, str]:
    """Return the labels of an alert; rows of the former release have none, but theirs follow from the evidence."""
    if row["labels"] is None:
        return derived_labels(row["rule_name"], Severity[row["severity"]], row["evidence"])
    labels: dict[str, str] = msgspec.json.decode(row["labels"])
    return labels


def alert_row(alert: Alert) -> tuple[Any, ...]:
    """Return the values of ALERT_COLUMNS."""
    subject, status = alert.subject, alert.status
    return (
        alert.id,
        subject.fingerprint,
        status.state.value,
        subject.severity.name,
        subject.rule_id,
        storable(subject.rule_name),
        storable(subject.description),
        storable(subject.resource),
        subject.evidence,
        alert.fire_time,
        alert.acknowledge_time,
        storable(alert.acknowledged_by),
        alert.resolve_time,
        storable(alert.resolved_by),
        alert.superseded_by,
        status.repeat_count,
        status.last_firing.episode,
        status.last_firing.selection_revision,
        status.last_firing.rule_revision,
        status.last_firing.time,
        alert.version,
        alert.update_time,
        subject.open_key,
        labels_text(subject.labels),
        array_text(alert.silenced_by),
        alert.is_notified,
    )


def history_entry_of(row: Record) -> AlertHistoryEntry:
    """Return a history entry from HISTORY_COLUMNS."""
    return AlertHistoryEntry(
        id=row["id"],
        alert_id=row["alert_id"],
        kind=AlertHistoryKind(row["kind"]),
        create_time=row["create_time"],
        actor=row["actor"],
        comment=row["comment"],
        channel=row["channel"],
        trace_id=row["trace_id"],
        recipient=row["recipient"],
        notified_state=NotifiedState(row["notified_state"]) if row["notified_state"] else None,
        notification_id=row["notification_id"],
    )


def history_row(entry: AlertHistoryEntry) -> tuple[Any, ...]:
    """Return the values of HISTORY_COLUMNS."""
    return (
        entry.id,
        storable(entry.alert_id),
        entry.kind.value,
        entry.create_time,
        storable(entry.actor),
        storable(entry.comment),
        storable(entry.channel),
        entry.trace_id,
        storable(entry.recipient),
        entry.notified_state.value if entry.notified_state else "",
        storable(entry.notification_id),
    )


def evaluation_of(row: Record) -> Evaluation:
    """Return the evaluation of a processed transition."""
    return Evaluation(
        episode=row["episode"],
        selection_revision=row["selection"],
        rule_revision=row["revision"],
        time=row["decide_time"],
        severity=Severity[row["severity"]],
    )


def transition_row(transition: ReceivedTransition) -> tuple[Any, ...]:
    """Return id, fingerprint, state, episode, selection, revision, decide_time, severity and open_key."""
    evaluation = transition.evaluation
    return (
        *transition.key,
        "FIRING" if isinstance(transition.observation, Fired) else "RESOLVED",
        evaluation.episode,
        evaluation.selection_revision,
        evaluation.rule_revision,
        evaluation.time,
        evaluation.severity.name,
        transition.open_key,
    )


def columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Return rows as columns, the form of unnest's arguments; there must be at least one row."""
    return [list(column) for column in zip(*rows, strict=True)]


def labels_text(labels: Mapping[str, str]) -> str:
    """Return labels as JSON that PostgreSQL stores."""
    return msgspec.json.encode(storable_labels(labels)).decode()


def storable_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels whose names and values PostgreSQL stores."""
    return {storable(name): storable(value) for name, value in labels.items()}


def storable(text: str) -> str:
    """Return the text with U+FFFD for each NUL, which PostgreSQL does not store; log lines may contain it."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
