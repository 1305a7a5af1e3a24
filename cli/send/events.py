"""Events as they were read become events as they are sent."""

from datetime import timedelta

from cli.parsing.event import LineEvent
from services.contract.timestamps import timestamp_of
from tocsin.logs.v1.log_event_pb2 import LogEvent


def to_proto(event: LineEvent, *, shift: timedelta | None = timedelta()) -> LogEvent:
    """The contract's event; its time is moved by `shift`, or left to the time of arrival when that is None."""
    sent = LogEvent(
        record_id=event.record_id,
        service=event.service,
        level=LogEvent.Level.Name(event.level),  # type: ignore[arg-type]  # protobuf takes an enum's name as well
        message=event.message,
        host=event.host,
        trace_id=event.trace_id,
        attributes=event.attributes,
    )
    if event.status_code is not None:
        sent.status_code = event.status_code
    if event.response_time is not None:
        sent.response_time = event.response_time
    if event.event_time is not None and shift is not None:
        sent.event_time.CopyFrom(timestamp_of(event.event_time + shift))
    return sent
