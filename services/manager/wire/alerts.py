"""Alerts, their history and the evaluator's transitions on the wire."""

from services.contract.timestamps import datetime_of, timestamp_of
from services.domain.alert import Ended, Fired, State, Verdict
from services.domain.fingerprint import open_key
from services.domain.severity import Severity
from services.manager.core.alert import Alert, Entry, Notice, Subject, notification_id
from services.manager.core.commands.transitions import Transition
from tocsin.alerts.v1 import alert_pb2 as pb
from tocsin.notifications.v1 import notification_pb2
from tocsin.rules.v1 import alert_rule_pb2

_SEVERITIES = {int(severity) for severity in Severity}


class UnusableRecordError(ValueError):
    """A record that decodes but lacks what the manager cannot do without."""


def transition(message: pb.AlertTransition) -> Transition:
    """The evaluator's word as a value. Raises UnusableRecordError naming the first field that is missing."""
    for field in ("id", "fingerprint", "rule_id"):
        if not getattr(message, field):
            raise UnusableRecordError(f"{field} is missing")
        if "\0" in getattr(message, field):
            raise UnusableRecordError(f"{field} has the character NUL")
    if message.severity not in _SEVERITIES:
        raise UnusableRecordError("severity is missing")
    subject = Subject(
        open_key=open_key(rule_id=message.rule_id, resource=message.resource),
        fingerprint=message.fingerprint,
        severity=Severity(message.severity),
        rule_id=message.rule_id,
        rule_name=message.rule_name,
        description=message.description,
        resource=message.resource,
        evidence=_evidence(message),
    )
    return Transition(id=message.id, subject=subject, word=_word(message))


def alert(found: Alert) -> pb.Alert:
    """An alert as clients see it."""
    subject = found.subject
    message = pb.Alert.FromString(subject.evidence)
    message.MergeFrom(
        pb.Alert(
            id=found.id,
            fingerprint=subject.fingerprint,
            state=pb.Alert.State.Value(found.life.state.value),
            severity=alert_rule_pb2.AlertRule.Severity.ValueType(subject.severity),
            rule_id=subject.rule_id,
            rule_name=subject.rule_name,
            description=subject.description,
            resource=subject.resource,
            fire_time=timestamp_of(found.fire_time),
            acknowledge_time=timestamp_of(found.acknowledge_time),
            acknowledged_by=found.acknowledged_by,
            resolve_time=timestamp_of(found.resolve_time),
            resolved_by=found.resolved_by,
            superseded_by=found.superseded_by,
            repeat_count=found.life.repeat_count,
            etag=found.etag,
            update_time=timestamp_of(found.update_time),
        )
    )
    return message


def entry(found: Entry) -> pb.AlertHistoryEntry:
    """A line of history as clients see it."""
    return pb.AlertHistoryEntry(
        id=found.id,
        kind=pb.AlertHistoryEntry.Kind.Value(found.kind.value),
        create_time=timestamp_of(found.create_time),
        actor=found.actor,
        comment=found.comment,
        channel=found.channel,
        trace_id=found.trace_id,
    )


def notification(found: Alert, notice: Notice) -> notification_pb2.Notification:
    """What the notifier is to tell about an alert."""
    return notification_pb2.Notification(
        id=notification_id(found.id, notice),
        kind=notification_pb2.Notification.Kind.Value(notice.value),
        alert=alert(found),
        create_time=timestamp_of(found.update_time),
    )


def state(value: pb.Alert.State.ValueType) -> State:
    """A state of the contract. Raises ValueError for the unspecified and for unknown ones."""
    return State(pb.Alert.State.Name(value))


def _evidence(message: pb.AlertTransition) -> bytes:
    shown = pb.Alert(group=message.group, labels=message.labels, samples=message.samples)
    if message.HasField("window"):
        shown.window.CopyFrom(message.window)
    return shown.SerializeToString(deterministic=True)


def _word(message: pb.AlertTransition) -> Fired | Ended:
    if not message.HasField("first_window_time"):
        raise UnusableRecordError("first_window_time is missing")
    try:
        verdict = Verdict(
            episode=datetime_of(message.first_window_time),
            selection=message.selection_revision,
            revision=message.rule_revision,
            time=datetime_of(message.create_time),
            severity=Severity(message.severity),
        )
    except ValueError as error:
        raise UnusableRecordError("first_window_time or create_time is out of range") from error
    match message.state:
        case pb.AlertTransition.FIRING:
            return Fired(verdict)
        case pb.AlertTransition.RESOLVED:
            return Ended(verdict)
        case _:
            raise UnusableRecordError("state is missing")
