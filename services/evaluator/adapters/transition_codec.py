"""Encode transitions and window states; decode window states."""

from google.protobuf.message import DecodeError

from services.contract.timestamps import nanoseconds_of, timestamp_of_nanoseconds
from services.domain.severity import Severity
from services.evaluator.adapters.partial_codec import MalformedError, sample_message, sample_of
from services.evaluator.core.records import Transition, TransitionReason, TransitionState, WindowResult
from tocsin.alerts.v1 import alert_pb2
from tocsin.evaluation.v1 import partial_pb2
from tocsin.rules.v1 import alert_rule_pb2


def encode_transition(transition: Transition) -> bytes:
    """Encode a transition as the value of a record on `alerts`."""
    return _message(transition).SerializeToString()


def encode_state(transition: Transition) -> bytes:
    """Encode a group's last transition as the value of a record on `window-state`."""
    return partial_pb2.WindowState(
        rule_id=transition.rule_id,
        selection_revision=transition.selection_revision,
        group=transition.group,
        transition=_message(transition),
    ).SerializeToString()


def decode_state(value: bytes) -> Transition:
    """Decode a group's last transition; raises MalformedError."""
    try:
        state = partial_pb2.WindowState.FromString(value)
        message = state.transition
        return Transition(
            id=message.id,
            state=TransitionState(message.state),
            reason=TransitionReason.RESTORED,
            rule_id=state.rule_id,
            selection_revision=state.selection_revision,
            rule_revision=message.rule_revision,
            rule_name=message.rule_name,
            description=message.description,
            severity=Severity(message.severity),
            resource=message.resource,
            group=tuple(state.group),
            group_fields=dict(message.group),
            labels=dict(message.labels),
            fingerprint=message.fingerprint,
            window=_window(message.window),
            first_window_ns=nanoseconds_of(message.first_window_time),
            samples=tuple(sample_of(sample) for sample in message.samples),
            created_ns=nanoseconds_of(message.create_time),
        )
    except (DecodeError, ValueError) as error:
        raise MalformedError(str(error)) from None


def _message(transition: Transition) -> alert_pb2.AlertTransition:
    return alert_pb2.AlertTransition(
        id=transition.id,
        state=alert_pb2.AlertTransition.State.ValueType(transition.state.value),
        fingerprint=transition.fingerprint,
        rule_id=transition.rule_id,
        rule_revision=transition.rule_revision,
        rule_name=transition.rule_name,
        description=transition.description,
        severity=alert_rule_pb2.AlertRule.Severity.ValueType(transition.severity),
        resource=transition.resource,
        group=transition.group_fields,
        labels=transition.labels,
        window=_window_message(transition.window),
        first_window_time=timestamp_of_nanoseconds(transition.first_window_ns),
        samples=[sample_message(sample) for sample in transition.samples],
        create_time=timestamp_of_nanoseconds(transition.created_ns),
        selection_revision=transition.selection_revision,
    )


def _window_message(window: WindowResult) -> alert_pb2.WindowResult:
    return alert_pb2.WindowResult(
        start_time=timestamp_of_nanoseconds(window.start_ns),
        end_time=timestamp_of_nanoseconds(window.end_ns),
        count=window.count,
        total=window.total,
        sum=window.sum,
        avg=window.avg,
        min=window.min,
        max=window.max,
        condition=window.condition,
        threshold=window.threshold,
        last_event_time=None if window.last_event_ns is None else timestamp_of_nanoseconds(window.last_event_ns),
    )


def _window(message: alert_pb2.WindowResult) -> WindowResult:
    return WindowResult(
        start_ns=nanoseconds_of(message.start_time),
        end_ns=nanoseconds_of(message.end_time),
        count=message.count,
        total=message.total,
        sum=message.sum,
        avg=message.avg if message.HasField("avg") else None,
        min=message.min if message.HasField("min") else None,
        max=message.max if message.HasField("max") else None,
        condition=message.condition,
        threshold=message.threshold,
        last_event_ns=nanoseconds_of(message.last_event_time) if message.HasField("last_event_time") else None,
    )
