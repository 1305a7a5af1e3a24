"""When to try again."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter, bounded in number and length."""

    max_attempts: int = 5
    base: timedelta = timedelta(milliseconds=500)
    cap: timedelta = timedelta(seconds=30)
    max_wait: timedelta = timedelta(minutes=5)
    """How long a delivery waits for a channel that asks for it; then a fallback tells the alert."""

    def __post_init__(self) -> None:
        """Refuse what could never end or never wait."""
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, got {self.max_attempts}")
        if not timedelta(0) < self.base <= self.cap:
            raise ValueError(f"base must be more than 0 and at most cap, got {self.base} and {self.cap}")

    def allows(self, attempts: int) -> bool:
        """Whether there may be another attempt after so many."""
        return attempts < self.max_attempts

    def wait(self, attempt: int, *, chance: float) -> timedelta:
        """How long to wait after the attempt of this number (from 1); chance is in [0, 1)."""
        return min(self.cap, self.base * (1 << min(attempt - 1, 32))) * chance


def retry_after_of(header: str | None, *, now: datetime) -> timedelta | None:
    """What a Retry-After header asks for (RFC 9110, section 10.2.3), at most a day; None when it cannot be read."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(timedelta(seconds=int(text[:9])), _DAY)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        return None
    return min(max(moment - now, timedelta(0)), _DAY)
