"""When to try again."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter, bounded in number and length."""

    max_attempts: int = 5
    base: timedelta = timedelta(milliseconds=500)
    cap: timedelta = timedelta(seconds=30)
    longest_retry_after: timedelta = timedelta(minutes=10)

    def __post_init__(self) -> None:
        """Refuse what could never end or never wait."""
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, got {self.max_attempts}")
        if not timedelta(0) < self.base <= self.cap:
            raise ValueError(f"base must be more than 0 and at most cap, got {self.base} and {self.cap}")

    def wait(self, attempt: int, *, chance: float, retry_after: timedelta | None = None) -> timedelta:
        """How long to wait after the attempt of this number (from 1); chance is in [0, 1).

        A Retry-After is the least wait; the jitter comes on top, so that those who were told the same moment do not
        come back together.
        """
        ceiling = min(self.cap, self.base * (1 << min(attempt - 1, 32)))
        asked = min(retry_after or timedelta(0), self.longest_retry_after)
        return asked + ceiling * chance


def retry_after_of(header: str | None, *, now: datetime) -> timedelta | None:
    """What a Retry-After header asks for, as seconds or as a date; None when it says nothing that can be read."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text[:9]), 86_400))
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return max(moment - now, timedelta(0))
