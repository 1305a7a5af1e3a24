"""The clock, as a dependency that is passed in."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A source of time for the shell, which passes `now` to the core as an argument."""

    def now(self) -> datetime:
        """Return the current time, aware and in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def now(self) -> datetime:
        """Return the current time, aware and in UTC."""
        return datetime.now(UTC)  # noqa: TID251  (the one place that the rule points to)

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""
        return time.monotonic()
