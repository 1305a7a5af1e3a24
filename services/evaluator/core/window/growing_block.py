"""The rows of the block of one source that still grows: each replaces the former row of its pane."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.evaluator.core.match.events import Ints, RowMask
from services.evaluator.core.window.aggregates import COLUMNS, NAMES, SUM, minus
from services.evaluator.core.window.code_index import NO_SLOT, grown
from services.evaluator.core.window.column_condition import NumberColumns
from services.evaluator.core.window.sample_log import spread

# Integers of half the width until one is too large for that: there are many rows, and most numbers are small.
_NARROW = ("slots", "up_to", "matched_by", "sample_first", "counted", "total", "value_count")
_NARROW_BITS = 31
# What a row of a snapshot has.
BLOCK_COLUMNS: Final[Mapping[str, type[np.generic]]] = {
    **dict.fromkeys(("slots", "up_to", "matched_by", "sample_count"), np.int64),
    **{name: column.dtype for name, column in COLUMNS.items()},
    SUM: np.float64,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NewRows:
    """Rows as they come, with their panes: how far each has come, and the revision of the rules that matched it."""

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


class GrowingBlock:
    """At most one row of each pane. NO_SLOT stands for an empty row too. Changed in place."""

    def __init__(self) -> None:
        self._row_of_slot: NDArray[np.int32] = np.zeros(1, dtype=np.int32)
        self._size = 1
        self._columns: dict[str, NDArray[Any]] = {
            name: np.full(1, column.empty, dtype=column.dtype) for name, column in COLUMNS.items()
        }
        self._columns[SUM] = np.zeros(1)
        for name in _NARROW:
            self._columns[name] = np.zeros(1, dtype=np.int32)
        self._columns["up_to"][NO_SLOT] = -1
        self._columns["sample_count"] = np.zeros(1, dtype=np.int8)
        self._sample_ids = np.zeros(0, dtype=np.int32)

    @classmethod
    def of(cls, rows: BlockColumns) -> "GrowingBlock":
        """Begin with these rows."""
        block, slots = cls(), rows.columns["slots"]
        new = NewRows(
            slots=slots,
            up_to=rows.columns["up_to"],
            matched_by=rows.columns["matched_by"],
            numbers={name: rows.columns[name] for name in NAMES},
            sample_counts=rows.columns["sample_count"],
            sample_ids=rows.sample_ids,
        )
        block.replace(new, block.rows_of(slots, int(slots.max(initial=NO_SLOT)) + 1))
        return block

    def columns(self) -> BlockColumns:
        """Return copies of all rows."""
        rows = self.all_rows()
        columns = {name: self._columns[name][1 : self._size].astype(dtype) for name, dtype in BLOCK_COLUMNS.items()}
        return BlockColumns(columns=columns, sample_ids=self.samples(rows)[1])

    def rows_of(self, slots: Ints, size: int) -> Ints:
        """Return the row of each pane, NO_SLOT where it has none; all slots are below `size`."""
        self._row_of_slot = grown(self._row_of_slot, size, NO_SLOT)
        return self._row_of_slot[slots].astype(np.int64)

    def take(self, rows: Ints, names: Iterable[str] = NAMES) -> NumberColumns:
        """Return these columns of these rows, in this order."""
        return {name: self._columns[name][rows] for name in names}

    def added(self, new: NewRows, rows: Ints, chosen: Ints) -> tuple[Ints, NumberColumns]:
        """Return what some of the new rows add to those that they replace, as numbers to merge; and the revisions."""
        former = rows[chosen][rows[chosen] != NO_SLOT]
        taken = minus(self.take(former))
        numbers = {name: np.concatenate([new.numbers[name][chosen], taken[name]]) for name in NAMES}
        return np.concatenate([new.matched_by[chosen], self._columns["matched_by"][former]]), numbers

    def replace(self, new: NewRows, rows: Ints) -> None:
        """Replace these rows, those of distinct panes; a row that is NO_SLOT is added."""
        added = np.flatnonzero(rows == NO_SLOT)
        rows[added] = np.arange(self._size, self._size + len(added))
        self._size += len(added)
        self._row_of_slot[new.slots] = rows
        fields = {"slots": new.slots, "up_to": new.up_to, "matched_by": new.matched_by}
        for name, values in {**new.numbers, **fields}.items():
            self._put(name, rows, values)
        self._put_samples(new, rows)

    def all_rows(self) -> Ints:
        """Return all rows but the empty one."""
        return np.arange(1, self._size)

    def samples(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return how many samples each of these rows has, and the events of all, one row after the other."""
        counts = self._columns["sample_count"][rows].astype(np.int64)
        return counts, self._sample_ids[spread(self._columns["sample_first"][rows], counts)].astype(np.int64)

    def drop(self, is_used: RowMask) -> None:
        """Drop the rows of slots that are not used; the others must be renumbered then."""
        rows = self.all_rows()
        kept = np.append(NO_SLOT, rows[is_used[self._columns["slots"][rows]]])
        self._columns = {name: values[kept] for name, values in self._columns.items()}
        self._size = len(kept)

    def renumber(self, new_slots: Ints, new_ids: Ints) -> None:
        """Use the new number of each slot, and the new index of each sample's event."""
        rows = self.all_rows()
        counts, ids = self.samples(rows)
        self._columns["sample_first"][rows] = np.cumsum(counts) - counts
        self._sample_ids = new_ids[ids].astype(np.int32)
        slots = new_slots[self._columns["slots"][rows]]
        self._columns["slots"][rows] = slots
        self._row_of_slot = np.zeros(int(slots.max(initial=NO_SLOT)) + 1, dtype=np.int32)
        self._row_of_slot[slots] = rows

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

    def _put(self, name: str, rows: Ints, values: Any) -> None:
        column = grown(self._columns[name], self._size, 0)
        # As many bits as the greatest one has.
        if column.dtype == np.int32 and int(np.bitwise_or.reduce(values)) >> _NARROW_BITS:
            column = column.astype(np.int64)
        column[rows] = values
        self._columns[name] = column
