"""The aggregates of many rows, as columns, and how two of a row are merged.

A further aggregate is added in `COLUMNS` alone: merging must be associative and commutative, and the empty value must
change nothing. Sums are a column of their own kind, because they are exact.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from services.evaluator.core.match.events import Ints
from services.evaluator.core.partial_rows import ABSENT_NS
from services.evaluator.core.window.code_index import grown
from services.evaluator.core.window.column_condition import NumberColumns
from services.evaluator.core.window.exact_sums import ExactSums, SumColumns


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateColumn:
    """One aggregate: the type of its numbers, the one that changes nothing, and how two are merged."""

    dtype: type[np.generic]
    empty: float
    merge: np.ufunc


_COUNT = AggregateColumn(dtype=np.int64, empty=0, merge=np.add)
COLUMNS: Final[Mapping[str, AggregateColumn]] = {
    "counted": _COUNT,
    "total": _COUNT,
    "value_count": _COUNT,
    "last_event_ns": AggregateColumn(dtype=np.int64, empty=ABSENT_NS, merge=np.maximum),
    # An absent one is not a number.
    "min": AggregateColumn(dtype=np.float64, empty=np.nan, merge=np.fmin),
    "max": AggregateColumn(dtype=np.float64, empty=np.nan, merge=np.fmax),
}
SUM: Final = "sum"
NAMES: Final = (*COLUMNS, SUM)


class AggregateColumns(NamedTuple):
    """The aggregates of all rows but that of NO_SLOT."""

    numbers: NumberColumns
    sums: SumColumns


def minus(numbers: NumberColumns) -> NumberColumns:
    """Return what takes these numbers away when it is merged, as far as that is possible: counts and sums."""
    return {
        name: -values.astype(np.int64)
        if COLUMNS.get(name) is _COUNT
        else -values
        if name == SUM
        else np.full(len(values), COLUMNS[name].empty, dtype=COLUMNS[name].dtype)
        for name, values in numbers.items()
    }


class Aggregates:
    """The aggregate of each row; that of NO_SLOT is empty and stays so. Changed in place.

    Rows are given as distinct indexes.
    """

    def __init__(self, names: Iterable[str] = NAMES, size: int = 1) -> None:
        self._columns = {
            name: np.full(size, COLUMNS[name].empty, dtype=COLUMNS[name].dtype) for name in names if name != SUM
        }
        self._sums = ExactSums(size) if SUM in names else None

    @classmethod
    def of(cls, columns: AggregateColumns) -> "Aggregates":
        """Begin with these rows, from 1 on."""
        aggregates = cls(size=1 + len(columns.sums.high))
        for name, values in columns.numbers.items():
            aggregates._columns[name][1:] = values
        aggregates._sums = ExactSums.of(columns.sums)
        return aggregates

    def columns(self, size: int) -> AggregateColumns:
        """Return copies of the rows from 1 to before `size`."""
        numbers = {name: values[1:size].copy() for name, values in self._columns.items()}
        return AggregateColumns(numbers, (self._sums or ExactSums(size)).columns(size))

    def grow(self, size: int) -> None:
        """Make room for so many rows."""
        for name, values in self._columns.items():
            self._columns[name] = grown(values, size, COLUMNS[name].empty)
        if self._sums is not None:
            self._sums.grow(size)

    def take(self, rows: Ints, names: Iterable[str] = NAMES) -> "Aggregates":
        """Return these rows with these columns, in this order."""
        taken = Aggregates(())
        taken._columns = {name: self._columns[name][rows] for name in names if name != SUM}
        taken._sums = self._sums.take(rows) if self._sums is not None and SUM in names else None
        return taken

    def merge(self, rows: Ints, numbers: NumberColumns) -> None:
        """Merge numbers into rows."""
        for name, values in self._columns.items():
            values[rows] = COLUMNS[name].merge(values[rows], numbers[name])
        if self._sums is not None:
            self._sums.add(rows, numbers[SUM])

    def merge_all(self, rows: Ints, numbers: NumberColumns) -> None:
        """Merge numbers into rows, each of which may be given several times."""
        if not len(rows):
            return
        order = np.argsort(rows, kind="stable")
        starts = np.flatnonzero(np.diff(rows[order], prepend=-1))
        distinct = rows[order[starts]]
        for name, values in self._columns.items():
            merge = COLUMNS[name].merge
            values[distinct] = merge(values[distinct], merge.reduceat(numbers[name][order], starts))
        if self._sums is not None and numbers[SUM].any():
            self._sums.add_all(distinct, numbers[SUM][order], starts)

    def numbers(self) -> NumberColumns:
        """Return the numbers of all rows; sums are rounded once."""
        return {**self._columns, **({} if self._sums is None else {SUM: self._sums.rounded()})}
