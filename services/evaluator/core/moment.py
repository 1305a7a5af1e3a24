"""Moments of the hot path: whole nanoseconds since the Unix epoch, named `…_ns`.

Columns carry them as 64-bit integers, and panes are found by integer division; a datetime for each would cost more than
all other work and lose the nanoseconds.
"""

from datetime import UTC, datetime, timedelta

SECOND_NS = 1_000_000_000
# Far enough from the borders of 64 bits that adding any window or lateness stays within them.
EARLIEST_NS = -(2**62)
LATEST_NS = 2**62

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def span_ns(span: timedelta) -> int:
    """Give a span in nanoseconds, exactly."""
    return span // timedelta(microseconds=1) * 1000


def moment_ns(moment: datetime) -> int:
    """Give a moment in nanoseconds, exactly."""
    return span_ns(moment - _EPOCH)


def start_of(moment_ns: int, length_ns: int) -> int:
    """Give the start of the window that contains a moment; windows are aligned to the epoch."""
    return moment_ns // length_ns * length_ns
