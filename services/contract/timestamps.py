"""Times and durations between protobuf, Python and the evaluator's integers."""

from datetime import UTC, datetime, timedelta
from typing import overload

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

_SECOND_NS = 1_000_000_000
_DAY_SECONDS = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)
# What a Timestamp may hold: the years 1 to 9999.
_MIN_SECOND, _MAX_SECOND = -62_135_596_800, 253_402_300_799


def datetime_of(timestamp: Timestamp) -> datetime:
    """Return the time in UTC, to the microsecond. Raises ValueError outside of the years 1 to 9999."""
    seconds, nanos = timestamp.seconds, timestamp.nanos
    if not (_MIN_SECOND <= seconds <= _MAX_SECOND and 0 <= nanos < _SECOND_NS):
        raise ValueError("out of range")
    return _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)


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
    set_time(timestamp, time)
    return timestamp


def set_time(timestamp: Timestamp, time: datetime | None) -> None:
    """Set a message's field to a time; None leaves it unset.

    A message that is given to another one's constructor is serialized and read again, which takes five times as long.
    """
    if time is not None:
        # A third of what FromDatetime takes. Naive times are in UTC there, too.
        since = time - (_EPOCH if time.tzinfo is not None else _NAIVE_EPOCH)
        timestamp.SetInParent()
        timestamp.seconds = since.days * _DAY_SECONDS + since.seconds
        timestamp.nanos = since.microseconds * 1000


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
