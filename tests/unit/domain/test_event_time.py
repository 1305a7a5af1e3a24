"""Times of events as people write them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.event_time import parse_epoch, parse_rfc3339

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
zones = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=zones))  # noqa: DTZ001 - hypothesis adds a zone
def test_times_are_read_as_python_reads_them(time: datetime) -> None:
    since = time - EPOCH
    assert parse_rfc3339(time.isoformat()) == (since // timedelta(seconds=1), since.microseconds * 1000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", (1, 0)),
        ("1970-01-01t00:00:00.123456789123z", (0, 123456789)),
        ("1970-01-01 00:00:00,5+00:00", (0, 500000000)),
        ("2016-12-31T23:59:60Z", (1483228800, 0)),
        ("1970-01-01T00:00:00-0030", (1800, 0)),
        ("1970-01-01T00:00:00", None),
        ("1970-02-30T00:00:00Z", None),
        ("1970-01-01T24:00:00Z", None),
        ("1970-01-01T00:60:00Z", None),
        ("1970-01-01T00:00:61Z", None),
        ("1970-01-01T00:00:00+24:00", None),
        ("yesterday", None),
    ],
)
def test_rfc_3339(text: str, expected: tuple[int, int] | None) -> None:
    assert parse_rfc3339(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1772366400", (1772366400, 0)),
        ("1772366400.5", (1772366400, 500000000)),
        ("1772366400123", (1772366400, 123000000)),
        ("1772366400123456", (1772366400, 123456000)),
        ("1772366400123456789", (1772366400, 123456789)),
        ("1.7723664e9", (1772366400, 0)),
        ("12", None),
        ("17_0000_0000", None),
        ("١٧٧٢٣٦٦٤٠٠", None),
        ("NaN", None),
        ("Infinity", None),
        ("1e5000000", None),
        ("1e-5000000", None),
        ("soon", None),
    ],
)
def test_numbers_since_1970(text: str, expected: tuple[int, int] | None) -> None:
    assert parse_epoch(text) == expected
