"""The rows of the blocks that still grow, one of each source: each replaces the former row of its source's pane.

All are in the same columns, so that rows of many sources are replaced at once. The rows of a block that has ended are
used again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.evaluator.core.match.events import Ints, RowMask
from services.evaluator.core.window.aggregates import COLUMNS, NAMES, SUM, minus
from services.evaluator.core.window.code_index import NO_SLOT, grown
from services.evaluator.core.window.column_condition import NumberColumns
from services.evaluator.core.window.row_index import RowIndex
from services.evaluator.core.window.sample_log import spread

# Integers of half the width until one is too large for that: there are many rows, and most numbers are small.
_NARROW = ("slots", "up_to", "matched_by", "sample_first", "counted", "total", "value_count")
_NARROW_BITS = 31
# In place of a source, of a row that is not used.
_NO_PLACE = -1
# Samples of rows that are not used any more are dropped once they are more than the others and than this.
_MIN_LEFT_SAMPLES = 4096
# What a row of a snapshot has.
BLOCK_COLUMNS: Final[Mapping[str, type[np.generic]]] = {
    **dict.fromkeys(("slots", "up_to", "matched_by", "sample_count"), np.int64),
    **{name: column.dtype for name, column in COLUMNS.items()},
    SUM: np.float64,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NewRows:
    """Rows as they come, with the places of their sources and the slots of their panes.

    Of each, how far it has come, and the revision of the rules that matched it.
    """

    places: Ints
    slots: Ints
    up_to: Ints
    matched_by: Ints
    numbers: NumberColumns
    # The events of each row's samples: how many, and all of them one row after the other.
    sample_counts: Ints
    sample_ids: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockColumns:
    """All rows of a block: the columns by name, and the events of the samples, one row after the other."""

    # Those of BLOCK_COLUMNS; the slots are those of distinct panes.
    columns: NumberColumns
    sample_ids: Ints


class GrowingBlocks:
    """At most one row of each source and pane. NO_SLOT stands for an empty row too. Changed in place."""

    def __init__(self, blocks: Mapping[int, BlockColumns] | None = None) -> None:
        """Begin with nothing, or with these rows of each source."""
        self.index = RowIndex()
        self._size = 1
        self._unused: Ints = np.zeros(0, dtype=np.int64)
        self._columns = _empty_columns()
        self._sample_ids: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        self._max_samples = _MIN_LEFT_SAMPLES
        for source, block in (blocks or {}).items():
            self._put_block(self.index.place(source), block)

    def columns(self) -> dict[int, BlockColumns]:
        """Return copies of all rows, by source."""
        return {
            source: BlockColumns(
                columns={name: self._columns[name][rows].astype(dtype) for name, dtype in BLOCK_COLUMNS.items()},
                sample_ids=self.samples(rows)[1],
            )
            for source, place in self.index.places.items()
            if len(rows := self._rows_at(place))
        }

    def take(self, rows: Ints, names: Iterable[str] = NAMES) -> NumberColumns:
        """Return these columns of these rows, in this order."""
        return {name: self._columns[name][rows] for name in names}

    def added(self, new: NewRows, rows: Ints, chosen: Ints) -> tuple[Ints, NumberColumns, Ints]:
        """Return what some of the new rows add to those that they replace, as numbers to merge.

        Of each number also which of the new rows it is of, and the revision of the rules.
        """
        replacing = chosen[rows[chosen] != NO_SLOT]
        former = rows[replacing]
        taken = minus(self.take(former))
        numbers = {name: np.concatenate([new.numbers[name][chosen], taken[name]]) for name in NAMES}
        matched_by = np.concatenate([new.matched_by[chosen], self._columns["matched_by"][former]])
        return np.concatenate([chosen, replacing]), numbers, matched_by

    def replace(self, new: NewRows, rows: Ints) -> None:
        """Replace these rows, those of distinct panes of each source; where it is NO_SLOT a row is added."""
        added = np.flatnonzero(rows == NO_SLOT)
        if len(added):
            rows = rows.copy()
            rows[added] = self._unused_rows(len(added))
            self.index.enter(new.places[added], new.slots[added], rows[added])
        fields = {"place": new.places, "slots": new.slots, "up_to": new.up_to, "matched_by": new.matched_by}
        for name, values in {**new.numbers, **fields}.items():
            self._put(name, rows, values)
        self._put_samples(new, rows)

    def all_rows(self) -> Ints:
        """Return all rows that are used."""
        return np.flatnonzero(self._columns["place"][: self._size] != _NO_PLACE)

    def end(self, source: int) -> Ints:
        """End the block of a source; return its rows, which can be read until others are put in their places."""
        place = self.index.place(source)
        rows = self._rows_at(place)
        self._columns["place"][rows] = _NO_PLACE
        self.index.enter(np.full(len(rows), place), self._columns["slots"][rows], np.zeros(len(rows), dtype=np.int64))
        self._unused = np.concatenate([self._unused, rows])
        return rows

    def samples(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return how many samples each of these rows has, and the events of all, one row after the other."""
        counts = self._columns["sample_count"][rows].astype(np.int64)
        return counts, self._sample_ids[spread(self._columns["sample_first"][rows], counts)].astype(np.int64)

    def drop(self, is_used: RowMask) -> None:
        """Drop the rows of slots that are not used; the others must be renumbered then."""
        rows = self.all_rows()
        kept = np.append(NO_SLOT, rows[is_used[self._columns["slots"][rows]]])
        self._columns = {name: values[kept] for name, values in self._columns.items()}
        self._size, self._unused = len(kept), np.zeros(0, dtype=np.int64)

    def renumber(self, new_slots: Ints, new_ids: Ints) -> None:
        """Use the new number of each slot, and the new index of each sample's event."""
        rows = self.all_rows()
        self._pack_samples(rows)
        self._sample_ids = new_ids[self._sample_ids].astype(np.int32)
        slots = new_slots[self._columns["slots"][rows]]
        self._columns["slots"][rows] = slots
        self.index.clear()
        self.index.enter(self._columns["place"][rows], slots, rows)

    def _put_block(self, place: int, block: BlockColumns) -> None:
        columns = block.columns
        new = NewRows(
            places=np.full(len(columns["slots"]), place),
            slots=columns["slots"],
            up_to=columns["up_to"],
            matched_by=columns["matched_by"],
            numbers={name: columns[name] for name in NAMES},
            sample_counts=columns["sample_count"],
            sample_ids=block.sample_ids,
        )
        self.replace(new, np.full(len(new.slots), NO_SLOT))

    def _rows_at(self, place: int) -> Ints:
        return np.flatnonzero(self._columns["place"][: self._size] == place)

    def _unused_rows(self, count: int) -> Ints:
        """Return so many rows that are not used."""
        if len(self._unused) == self._size - 1:
            # What is left of ended blocks may be far more than what comes.
            self._size, self._unused = 1, np.zeros(0, dtype=np.int64)
            self._columns, self._sample_ids = _empty_columns(), np.zeros(0, dtype=np.int32)
        again, self._unused = self._unused[:count], self._unused[count:]
        self._columns["sample_count"][again] = 0
        first, self._size = self._size, self._size + count - len(again)
        return np.concatenate([again, np.arange(first, self._size)])

    def _put_samples(self, new: NewRows, rows: Ints) -> None:
        """Replace the samples; where they are left out they are the same as before."""
        for name in ("sample_first", "sample_count"):
            self._columns[name] = grown(self._columns[name], self._size, 0)
        filled = np.flatnonzero(new.sample_counts)
        if not len(filled):
            return
        counts = new.sample_counts
        firsts = len(self._sample_ids) + np.cumsum(counts) - counts
        self._columns["sample_first"][rows[filled]] = firsts[filled]
        self._columns["sample_count"][rows[filled]] = counts[filled]
        self._sample_ids = np.concatenate([self._sample_ids, new.sample_ids.astype(np.int32)])
        if len(self._sample_ids) > self._max_samples:
            self._pack_samples(self.all_rows())
            self._max_samples = 2 * len(self._sample_ids) + _MIN_LEFT_SAMPLES

    def _pack_samples(self, rows: Ints) -> None:
        """Keep the samples of these rows alone: those that are used."""
        counts, ids = self.samples(rows)
        self._columns["sample_first"][rows] = np.cumsum(counts) - counts
        self._sample_ids = ids.astype(np.int32)

    def _put(self, name: str, rows: Ints, values: Any) -> None:
        column = grown(self._columns[name], self._size, 0)
        # As many bits as the greatest one has.
        if column.dtype == np.int32 and int(np.bitwise_or.reduce(values)) >> _NARROW_BITS:
            column = column.astype(np.int64)
        column[rows] = values
        self._columns[name] = column


def _empty_columns() -> dict[str, NDArray[Any]]:
    """Return the columns of the empty row alone."""
    columns: dict[str, NDArray[Any]] = {
        name: np.full(1, column.empty, dtype=column.dtype) for name, column in COLUMNS.items()
    }
    columns[SUM] = np.zeros(1)
    for name in _NARROW:
        columns[name] = np.zeros(1, dtype=np.int32)
    columns["up_to"][NO_SLOT] = -1
    columns["sample_count"] = np.zeros(1, dtype=np.int8)
    columns["place"] = np.full(1, _NO_PLACE, dtype=np.int16)
    return columns
