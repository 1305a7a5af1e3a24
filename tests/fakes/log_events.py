"""Log events for tests: plausible ones, and strategies for any, allowed or not."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import strategies as st

from tocsin.logs.v1.log_event_pb2 import LogEvent

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
_LATEST = int((NOW + timedelta(minutes=10)).timestamp())


def an_event(**changed: Any) -> LogEvent:
    """Return an allowed event, with the given fields changed."""
    fields: dict[str, Any] = {"service": "payment-service", "level": LogEvent.ERROR, "message": "no connection"}
    return LogEvent(**(fields | changed))


def _around(*lengths: int) -> st.SearchStrategy[str]:
    """Texts whose lengths lie at a border, of characters of one to four bytes."""
    return st.builds(lambda letter, length: letter * length, st.sampled_from("aé漢🔔"), st.sampled_from(lengths))


_times = st.builds(
    Timestamp,
    seconds=st.sampled_from(
        [0, 1, -1, 1_700_000_000, _LATEST - 1, _LATEST, _LATEST + 1, 253_402_300_799, 2**62, -(2**62)]
    ),
    nanos=st.sampled_from([0, 1, 999_999_999, 1_000_000_000, -1, 123_455_999, 123_456_000, 123_456_001]),
)
_entries = st.dictionaries(_around(0, 1, 5, 128, 129), _around(0, 3, 1024, 1025), max_size=3)
_traces = st.sampled_from(
    ["", "0" * 32, "a1" * 16, "A" * 32, "a1" * 8, "0" * 31, "0" * 33, "g" + "0" * 31, "0" * 31 + "é", "é" * 16]
)

allowed_events = st.builds(
    an_event,
    record_id=_around(0, 1, 128),
    service=_around(1, 256),
    level=st.sampled_from(list(range(1, 7))),
    message=_around(1, 8),
    status_code=st.sampled_from([None, 100, 200, 599]),
    response_time=st.sampled_from([None, 0.0, 1.5, 1e300]),
    host=_around(0, 256),
    trace_id=st.sampled_from(["", "a1" * 16]),
    attributes=st.dictionaries(_around(1, 128), _around(0, 1024), max_size=2),
)

any_events = allowed_events | st.builds(
    LogEvent,
    record_id=_around(0, 128, 129),
    event_time=st.none() | _times,
    service=_around(0, 1, 256, 257),
    level=st.sampled_from([0, 1, 6, 7, -1, 2**31 - 1]),
    message=_around(0, 1, 64, 65),
    status_code=st.sampled_from([None, -1, 0, 99, 100, 599, 600, -(2**31)]),
    response_time=st.sampled_from([None, 0.0, -0.0, -1e-300, 5000.0, math.inf, -math.inf, math.nan]),
    host=_around(0, 256, 257),
    trace_id=_traces,
    attributes=_entries,
)
