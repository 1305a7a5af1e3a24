"""How long the match stage waits after a flush, and how much it fetches at once.

What a flush costs is fixed, so few flushes are cheap ones; what matching costs depends on the rules.
"""

from math import inf
from typing import Final, NamedTuple, TypeVar

from services.evaluator.core.match.events import Floats

# A pause is so many times as long as the work since the last flush: with little to do an alert need not wait.
_PAUSE_PER_WORK: Final = 4
# Within this share of the interval and the interval. A flush costs a few milliseconds whatever is in it, also in the
# window stage and in Kafka, so a trickle of events would be the dearer, the sooner the next flush follows.
_LEAST_SHARE: Final = 0.5
# A flush of many rows is followed by a longer pause. Writing and reading a row costs a quarter to half of this, judging
# it for each rule that shares it a quarter. Rows that cost little do not wait for it (`early_flush`).
_PAUSE_SECONDS_PER_ROW: Final = 0.0000025
_PAUSE_SECONDS_PER_EXPANDED_ROW: Final = 0.0000015
_MAX_PAUSE_SECONDS: Final = 1.0
# Rows that cost so much are worth another flush before them, of what should not wait for them: about 1,000.
MANY_ROWS_SECONDS: Final = 0.004

_Number = TypeVar("_Number", float, Floats)


class FlushedRows(NamedTuple):
    """How many rows a flush has written, and how many they become where they are read."""

    written: int
    expanded: int


def rows_seconds(written: _Number, expanded: _Number) -> _Number:
    """Return the pause that rows are worth: it stands for what they cost."""
    return written * _PAUSE_SECONDS_PER_ROW + expanded * _PAUSE_SECONDS_PER_EXPANDED_ROW


def pause_seconds(*, interval_s: float, work_s: float, rows: FlushedRows) -> float:
    """Return the pause after a flush of these rows; `work_s` is the CPU that matching and sending them took."""
    by_work = min(max(_PAUSE_PER_WORK * work_s, _LEAST_SHARE * interval_s), interval_s)
    return max(by_work, min(rows_seconds(*rows), _MAX_PAUSE_SECONDS))


def early_pause_seconds(*, interval_s: float, rows: FlushedRows) -> float:
    """Return the pause from a flush until some rows are flushed before the others; endless where none are.

    After a flush of few rows the next one is soon, and small.
    """
    return _LEAST_SHARE * interval_s if rows_seconds(*rows) >= MANY_ROWS_SECONDS else inf


def fetch_limit(*, max_records: int, interval_s: float, record_s: float) -> int:
    """Return how many records to fetch; `record_s` is the CPU that the rules' own work takes for each of them.

    It takes about the interval at most then, and a costly rule holds up the flush of what others found no longer.
    What rules have in common, and rows, do not count: the more records are fetched, the less these cost for each.
    """
    return max_records if record_s * max_records <= interval_s else max(int(interval_s / record_s), 1)
