"""How much of a partition a restart would read again, and when a snapshot is due that saves most of it."""

from bisect import bisect_right
from collections import deque
from typing import NamedTuple

from services.evaluator.core.records import LATEST_NS, SECOND_NS

# Records are told apart by the second; the oldest of so many are forgotten first.
_MARK_NS = SECOND_NS
_MAX_MARKS = 600
# Windows of a minute, with the usual lateness, need no snapshot: the oldest record that they need is younger than this.
_YOUNG_NS = 120 * SECOND_NS
# A restart reads about so much again at most, ...
_MAX_AGE_NS = 60 * SECOND_NS
_MAX_ROWS = 1_000_000
# ... or so many times the panes of the last snapshot: writing one must cost less than what it saves.
_MAX_ROWS_BY_PANES = 4


class ReadAgain(NamedTuple):
    """What is read again from an offset on: how old its first record is, and how many rows there are."""

    age_ns: int
    rows: int


class ReadingHistory:
    """When Kafka took the records that were read, and how many rows they brought. Changed in place."""

    def __init__(self) -> None:
        # Of the first record of a second: its offset, its time, and how many rows came before it.
        self._marks: deque[tuple[int, int, int]] = deque(maxlen=_MAX_MARKS)
        self._rows = 0
        self._latest_ns = 0

    def observe(self, offset: int, appended_ns: int, rows: int) -> None:
        """Take the next record into account."""
        if not self._marks or appended_ns - self._marks[-1][1] >= _MARK_NS:
            self._marks.append((offset, appended_ns, self._rows))
        self._rows += rows
        self._latest_ns = max(self._latest_ns, appended_ns)

    def since(self, offset: int) -> ReadAgain:
        """Return what is read again from an offset on; one from before all that is known is as old as can be."""
        if not self._marks:
            return ReadAgain(0, 0)
        place = bisect_right(self._marks, offset, key=lambda mark: mark[0]) - 1
        if place < 0:
            return ReadAgain(LATEST_NS, self._rows)
        _, appended_ns, rows_before = self._marks[place]
        return ReadAgain(self._latest_ns - appended_ns, self._rows - rows_before)

    def is_snapshot_due(self, oldest_needed: int, position: int | None, panes: int) -> bool:
        """Whether a snapshot would save much; `position` and `panes` are those of the last one."""
        again = self.since(oldest_needed if position is None else max(position, oldest_needed))
        is_old = self.since(oldest_needed).age_ns > _YOUNG_NS and again.age_ns > _MAX_AGE_NS
        return is_old or again.rows > max(_MAX_ROWS, _MAX_ROWS_BY_PANES * panes)
