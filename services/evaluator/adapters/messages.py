"""What the messages of several topics share: samples, and that bytes may be no message."""

from services.contract.timestamps import nanoseconds_of, timestamp_of_nanoseconds
from services.domain.level import Level
from services.evaluator.core.records import Sample
from tocsin.alerts.v1 import alert_pb2
from tocsin.logs.v1 import log_event_pb2


class MalformedError(Exception):
    """Bytes cannot be decoded as the expected message."""


def sample_message(sample: Sample) -> alert_pb2.SampleEvent:
    """Return a sample as a message."""
    return alert_pb2.SampleEvent(
        event_time=timestamp_of_nanoseconds(sample.event_ns),
        service=sample.service,
        level=log_event_pb2.LogEvent.Level.ValueType(sample.level or 0),
        message=sample.message,
        status_code=sample.status_code,
        response_time=sample.response_time,
        host=sample.host,
        trace_id=sample.trace_id,
        attributes=dict(sample.attributes),
    )


def sample_of(message: alert_pb2.SampleEvent) -> Sample:
    """Return a message as a sample."""
    return Sample(
        event_ns=nanoseconds_of(message.event_time),
        service=message.service,
        level=Level(message.level) if message.level else None,
        message=message.message,
        status_code=message.status_code if message.HasField("status_code") else None,
        response_time=message.response_time if message.HasField("response_time") else None,
        host=message.host,
        trace_id=message.trace_id,
        attributes=tuple(sorted(message.attributes.items())),
    )
