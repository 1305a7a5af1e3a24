"""Events are too late when the windows of all enabled rules are closed."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from cli.send.lateness import DEFAULT_MAX_AGE, OpenWindows, open_windows_of
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

NOON = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
HOUR = open_windows_of([AlertRule(window_minutes=60, enabled=True, lateness=Duration(seconds=10))])


@pytest.mark.parametrize(
    ("event_time", "seconds", "is_late"),
    [
        (NOON - timedelta(microseconds=1), 10, False),
        (NOON - timedelta(microseconds=1), 11, True),
        (NOON - timedelta(hours=1), 10, False),
        (NOON, 3600, False),
        (NOON, 3611, True),
    ],
)
def test_a_window_takes_events_until_its_end_and_the_lateness(
    event_time: datetime, seconds: int, *, is_late: bool
) -> None:
    assert HOUR.is_too_late(event_time, NOON + timedelta(seconds=seconds)) is is_late


def test_a_rule_without_a_lateness_has_that_of_the_contract_and_a_window_may_have_seconds() -> None:
    windows = open_windows_of([AlertRule(window=Duration(seconds=20), enabled=True)])
    assert not windows.is_too_late(NOON, NOON + timedelta(seconds=50))
    assert windows.is_too_late(NOON, NOON + timedelta(seconds=51))


def test_without_known_rules_five_minutes_are_too_late() -> None:
    assert not OpenWindows().is_too_late(NOON, NOON + DEFAULT_MAX_AGE)
    assert OpenWindows().is_too_late(NOON, NOON + DEFAULT_MAX_AGE + timedelta(seconds=1))
    assert "1 of 3 events is older than 5 minutes" in OpenWindows().describe(1, 3)
