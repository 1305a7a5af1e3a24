"""The samples of a block's rows: each event that is one stands once, in the table of its fetch."""

from itertools import accumulate

import numpy as np

from services.evaluator.core.match.events import Ints, RowMask
from services.evaluator.core.records import MAX_SAMPLES
from services.evaluator.core.samples import SampleTable


class RowSamples:
    """Which samples each row has, by slot, and how many of them have been sent. Changed in place."""

    def __init__(self) -> None:
        self._tables: list[SampleTable] = []
        self._size = 0
        self._counts = self._sent = np.zeros(0, dtype=np.int64)
        self._indexes = np.zeros((0, MAX_SAMPLES), dtype=np.int64)

    def grow(self, slots: int) -> None:
        """Make room for so many rows."""
        more = slots - len(self._counts)
        self._counts, self._sent = (
            np.append(each, np.zeros(more, dtype=np.int64)) for each in (self._counts, self._sent)
        )
        self._indexes = np.concatenate([self._indexes, np.zeros((more, MAX_SAMPLES), dtype=np.int64)])

    def lacking(self, slots: Ints) -> Ints:
        """Return how many samples each of these rows lacks."""
        lacking: Ints = MAX_SAMPLES - self._counts[slots]
        return lacking

    def add(self, table: SampleTable, slots: Ints, samples: Ints) -> None:
        """Add samples of the table to rows: to each no more than it lacks, in the order in which they are given."""
        order = np.argsort(slots, kind="stable")
        slots = slots[order]
        starts = np.flatnonzero(np.diff(slots, prepend=-1))
        counts = np.diff(starts, append=len(slots))
        ranks = np.arange(len(slots)) - np.repeat(starts, counts)
        self._indexes[slots, self._counts[slots] + ranks] = samples[order] + self._size
        self._counts[slots[starts]] += counts
        self._tables.append(table)
        self._size += len(table)

    def copy(self, slots: Ints, copies: Ints) -> None:
        """Give rows that are new the samples of others, sent as far as those are."""
        for column in (self._counts, self._sent, self._indexes):
            column[copies] = column[slots]

    def take(self, slots: Ints, *, unsent: bool) -> tuple[Ints, Ints]:
        """Return pairs of a row (an index of these slots) and a sample, of all rows or of those that have new ones."""
        counts = self._counts[slots]
        if unsent:
            counts = np.where(counts == self._sent[slots], 0, counts)
        has: RowMask = np.arange(MAX_SAMPLES) < counts[:, None]
        return np.repeat(np.arange(len(slots)), counts), self._indexes[slots][has]

    def mark_sent(self, slots: Ints) -> None:
        """Take down that all samples of these rows have been sent."""
        self._sent[slots] = self._counts[slots]

    def table_of(self, indexes: Ints) -> tuple[SampleTable, Ints]:
        """Return a table with the samples of these indexes, and the index of each in it."""
        used, index = np.unique(indexes, return_inverse=True)
        borders = np.searchsorted(used, [0, *accumulate(map(len, self._tables))])
        parts = []
        start = 0
        for table, first, end in zip(self._tables, borders[:-1].tolist(), borders[1:].tolist(), strict=True):
            if end > first:
                parts.append(table.take(used[first:end] - start))
            start += len(table)
        return SampleTable.concat(parts), index
