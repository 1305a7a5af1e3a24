"""How much of a partition a restart would read again, and when a snapshot is due that saves most of it."""

from bisect import bisect_right
from collections import deque
from typing import NamedTuple

from services.evaluator.core.records import LATEST_NS, SECOND_NS

# Records are told apart by the second; the oldest of so many are forgotten first.
_MARK_NS = SECOND_NS
_MAX_MARKS = 600
# A restart reads about a minute again at most: a snapshot takes a while until a checkpoint names it, ...
_MAX_AGE_NS = 40 * SECOND_NS
# ... and not many rows, ...
_MIN_ROWS = 25_000
# ... or not many for each pane of the last snapshot: so Kafka takes no more bytes of snapshots than of rows.
_MIN_ROWS_BY_PANES = 0.5


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

    def is_snapshot_due(
        self, oldest_needed: int, position: int | None, panes: int, *, may_save_rows: bool = True
    ) -> bool:
        """Whether a snapshot would save much; `position` and `panes` are those of the last one.

        Without `may_save_rows` only the time counts, not the number of rows.
        """
        again = self.since(oldest_needed if position is None else max(position, oldest_needed))
        has_many = again.rows > max(_MIN_ROWS, _MIN_ROWS_BY_PANES * panes)
        return again.age_ns > _MAX_AGE_NS or (has_many and may_save_rows)
