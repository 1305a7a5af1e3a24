"""Moments far from the end of a window, so that what a test sends stays together and its alerts stay open."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cli.demo.scenario import event_batches

WINDOW = timedelta(minutes=5)
NEEDED = timedelta(minutes=1)


def together(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events, all at one moment: now, or in the next window when this one is nearly over."""
    moment = roomy(datetime.now(UTC)).isoformat()
    return [{**event, "eventTime": moment} for event in events]


def trouble() -> list[list[dict[str, Any]]]:
    """The demo's trouble, in its batches, all at one such moment."""
    moment = roomy(datetime.now(UTC)).isoformat()
    return [[{**event, "eventTime": moment} for event in batch] for batch in event_batches()]


def roomy(now: datetime) -> datetime:
    """This moment, or the beginning of the next window."""
    left = WINDOW - (now - datetime.min.replace(tzinfo=UTC)) % WINDOW
    return now if left > NEEDED else now + left
