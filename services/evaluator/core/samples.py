"""Events that are kept as evidence, as columns: a Python object is made only of what is shown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.domain.level import Level
from services.evaluator.core.match.events import EventColumns, Ints
from services.evaluator.core.records import (
    MAX_SAMPLE_ATTRIBUTE_CHARACTERS,
    MAX_SAMPLE_ATTRIBUTES,
    MAX_SAMPLE_CHARACTERS,
    MAX_SAMPLE_VALUE_CHARACTERS,
    Sample,
)

# Named as in the contract of events; event_ns is a number, because the time may be that of arrival.
_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("event_ns", pa.int64(), nullable=False),
    pa.field("service", pa.string(), nullable=False),
    pa.field("level", pa.int32(), nullable=False),
    pa.field("message", pa.string(), nullable=False),
    pa.field("status_code", pa.int32()),
    pa.field("response_time", pa.float64()),
    pa.field("host", pa.string(), nullable=False),
    pa.field("trace_id", pa.string(), nullable=False),
    pa.field("attributes", pa.map_(pa.string(), pa.string()), nullable=False),
]
SAMPLE_SCHEMA: Final = pa.schema(_FIELDS)
_EVENT_FIELDS: Final = SAMPLE_SCHEMA.names[1:]
_LEVELS = frozenset(Level)


@dataclass(frozen=True, slots=True, eq=False)
class SampleTable:
    """Samples as columns of SAMPLE_SCHEMA."""

    batch: pa.RecordBatch

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> "SampleTable":
        """Return samples as columns."""
        rows = [{**sample._asdict(), "level": sample.level or 0} for sample in samples]
        return cls(pa.RecordBatch.from_pylist(rows, schema=SAMPLE_SCHEMA))

    @classmethod
    def of_events(cls, columns: EventColumns, events: Ints, times_ns: Ints) -> "SampleTable":
        """Make samples of some events, cut to their bounds; `times_ns` has an entry for each of them."""
        taken = columns.batch.select(_EVENT_FIELDS).take(events)
        arrays = [pa.array(times_ns), *(taken.column(name) for name in _EVENT_FIELDS)]
        arrays[SAMPLE_SCHEMA.get_field_index("message")] = pc.utf8_slice_codeunits(
            taken.column("message"), 0, MAX_SAMPLE_CHARACTERS
        )
        arrays[-1] = _cut_all_attributes(arrays[-1])
        cast = [
            array if array.type.equals(field.type) else array.cast(field.type)
            for array, field in zip(arrays, SAMPLE_SCHEMA, strict=True)
        ]
        return cls(pa.RecordBatch.from_arrays(cast, schema=SAMPLE_SCHEMA))

    @classmethod
    def concat(cls, tables: Sequence["SampleTable"]) -> "SampleTable":
        """Return the samples of all tables, one table after the other."""
        filled = [table for table in tables if len(table)]
        if len(filled) < 2:  # noqa: PLR2004  (nothing to copy)
            return filled[0] if filled else NO_SAMPLES
        whole = pa.Table.from_batches([table.batch for table in filled]).combine_chunks()
        return cls(whole.to_batches()[0])

    def __len__(self) -> int:
        return self.batch.num_rows

    def take(self, indices: Ints) -> "SampleTable":
        """Return the samples with these indexes."""
        return SampleTable(self.batch.take(indices))

    def sample(self, index: int) -> Sample:
        """Return one sample."""
        return self.take(np.array([index])).to_list()[0]

    def to_list(self) -> list[Sample]:
        """Return all samples."""
        return [_sample(row) for row in self.batch.to_pylist()]


NO_SAMPLES: Final = SampleTable.of(())


def _sample(row: dict[str, Any]) -> Sample:
    level = row.pop("level")
    # The last entry counts when a writer repeated a key.
    attributes = tuple(sorted(dict(row.pop("attributes")).items()))
    return Sample(**row, level=Level(level) if level in _LEVELS else None, attributes=attributes)


def _cut_all_attributes(maps: Any) -> Any:
    """Return the attributes of each sample, cut where they are more or longer than a sample has room for."""
    if not _exceed_a_sample(maps):
        return maps
    return pa.array([cut_attributes(pairs or ()) for pairs in maps.to_pylist()], type=SAMPLE_SCHEMA.types[-1])


def _exceed_a_sample(maps: Any) -> bool:
    """Whether some sample may have more than it has room for, or nothing in place of an empty map."""
    counts = np.diff(maps.offsets.to_numpy())
    if maps.null_count or counts.max(initial=0) > MAX_SAMPLE_ATTRIBUTES:
        return True
    # In bytes, which are at least as many as characters.
    sizes = _sizes(maps.items)
    if sizes.max(initial=0) > MAX_SAMPLE_VALUE_CHARACTERS:
        return True
    ends = np.concatenate([[0], np.cumsum(sizes + _sizes(maps.keys))])
    borders = maps.offsets.to_numpy()
    return int(np.max(ends[borders[1:]] - ends[borders[:-1]], initial=0)) > MAX_SAMPLE_ATTRIBUTE_CHARACTERS


def _sizes(strings: Any) -> Ints:
    sizes: Ints = pc.binary_length(strings).to_numpy().astype(np.int64)
    return sizes


def cut_attributes(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the first attributes in the order of their keys, as many as a sample has room for, with cut values."""
    kept = []
    room = MAX_SAMPLE_ATTRIBUTE_CHARACTERS
    # The last entry counts when a writer repeated a key.
    for key, value in sorted(dict(pairs).items())[:MAX_SAMPLE_ATTRIBUTES]:
        cut = value[:MAX_SAMPLE_VALUE_CHARACTERS]
        room -= len(key) + len(cut)
        if room < 0:
            break
        kept.append((key, cut))
    return tuple(kept)
