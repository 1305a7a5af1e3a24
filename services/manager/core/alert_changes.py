"""A change of one alert: the row after it, and the entries of its history. Its incident notifies receivers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from services.manager.core.alert import (
    Alert,
    AlertHistoryEntry,
    AlertHistoryKind,
    AlertSubject,
    alert_id_of,
    history_id_of,
)
from services.manager.core.alert_lifecycle import (
    AlertAction,
    AlertReason,
    AlertState,
    AlertStatus,
    Evaluation,
    apply_action,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertChange:
    """What one step of one alert writes, in one transaction."""

    alert: Alert
    history: tuple[AlertHistoryEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertCommand:
    """What a person, or the system when `actor` is empty, does to an alert."""

    action: AlertAction
    actor: str = ""
    comment: str = ""


# The ids of the silences that hold of an alert with this id and these labels.
Silencing = Callable[[str, Mapping[str, str]], tuple[str, ...]]


def nothing_silenced(_alert_id: str, _labels: Mapping[str, str]) -> tuple[str, ...]:
    """Say that no silence holds."""
    return ()


def open_alert(
    subject: AlertSubject,
    transition_id: str,
    status: AlertStatus,
    *,
    now: datetime,
    silencing: Silencing = nothing_silenced,
) -> AlertChange:
    """Open a new alert, which may be silenced."""
    fire_time = status.last_firing.time
    alert_id = alert_id_of(fingerprint=subject.fingerprint, transition_id=transition_id)
    silenced_by = silencing(alert_id, subject.labels)
    alert = Alert(
        id=alert_id,
        subject=subject,
        status=status,
        fire_time=fire_time,
        update_time=now,
        silenced_by=silenced_by,
    )
    entry = _entry(alert, AlertHistoryKind.FIRED, fire_time)
    silenced = _silenced_entries(alert, silenced_by, fire_time)
    return AlertChange(alert=alert, history=(entry, *silenced))


def silence(alert: Alert, silenced_by: tuple[str, ...], *, now: datetime) -> AlertChange | None:
    """Take over which silences hold of an open alert; None when nothing changes."""
    if silenced_by == alert.silenced_by:
        return None
    new = tuple(each for each in silenced_by if each not in alert.silenced_by)
    after = replace(_next_version(alert, alert.status, now), silenced_by=silenced_by)
    return AlertChange(alert=after, history=_silenced_entries(after, new, now))


def repeat(
    alert: Alert, transition_id: str, status: AlertStatus, time: datetime, subject: AlertSubject, *, now: datetime
) -> AlertChange:
    """Count a firing while the alert is open."""
    entry = _entry(alert, AlertHistoryKind.REPEATED, time, transition_id)
    is_edited = status.last_firing.rule_revision > alert.status.last_firing.rule_revision
    after = replace(_next_version(alert, status, now), subject=subject if is_edited else alert.subject)
    return AlertChange(alert=after, history=(entry,))


def update(
    alert: Alert, transition_id: str, status: AlertStatus, subject: AlertSubject, *, now: datetime
) -> AlertChange:
    """Take over what was edited in the rule while the alert is open."""
    entry = _entry(alert, AlertHistoryKind.UPDATED, status.last_firing.time, transition_id)
    entry = replace(entry, comment=_difference(alert.subject, subject))
    return AlertChange(alert=replace(_next_version(alert, status, now), subject=subject), history=(entry,))


def supersede(alert: Alert, successor: str, time: datetime, *, now: datetime) -> AlertChange:
    """End the alert in favour of another one."""
    entry = replace(_entry(alert, AlertHistoryKind.SUPERSEDED, time), comment=f"by {successor}")
    status = replace(alert.status, state=AlertState.RESOLVED)
    after = replace(_next_version(alert, status, now), resolve_time=time, superseded_by=successor)
    return AlertChange(alert=after, history=(entry,))


def recover(
    alert: Alert, status: AlertStatus, evaluation: Evaluation, comment: str = "", *, now: datetime
) -> AlertChange:
    """End the alert because its condition no longer holds; the comment says what else there is to say of that."""
    entry = replace(_entry(alert, AlertHistoryKind.RESOLVED, evaluation.time), comment=comment)
    after = replace(_next_version(alert, status, now), resolve_time=evaluation.time)
    return AlertChange(alert=after, history=(entry,))


def apply_command(alert: Alert, command: AlertCommand, *, now: datetime) -> tuple[AlertChange | None, AlertReason]:
    """Return the change that a command makes and the reason; no change when the alert's state leaves none to make.

    A command that comes too late adds its comment to the history, and changes nothing else.
    """
    status, reason = apply_action(alert.status, command.action)
    if status == alert.status:
        is_comment = command.comment and reason in _TOO_LATE
        return AlertChange(alert=alert, history=(_command_entry(alert, command, now),)) if is_comment else None, reason
    after = _next_version(alert, status, now)
    if command.action is AlertAction.ACKNOWLEDGE:
        after = replace(after, acknowledge_time=now, acknowledged_by=command.actor)
    else:
        after = replace(after, resolve_time=now, resolved_by=command.actor)
    entry = _command_entry(alert, command, now)
    return AlertChange(alert=after, history=(entry,)), reason


# Somebody has done the same before.
_TOO_LATE = frozenset({AlertReason.ALREADY_ACKNOWLEDGED, AlertReason.ALREADY_RESOLVED})


def _command_entry(alert: Alert, command: AlertCommand, now: datetime) -> AlertHistoryEntry:
    """Return the entry of a command: a call that is repeated with the same words adds none."""
    is_acknowledged = command.action is AlertAction.ACKNOWLEDGE
    kind = AlertHistoryKind.ACKNOWLEDGED if is_acknowledged else AlertHistoryKind.RESOLVED
    entry = _entry(alert, kind, now, command.actor, command.comment)
    return replace(entry, actor=command.actor, comment=command.comment)


def _entry(alert: Alert, kind: AlertHistoryKind, time: datetime, *occasion: str) -> AlertHistoryEntry:
    return AlertHistoryEntry(
        id=history_id_of(alert.id, kind, *occasion), alert_id=alert.id, kind=kind, create_time=time
    )


def _silenced_entries(alert: Alert, silenced_by: tuple[str, ...], time: datetime) -> tuple[AlertHistoryEntry, ...]:
    """Return an entry for each silence that begins to hold; one that recurs may do so again."""
    entries = ((_entry(alert, AlertHistoryKind.SILENCED, time, each, str(alert.version)), each) for each in silenced_by)
    return tuple(replace(entry, comment=f"by {each}") for entry, each in entries)


def _difference(before: AlertSubject, after: AlertSubject) -> str:
    if before.severity is not after.severity:
        return f"severity {before.severity.name} to {after.severity.name}"
    return "the rule was edited"


def _next_version(alert: Alert, status: AlertStatus, now: datetime) -> Alert:
    return replace(alert, status=status, version=alert.version + 1, update_time=now)
