"""Times and durations."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from services.contract.timestamps import (
    datetime_of,
    duration_of,
    nanoseconds_of,
    timedelta_of,
    timestamp_of,
    timestamp_of_nanoseconds,
)


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_go_there_and_back(time: datetime) -> None:
    assert datetime_of(timestamp_of(time)) == time


@given(st.datetimes(timezones=st.none() | st.timezones()))
def test_times_are_those_of_protobufs_own_functions(time: datetime) -> None:
    expected = Timestamp()
    try:
        expected.FromDatetime(time)
    except (OverflowError, ValueError):
        return
    assert timestamp_of(time) == expected
    assert datetime_of(expected) == expected.ToDatetime(UTC)


@given(st.timedeltas(timedelta(days=-3_000_000), timedelta(days=3_000_000)))
def test_durations_go_there_and_back(span: timedelta) -> None:
    assert timedelta_of(duration_of(span)) == span


@given(st.integers(-62_135_596_800 * 10**9, 253_402_300_800 * 10**9 - 1))
def test_nanoseconds_go_there_and_back(time_ns: int) -> None:
    assert nanoseconds_of(timestamp_of_nanoseconds(time_ns)) == time_ns


def test_nanoseconds_stay_within_the_years_of_a_timestamp() -> None:
    assert timestamp_of_nanoseconds(-(2**70)).seconds == -62_135_596_800
    assert timestamp_of_nanoseconds(2**70).seconds == 253_402_300_799


def test_nanoseconds_count_from_the_epoch() -> None:
    assert nanoseconds_of(Timestamp(seconds=2, nanos=3)) == 2_000_000_003
    assert timestamp_of_nanoseconds(-1) == Timestamp(seconds=-1, nanos=999_999_999)


def test_a_time_is_read_to_the_microsecond() -> None:
    assert datetime_of(Timestamp(seconds=200, nanos=1999)) == datetime(1970, 1, 1, 0, 3, 20, 1, tzinfo=UTC)


def test_no_time_stays_none() -> None:
    assert timestamp_of(None) is None


def test_what_python_cannot_hold_is_out_of_range() -> None:
    with pytest.raises(ValueError, match="out of range"):
        datetime_of(Timestamp(seconds=10**12))
    with pytest.raises(ValueError, match="out of range"):
        datetime_of(Timestamp(nanos=10**9))
    with pytest.raises(ValueError, match="out of range"):
        datetime_of(Timestamp(nanos=-1))
    with pytest.raises(ValueError, match="out of range"):
        timedelta_of(Duration(seconds=10**15))
