"""The events of one fetch: the records that they came in, and columns under the names of the rule language."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.domain.tenants import SOLE_TENANT
from services.evaluator.core.records import EARLIEST_NS, LATEST_NS

RowMask: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
# An Arrow array of any type: its type is known from the contract, not to the type checker.
Array: TypeAlias = "pa.Array[Any]"

# A number as JSON writes it; other spellings are ignored.
_NUMBER = r"^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$"
_ATTRIBUTE_PREFIX = "attributes."


@dataclass(frozen=True, slots=True, eq=False)
class EventColumns:
    """Events as columns named as in the contract; absent values are null.

    What several rules need of the same events is computed once and cached for as long as the columns live. One thread
    at a time may use them.
    """

    batch: pa.RecordBatch
    # How many events hit the step limit of CEL, by the text of the expression; those of a part (`take`) count here too.
    over_step_limit: Counter[str] = field(default_factory=Counter)
    _cache: dict[object, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, events: pa.StructArray | pa.RecordBatch) -> "EventColumns":
        """Wrap decoded events without copying them."""
        return cls(events if isinstance(events, pa.RecordBatch) else pa.RecordBatch.from_struct_array(events))

    def __len__(self) -> int:
        return self.batch.num_rows

    def column(self, name: str) -> Array:
        """Return a field of the event as it came."""
        column: Array = self.batch.column(name)
        return column

    def integers(self, name: str) -> Array:
        """Return a field of the event as 64-bit integers, in which the rule language computes."""
        integers: Array = self.cached(("integers", name), lambda: pc.cast(self.column(name), pa.int64()))
        return integers

    def attribute(self, key: str) -> Array:
        """Return an attribute's values as strings; null where an event has none of this key."""
        strings: Array = self.cached(("attribute", key), lambda: self._attribute(key))
        return strings

    def distinct(self, name: str, attribute: str | None = None) -> tuple[Ints, Array]:
        """Return a field, or one of its attributes, as codes of its distinct values, and these; null is a value too."""
        key = ("distinct", name, attribute)
        column = self.column(name) if attribute is None else self.attribute(attribute)
        distinct: tuple[Ints, Array] = self.cached(key, lambda: codes_and_values(column))
        return distinct

    def cached(self, key: object, compute: Callable[[], Any]) -> Any:
        """Return what was computed for this key before, or compute it now."""
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]

    def take(self, rows: Ints, names: Sequence[str] | None = None) -> "EventColumns":
        """Return only the rows with these indexes, and only these fields when some are named."""
        batch = self.batch if names is None else self.batch.select(list(names))
        return EventColumns(batch.take(rows), self.over_step_limit)

    def _attribute(self, key: str) -> Array:
        # The last entry counts when a writer repeated a key.
        strings: Array = pc.map_lookup(self.column("attributes"), pa.scalar(key), "last")
        return strings


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """Where a record of `log-events` stands, when the broker took it, and which trace brought it."""

    partition: int
    offset: int
    arrival_ns: int
    traceparent: str = ""
    # Whose events it has.
    tenant: str = SOLE_TENANT


@dataclass(frozen=True, slots=True, kw_only=True)
class EventBatch:
    """Records of a fetch, each partition's in the order of offsets, and the events of all of them in that order.

    A record that could not be decoded is here with no events.
    """

    records: tuple[LogRecord, ...]
    lengths: Ints
    columns: EventColumns

    def __post_init__(self) -> None:
        if len(self.records) != len(self.lengths) or int(self.lengths.sum()) != len(self.columns):
            raise ValueError("lengths must say how many events each record has")

    def record_of_event(self) -> Ints:
        """Return for each event the index of its record."""
        return np.repeat(np.arange(len(self.records), dtype=np.int64), self.lengths)

    def arrivals_ns(self) -> Ints:
        """Return when each record arrived."""
        return np.fromiter((record.arrival_ns for record in self.records), np.int64, len(self.records))


def event_times_ns(columns: EventColumns, arrivals_ns: Ints) -> Ints:
    """Return when each event happened: its own time, or else when its record arrived."""
    column = columns.batch.column("event_time")
    if column.null_count == len(column):
        return arrivals_ns
    times = column.cast(pa.timestamp("ns", tz="UTC")).cast(pa.int64()).fill_null(0).to_numpy()
    times = np.clip(times, EARLIEST_NS, LATEST_NS)
    if column.null_count:
        times = np.where(column.is_null().to_numpy(zero_copy_only=False), arrivals_ns, times)
    return times


def codes_and_values(column: Array) -> tuple[Ints, Array]:
    """Return the values of a column as codes of the distinct ones, and these; null is a value too."""
    encoded: Any = pc.dictionary_encode(column, null_encoding="encode")
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary


def offsets_array(numbers: Ints) -> Any:
    """Return where the parts of a list begin, as Arrow takes it; pa.array is slow for a few numbers."""
    return pa.Array.from_buffers(pa.int32(), len(numbers), [None, pa.py_buffer(numbers.astype(np.int32).tobytes())])


def mask_of(booleans: pa.BooleanArray, *, value: bool = True) -> RowMask:
    """Return the rows that have this value; null is neither true nor false."""
    rows = slice(booleans.offset, booleans.offset + len(booleans))
    validity, bits = booleans.buffers()
    mask = _unpack(bits, rows) if value else ~_unpack(bits, rows)
    return mask if validity is None else mask & _unpack(validity, rows)


def _unpack(buffer: Any, rows: slice) -> RowMask:
    if rows.start == rows.stop:
        return np.zeros(0, dtype=np.bool_)
    packed = np.frombuffer(buffer, dtype=np.uint8, count=(rows.stop + 7) // 8)
    return np.unpackbits(packed, count=rows.stop, bitorder="little")[rows].view(np.bool_)


def field_values(columns: EventColumns, value_field: str) -> tuple[Floats, RowMask]:
    """Return the numbers of a rule's value field, and the rows that have one; only finite numbers count."""
    values: tuple[Floats, RowMask] = columns.cached(
        ("values", value_field), lambda: _field_values(columns, value_field)
    )
    return values


def _field_values(columns: EventColumns, value_field: str) -> tuple[Floats, RowMask]:
    if value_field.startswith(_ATTRIBUTE_PREFIX):
        numbers = _keep_numbers(columns.attribute(value_field.removeprefix(_ATTRIBUTE_PREFIX)))
    else:
        numbers = columns.column(value_field)
    doubles: Floats = np.asarray(pc.cast(numbers, pa.float64()).to_numpy(zero_copy_only=False))
    return doubles, np.isfinite(doubles)


def _keep_numbers(strings: Array) -> Array:
    """Return the strings that are numbers; null for the others."""
    kept: Array = pc.if_else(pc.match_substring_regex(strings, _NUMBER), strings, pa.scalar(None, pa.string()))
    return kept
