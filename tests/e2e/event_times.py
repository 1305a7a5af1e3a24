"""Event times far from the end of a window, so that a test's events fall into one window and its alerts stay open."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cli.demo.scenario import event_batches

WINDOW = timedelta(minutes=5)
MIN_LEFT = timedelta(minutes=1)


def at_one_time(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events, all at one time: now, or in the next window when this one is nearly over."""
    moment = early_in_window(datetime.now(UTC)).isoformat()
    return [{**event, "eventTime": moment} for event in events]


def scenario_batches() -> list[list[dict[str, Any]]]:
    """Return the batches of the demo's scenario, all at one such time."""
    moment = early_in_window(datetime.now(UTC)).isoformat()
    return [[{**event, "eventTime": moment} for event in batch] for batch in event_batches()]


def early_in_window(now: datetime) -> datetime:
    """Return this time, or the beginning of the next window."""
    left = WINDOW - (now - datetime.min.replace(tzinfo=UTC)) % WINDOW
    return now if left > MIN_LEFT else now + left
