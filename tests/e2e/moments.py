"""Moments far from the end of a window, so that what a test sends stays together and its alerts stay open."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

WINDOW = timedelta(minutes=5)
NEEDED = timedelta(minutes=1)


def together(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events, all at one moment: now, or in the next window when this one is nearly over."""
    now = datetime.now(UTC)
    left = WINDOW - (now - datetime.min.replace(tzinfo=UTC)) % WINDOW
    moment = now if left > NEEDED else now + left
    return [{**event, "eventTime": moment.isoformat()} for event in events]
