"""`alerts`, for writing: the transitions of groups."""

from collections.abc import Sequence

from services.chassis.kafka import OutgoingRecord, Producer, produce_all
from services.contract.timestamps import timestamp_of_nanoseconds
from services.contract.topics import ALERTS
from services.domain.fingerprint import open_key
from services.domain.tenants import write_tenant
from services.domain.trace_context import headers_of
from services.evaluator.adapters.messages import sample_message
from services.evaluator.core.records import Transition, WindowResult
from tocsin.alerts.v1 import alert_pb2
from tocsin.rules.v1 import alert_rule_pb2


class KafkaTransitionSink:
    """`alerts`, keyed by rule and resource; each transition carries its own trace."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def send(self, transitions: Sequence[Transition]) -> None:
        await produce_all(
            self._producer,
            (
                OutgoingRecord(
                    ALERTS,
                    encode_transition(transition),
                    # Without the severity: the transitions of a group stay in order when it is edited.
                    key=open_key(rule_id=transition.rule_id, resource=transition.resource).encode(),
                    headers=headers_of(transition.traceparent),
                )
                for transition in transitions
            ),
        )


def encode_transition(transition: Transition) -> bytes:
    """Encode a transition as the value of a record on `alerts`."""
    return transition_message(transition).SerializeToString()


def transition_message(transition: Transition) -> alert_pb2.AlertTransition:
    """Return a transition as a message."""
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
        tenant=write_tenant(transition.tenant),
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
