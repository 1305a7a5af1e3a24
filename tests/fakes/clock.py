"""A clock that moves only when a test advances it."""

from datetime import UTC, datetime, timedelta


class FakeClock:
    """Implements the chassis' Clock; `advance` moves both times."""

    def __init__(self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, by: timedelta) -> None:
        self._now += by
        self._monotonic += by.total_seconds()
