"""A refusal says what was expected and what was found, however the event came."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.ingest.adapters.wire import ProtobufWire
from services.ingest.core.event_checker import EventChecker
from services.ingest.core.field_checks import EventField, Limits
from services.ingest.core.refusals import FoundValues, reason_of
from tests.fakes.log_events import NOW, an_event
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent

LIMITS = Limits(
    max_batch_events=9, max_request_bytes=2**20, max_message_bytes=64, max_attributes=2, max_record_bytes=2000
)
TIME = "expected a time with its zone, from 1970 to ten minutes ahead of now, found"
LEVEL = "expected one of TRACE, DEBUG, INFO, WARN, ERROR, FATAL, found"
LATE = datetime(2026, 3, 1, 12, 10, 1, 500_000, tzinfo=UTC)


def reason(event: LogEvent, found_values: FoundValues) -> str:
    """Return the only reason for which the second of three events is refused."""
    columns = ProtobufWire().read_events(LogBatch(events=[an_event(), event, an_event()]).SerializeToString())
    checker = EventChecker(LIMITS)
    (failed,) = checker.check_sizes(checker.check(columns, NOW), columns).failed_checks()
    return reason_of(failed, columns, found_values)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (an_event(service=""), "expected 1 to 256 characters, found nothing"),
        (an_event(service="é" * 257), "expected 1 to 256 characters, found 257 characters"),
        (an_event(message=""), "expected 1 to 64 bytes, found nothing"),
        (an_event(message="é" * 33), "expected 1 to 64 bytes, found 66 bytes"),
        (an_event(level=0), f"{LEVEL} nothing"),
        (an_event(level=9), f"{LEVEL} 9"),
        (an_event(level=-1), f"{LEVEL} -1"),
        (an_event(event_time=LATE), f"{TIME} 2026-03-01T12:10:01.500000Z"),
        (an_event(event_time=LATE + timedelta(seconds=0.5)), f"{TIME} 2026-03-01T12:10:02Z"),
        (an_event(event_time=Timestamp(seconds=-5)), f"{TIME} one before 1970, after 2261 or not valid"),
        (an_event(event_time=Timestamp(nanos=-1)), f"{TIME} one before 1970, after 2261 or not valid"),
        (an_event(event_time=Timestamp(seconds=2**40)), f"{TIME} one before 1970, after 2261 or not valid"),
        (
            an_event(attributes={"a": "x" * 1000, "b": "x" * 1000}),
            "expected at most 2000 bytes in all, found 2096 bytes",
        ),
    ],
)
def test_what_was_found_is_read_from_the_columns(event: LogEvent, text: str) -> None:
    assert reason(event, {}) == text


def test_what_the_reader_found_goes_first() -> None:
    known = {(1, EventField.MESSAGE): "null", (0, EventField.MESSAGE): "a list", (1, EventField.SERVICE): "a map"}
    assert reason(an_event(message=""), known) == "expected 1 to 64 bytes, found null"
