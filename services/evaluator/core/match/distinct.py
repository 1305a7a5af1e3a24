"""The distinct values of a field in one fetch, and the rows in which each stands."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.evaluator.core.match.events import Array, EventColumns, Ints, offsets_array
from services.evaluator.core.match.terms import Field

# Codes below this fit 16-bit integers, which are sorted in linear time.
_SMALL = 2**15


@dataclass(frozen=True, slots=True, eq=False)
class Occurrences:
    """For each row the number of its value, and the rows in the order of these numbers."""

    codes: Ints
    order: Ints
    # Where the rows of each value begin in `order`; one more at the end.
    starts: Ints

    @classmethod
    def of(cls, codes: Ints, size: int) -> "Occurrences":
        """Sort the rows by their codes, all below `size`."""
        order = np.argsort(codes.astype(np.int16) if size <= _SMALL else codes, kind="stable")
        counts = np.bincount(codes, minlength=size)
        return cls(codes, order, np.concatenate([[0], np.cumsum(counts)]))


@dataclass(frozen=True, slots=True, eq=False)
class DistinctValues:
    """Values of a field, each once; or all values as they are, for a field whose values hardly ever repeat."""

    values: Array
    # The values as events that have no other field.
    columns: EventColumns
    # None when there is a value for each row.
    occurrences: Occurrences | None

    def rows(self, positions: Ints) -> Ints:
        """Return the rows that have one of the values at these positions, which rise; the rows rise, too."""
        if self.occurrences is None:
            return positions
        if len(positions) == 1:
            first, behind = self.occurrences.starts[positions[0] : positions[0] + 2].tolist()
            return self.occurrences.order[first:behind]
        chosen = np.zeros(len(self.values), dtype=np.bool_)
        chosen[positions] = True
        return np.flatnonzero(chosen[self.occurrences.codes])


def distinct_values(columns: EventColumns, field: Field) -> DistinctValues:
    """Return the values of a field; computed once for the same events."""
    distinct: DistinctValues = columns.cached(("distinct", field), lambda: _distinct_values(columns, field))
    return distinct


def _distinct_values(columns: EventColumns, field: Field) -> DistinctValues:
    column = columns.column(field.name) if field.attribute is None else columns.attribute(field.attribute)
    if not field.is_coded:
        return DistinctValues(column, _alone(columns, field, column), None)
    codes, values = columns.distinct(field.name, field.attribute)
    return DistinctValues(values, _alone(columns, field, values), Occurrences.of(codes, len(values)))


def _alone(columns: EventColumns, field: Field, values: Array) -> EventColumns:
    if field.attribute is None:
        return EventColumns(pa.RecordBatch.from_arrays([values], [field.name]), columns.over_step_limit)
    present = pc.is_valid(values).to_numpy(zero_copy_only=False)
    strings = values.drop_null()
    offsets = offsets_array(np.concatenate([[0], np.cumsum(present)]))
    keys = pa.repeat(pa.scalar(field.attribute), len(strings))
    maps: Any = pa.MapArray.from_arrays(offsets, keys, strings)
    return EventColumns(pa.RecordBatch.from_arrays([maps], [field.name]), columns.over_step_limit)
