"""One fetch's events, column by column, under the names of the rule language."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.evaluator.core.records import EARLIEST_NS, LATEST_NS

Mask: TypeAlias = NDArray[np.bool_]
Rows: TypeAlias = NDArray[np.int64]
# An Arrow array of any type: its kind of value is known from the contract, not to the type checker.
Array: TypeAlias = "pa.Array[Any]"

# A number as JSON writes it; other spellings are passed over.
_NUMBER = r"^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$"
_ATTRIBUTE_PREFIX = "attributes."


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Events as columns named as in the contract; absent values are null.

    What several rules need of the same events is computed once and remembered for as long as the columns live. One
    thread at a time may use them.
    """

    batch: pa.RecordBatch
    # How many of these events could not be judged, by the text of the expression; those of a part are counted here too.
    given_up: Counter[str] = field(default_factory=Counter)
    _memory: dict[object, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, events: pa.StructArray | pa.RecordBatch) -> "Columns":
        """Take decoded events as they are, without copying."""
        return cls(events if isinstance(events, pa.RecordBatch) else pa.RecordBatch.from_struct_array(events))

    def __len__(self) -> int:
        return self.batch.num_rows

    def column(self, name: str) -> Array:
        """A field of the event, as it came."""
        column: Array = self.batch.column(name)
        return column

    def integers(self, name: str) -> Array:
        """A field of the event as 64-bit integers, in which the rule language computes."""
        integers: Array = self.remembered(("integers", name), lambda: pc.cast(self.column(name), pa.int64()))
        return integers

    def attribute(self, key: str) -> Array:
        """An attribute's values as strings; null where an event has none of this key."""
        texts: Array = self.remembered(("attribute", key), lambda: self._attribute(key))
        return texts

    def remembered(self, key: object, compute: Callable[[], Any]) -> Any:
        """Give what was computed for this key before, or compute it now."""
        if key not in self._memory:
            self._memory[key] = compute()
        return self._memory[key]

    def take(self, rows: Rows, names: Sequence[str] | None = None) -> "Columns":
        """Only these rows, and only these fields when some are named."""
        batch = self.batch if names is None else self.batch.select(list(names))
        return Columns(batch.take(rows), self.given_up)

    def _attribute(self, key: str) -> Array:
        # The last entry is the one that counts when a writer repeated a key.
        texts: Array = pc.map_lookup(self.column("attributes"), pa.scalar(key), "last")
        return texts


def mask_of(answers: pa.BooleanArray, *, wanted: bool = True) -> Mask:
    """The rows with this answer; null is neither true nor false."""
    rows = slice(answers.offset, answers.offset + len(answers))
    validity, bits = answers.buffers()
    given = _bits(bits, rows) if wanted else ~_bits(bits, rows)
    return given if validity is None else given & _bits(validity, rows)


def _bits(buffer: Any, rows: slice) -> Mask:
    if rows.start == rows.stop:
        return np.zeros(0, dtype=np.bool_)
    packed = np.frombuffer(buffer, dtype=np.uint8, count=(rows.stop + 7) // 8)
    return np.unpackbits(packed, count=rows.stop, bitorder="little")[rows].view(np.bool_)


def values(columns: Columns, value_field: str) -> tuple[NDArray[np.float64], Mask]:
    """The numbers of a rule's value field, and where there is one; what is no finite number is passed over."""
    found: tuple[NDArray[np.float64], Mask] = columns.remembered(
        ("values", value_field), lambda: _values(columns, value_field)
    )
    return found


def _values(columns: Columns, value_field: str) -> tuple[NDArray[np.float64], Mask]:
    if value_field.startswith(_ATTRIBUTE_PREFIX):
        numbers = _numbers(columns.attribute(value_field.removeprefix(_ATTRIBUTE_PREFIX)))
    else:
        numbers = columns.column(value_field)
    doubles: NDArray[np.float64] = np.asarray(pc.cast(numbers, pa.float64()).to_numpy(zero_copy_only=False))
    return doubles, np.isfinite(doubles)


def _numbers(texts: Array) -> Array:
    """The texts that are numbers; null for the others."""
    kept: Array = pc.if_else(pc.match_substring_regex(texts, _NUMBER), texts, pa.scalar(None, pa.string()))
    return kept


Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Where and when a record of `log-events` arrived, and which trace brought it."""

    partition: int
    offset: int
    arrival_ns: int
    traceparent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Records of a fetch, each partition's in the order of offsets, and the events of all of them in that order.

    A record that could not be decoded is here with no events.
    """

    records: tuple[Record, ...]
    lengths: Ints
    columns: Columns

    def __post_init__(self) -> None:
        if len(self.records) != len(self.lengths) or int(self.lengths.sum()) != len(self.columns):
            raise ValueError("lengths must say how many events each record has")

    def record_of_event(self) -> Ints:
        """For each event, the index of its record."""
        return np.repeat(np.arange(len(self.records), dtype=np.int64), self.lengths)

    def arrivals_ns(self) -> Ints:
        """When each record arrived."""
        return np.fromiter((record.arrival_ns for record in self.records), np.int64, len(self.records))


def event_times_ns(columns: Columns, arrivals_ns: Ints) -> Ints:
    """When each event happened: what it says, or else when its record arrived."""
    said = columns.batch.column("event_time")
    if said.null_count == len(said):
        return arrivals_ns
    times = said.cast(pa.timestamp("ns", tz="UTC")).cast(pa.int64()).fill_null(0).to_numpy()
    times = np.clip(times, EARLIEST_NS, LATEST_NS)
    if said.null_count:
        times = np.where(said.is_null().to_numpy(zero_copy_only=False), arrivals_ns, times)
    return times
