"""The columns' response is the response that a plain look at each event gives."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from services.contract.event_columns import EVENT_SCHEMA
from services.ingest.adapters.wire import ProtobufWire
from services.ingest.core.event_checker import CheckResult, EventChecker
from services.ingest.core.field_checks import EventField, Limits
from tests.fakes.log_events import NOW, allowed_events, an_event, any_events
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent

LIMITS = Limits(
    max_batch_events=100, max_request_bytes=2**20, max_message_bytes=64, max_attributes=2, max_record_bytes=20_000
)
WIRE = ProtobufWire()


def checked(events: Sequence[LogEvent], **limits: int) -> CheckResult:
    columns = WIRE.read_events(LogBatch(events=events).SerializeToString())
    checker = EventChecker(replace(LIMITS, **limits))
    return checker.check_sizes(checker.check(columns, NOW), columns)


def wrong_fields(event: LogEvent) -> Iterator[EventField]:
    """Check once more, field by field: what refuses the event."""
    ahead = (event.event_time.seconds, event.event_time.nanos)
    latest = NOW + timedelta(minutes=10) - datetime(1970, 1, 1, tzinfo=UTC)
    is_wrong = {
        EventField.EVENT_TIME: not (ahead[0] >= 0 and 0 <= ahead[1] < 10**9)
        or ahead > (latest // timedelta(seconds=1), latest.microseconds * 1000),
        EventField.SERVICE: not 1 <= len(event.service) <= 256,
        EventField.LEVEL: event.level not in range(1, 7),
        EventField.MESSAGE: not 1 <= len(event.message.encode()) <= 64,
    }
    yield from (field for field, wrong in is_wrong.items() if wrong)


def must_be_adjusted(event: LogEvent) -> bool:
    """Check once more, field by field: whether values are adjusted."""
    entries = event.attributes.items()
    return any(
        (
            len(event.record_id) > 128,
            event.HasField("status_code") and not 100 <= event.status_code <= 599,
            not math.isfinite(event.response_time) or event.response_time < 0,
            len(event.host) > 256,
            event.trace_id != "" and (len(event.trace_id) != 32 or not set(event.trace_id) <= set("0123456789abcdef")),
            len(entries) > 2 or any(not 1 <= len(k) <= 128 or len(v) > 1024 for k, v in entries),
        )
    )


GOOD = an_event()
BAD = an_event(service="")
ODD = an_event(status_code=1000)


@pytest.mark.parametrize(
    ("calls", "is_clean"),
    [
        pytest.param([[GOOD], [GOOD, GOOD]], [True, True], id="all as they should be"),
        pytest.param([[GOOD, BAD], [GOOD]], [False, True], id="one to refuse"),
        pytest.param([[GOOD], [GOOD, ODD]], [True, False], id="one to adjust"),
        pytest.param([[ODD], [GOOD], [BAD]], [False, True, False], id="one to adjust, one to refuse"),
        pytest.param([[], [BAD], [], [GOOD], []], [False, False, False, True, False], id="calls without events"),
        pytest.param([[GOOD] * 3, [GOOD] * 2], [False, True], id="too many events"),
    ],
)
def test_a_call_is_clean_when_its_own_events_are(calls: list[list[LogEvent]], is_clean: list[bool]) -> None:
    offsets = np.cumsum([0, *map(len, calls)], dtype=np.int32)
    assert checked([event for call in calls for event in call]).clean_calls(offsets, 2).tolist() == is_clean


@given(st.lists(any_events, max_size=4))
def test_columns_find_what_a_plain_check_of_each_event_finds(events: list[LogEvent]) -> None:
    expected = [(index, field) for index, event in enumerate(events) for field in wrong_fields(event)]
    result = checked(events)
    assert [(failed.index, failed.field) for failed in result.failed_checks()] == expected
    assert result.refused.tolist() == [bool(list(wrong_fields(event))) for event in events]
    assert result.to_adjust == [
        index for index, event in enumerate(events) if must_be_adjusted(event) and not any(wrong_fields(event))
    ]


@given(st.lists(any_events, max_size=4))
def test_a_refused_event_is_listed_once_with_its_first_wrong_field(events: list[LogEvent]) -> None:
    first = {index: next(wrong_fields(event), None) for index, event in enumerate(events)}
    found = {failed.index: failed.field for failed in checked(events).first_failed_checks()}
    assert found == {index: field for index, field in first.items() if field}
    assert list(found) == sorted(found)


@settings(max_examples=40)
@given(st.lists(allowed_events, max_size=4))
def test_allowed_events_are_accepted(events: list[LogEvent]) -> None:
    result = checked(events)
    assert (result.failed, result.to_adjust) == ((), [])


@pytest.mark.parametrize(
    ("event", "field", "expected"),
    [
        pytest.param(
            an_event(event_time=Timestamp(seconds=int(NOW.timestamp()) + 601)),
            EventField.EVENT_TIME,
            "ahead",
            id="ahead",
        ),
        pytest.param(
            an_event(event_time=Timestamp(seconds=5, nanos=-1)),
            EventField.EVENT_TIME,
            "a time with its zone",
            id="negative nanos",
        ),
        pytest.param(an_event(event_time=Timestamp(seconds=-1)), EventField.EVENT_TIME, "1970", id="before 1970"),
        pytest.param(an_event(service=""), EventField.SERVICE, "1 to 256", id="no service"),
        pytest.param(an_event(level=0), EventField.LEVEL, "TRACE, DEBUG, INFO, WARN, ERROR, FATAL", id="no level"),
        pytest.param(an_event(level=9), EventField.LEVEL, "FATAL", id="unknown level"),
        pytest.param(an_event(message=""), EventField.MESSAGE, "1 to 64 bytes", id="no message"),
        pytest.param(an_event(message="é" * 33), EventField.MESSAGE, "bytes", id="a message counts in bytes"),
    ],
)
def test_a_failed_check_names_field_and_expectation(event: LogEvent, field: EventField, expected: str) -> None:
    (failed,) = checked([an_event(), event]).failed_checks()
    assert (failed.index, failed.field) == (1, field)
    assert expected in failed.reason


def test_columns_stand_in_the_order_of_the_fields() -> None:
    assert EVENT_SCHEMA.names == [field.name.lower() for field in EventField if field is not EventField.EVENT]


def test_what_lies_under_a_null_is_not_checked() -> None:
    events = [an_event(), an_event(status_code=200), an_event(status_code=1)]
    columns = WIRE.read_events(LogBatch(events=events).SerializeToString())
    assert EventChecker(LIMITS).check(columns, NOW).to_adjust == [2]
    assert EventChecker(LIMITS).check(columns.slice(1), NOW).to_adjust == [1]


def test_an_event_larger_than_a_record_is_refused_as_a_whole() -> None:
    large = an_event(attributes={"a": "x" * 1_000})
    (failed,) = checked([an_event(), large, an_event()], max_record_bytes=1_000).first_failed_checks()
    assert (failed.index, failed.field) == (1, EventField.EVENT)
    assert "1000 bytes" in failed.reason


def test_characters_count_as_code_points() -> None:
    result = checked([an_event(service="漢" * 256, record_id="🔔" * 128)])
    assert (result.failed, list(result.first_failed_checks())) == ((), [])


def test_limits_must_let_something_through() -> None:
    with pytest.raises(ValueError, match="max_attributes"):
        Limits(max_batch_events=1, max_request_bytes=1, max_message_bytes=1, max_attributes=0, max_record_bytes=1)
