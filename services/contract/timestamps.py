"""Times and durations between protobuf, Python and the evaluator's integers."""

from datetime import UTC, datetime, timedelta
from typing import overload

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

_SECOND_NS = 1_000_000_000
# What a Timestamp may hold: the years 1 to 9999.
_MIN_SECOND, _MAX_SECOND = -62_135_596_800, 253_402_300_799


def datetime_of(timestamp: Timestamp) -> datetime:
    """Return the time in UTC, to the microsecond. Raises ValueError outside of the years 1 to 9999."""
    try:
        return timestamp.ToDatetime(UTC)
    except (OverflowError, ValueError) as error:
        raise ValueError("out of range") from error


@overload
def timestamp_of(time: datetime) -> Timestamp: ...
@overload
def timestamp_of(time: None) -> None: ...
@overload
def timestamp_of(time: datetime | None) -> Timestamp | None: ...


def timestamp_of(time: datetime | None) -> Timestamp | None:
    """Return the time as protobuf carries it; None stays None."""
    if time is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


def timedelta_of(duration: Duration) -> timedelta:
    """Return the duration, to the microsecond. Raises ValueError when it is longer than a timedelta can be."""
    try:
        return duration.ToTimedelta()
    except (OverflowError, ValueError) as error:
        raise ValueError("out of range") from error


def duration_of(span: timedelta) -> Duration:
    """Return the duration as protobuf carries it."""
    duration = Duration()
    duration.FromTimedelta(span)
    return duration


def nanoseconds_of(timestamp: Timestamp) -> int:
    """Return the nanoseconds since the Unix epoch."""
    return timestamp.seconds * _SECOND_NS + timestamp.nanos


def timestamp_of_nanoseconds(time_ns: int) -> Timestamp:
    """Return nanoseconds since the Unix epoch as protobuf carries them, within the years 1 to 9999."""
    seconds, nanos = divmod(time_ns, _SECOND_NS)
    return Timestamp(seconds=max(_MIN_SECOND, min(seconds, _MAX_SECOND)), nanos=nanos)
