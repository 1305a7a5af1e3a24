"""Moments and durations of the contract."""

from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp


def moment(stamp: Timestamp) -> datetime:
    """An aware moment, to the microsecond. Raises ValueError outside of the years 1 to 9999."""
    try:
        return stamp.ToDatetime(UTC)
    except (OverflowError, ValueError) as error:
        raise ValueError("out of range") from error


def stamp(moment: datetime | None) -> Timestamp | None:
    """The contract's form of a moment; None stays None."""
    if moment is None:
        return None
    found = Timestamp()
    found.FromDatetime(moment)
    return found


def span(duration: Duration) -> timedelta:
    """A duration to the microsecond. Raises ValueError when it is longer than Python can say."""
    try:
        return duration.ToTimedelta()
    except (OverflowError, ValueError) as error:
        raise ValueError("out of range") from error


def duration(span: timedelta) -> Duration:
    """The contract's form of a duration."""
    found = Duration()
    found.FromTimedelta(span)
    return found
