"""Events as columns of any schema, turned into the columns of the contract.

A column has the name of a field in either spelling of the proto, and a type that can hold the field; any other column
becomes an attribute under its name, a struct one for each value inside it. What does not fit in a type refuses the
whole, since it is a mistake in a program; what does not fit in a value is for the checks of each event.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from services.domain.event_fields import MAX_STATUS, MIN_STATUS
from services.ingest.core.adjustments import Adjustment, AdjustmentAction
from services.ingest.core.attribute_columns import (
    AttributeSource,
    MergedAttributes,
    TooManyBytesError,
    attribute_sources,
    map_source,
    merge_attributes,
    present_values,
)
from services.ingest.core.column_texts import (
    MAX_DEPTH,
    depth_of,
    floats_of,
    integers_of,
    is_number,
    is_taken,
    is_text,
    kind_of,
    text_size,
    texts_of,
)
from services.ingest.core.column_values import NO_TIME, levels_of, time_array, times_of
from services.ingest.core.columns import Mask
from services.ingest.core.field_checks import EventField
from services.ingest.core.json_text import describe_json

# Those inside others count.
MAX_COLUMNS: Final = 256
_FIELDS: Final = {each.value: each for each in EventField if each is not EventField.EVENT}
_FIELDS_BY_NAME: Final = _FIELDS | {each.name.lower(): each for each in _FIELDS.values()}
_TIME_NAMES: Final = ("timestamp", "time", "@timestamp")
# With a type: without one, pyarrow looks for pandas each time.
_NO_TEXT: Final[Any] = pa.scalar("", pa.string())
_TEXT = "a string"
_OTHER = "a string, number, boolean, time, struct, list or map"


class UnusableColumnsError(ValueError):
    """The columns cannot be events; the text names the column, what is expected and what was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignEvents:
    """Events in the contract's columns, with what was changed to get there."""

    columns: pa.RecordBatch
    adjusted: tuple[tuple[Adjustment, Mask], ...]
    found_values: Mapping[tuple[int, EventField], str]
    """What was found instead of a level or a time."""


def check_schema(schema: pa.Schema) -> None:
    """Check names and types before any column is read. Raises UnusableColumnsError."""
    try:
        count = sum(_count(column) for column in schema)
    except UnicodeDecodeError:
        raise UnusableColumnsError("expected names of columns in UTF-8, found other bytes") from None
    if count > MAX_COLUMNS:
        raise UnusableColumnsError(f"expected at most {MAX_COLUMNS} columns, those in structs included, found {count}")
    found: set[str] = set()
    for column in schema:
        event_field = _FIELDS_BY_NAME.get(column.name)
        name = column.name if event_field is None else event_field.value
        if name in found:
            raise _unusable(column.name, "each column once", "a second one")
        found.add(name)
        _check_type(column.name, event_field, column.type)


def to_events(columns: pa.RecordBatch, schema: pa.Schema, *, max_attributes: int, max_bytes: int) -> ForeignEvents:
    """Return events in the columns of `schema`, the contract's, from columns whose schema was checked.

    Raises UnusableColumnsError where they would take more than `max_bytes`, or two columns become one attribute.
    """
    if sum(text_size(column) for column in columns.columns) > max_bytes:
        raise _too_large(max_bytes)
    by_field: dict[EventField, Any] = {}
    others: dict[str, Any] = {}
    for name, column in zip(columns.schema.names, columns.columns, strict=True):
        event_field = _FIELDS_BY_NAME.get(name)
        if event_field is None:
            others[name] = column
        else:
            by_field[event_field] = column
    return _Conversion(columns.num_rows, schema, by_field, others).events(max_attributes, max_bytes)


class _Conversion:
    """One turning of columns into events."""

    def __init__(
        self, row_count: int, schema: pa.Schema, by_field: dict[EventField, Any], others: dict[str, Any]
    ) -> None:
        self._row_count = row_count
        self._schema = schema
        self._by_field = by_field
        self._others = others
        self._adjusted: list[tuple[Adjustment, Mask]] = []
        self._kept: list[AttributeSource] = []
        self._found_values: dict[tuple[int, EventField], str] = {}

    def events(self, max_attributes: int, max_bytes: int) -> ForeignEvents:
        arrays: dict[EventField, Any] = {
            EventField.EVENT_TIME: self._event_time(),
            EventField.LEVEL: self._level(),
            EventField.STATUS_CODE: self._status_code(),
            EventField.RESPONSE_TIME: self._response_time(),
        }
        for each in (
            EventField.RECORD_ID,
            EventField.SERVICE,
            EventField.MESSAGE,
            EventField.HOST,
            EventField.TRACE_ID,
        ):
            arrays[each] = self._text(each)
        arrays[EventField.ATTRIBUTES] = self._attributes(max_attributes, max_bytes)
        ordered = [arrays[_FIELDS_BY_NAME[name]] for name in self._schema.names]
        return ForeignEvents(
            columns=pa.RecordBatch.from_arrays(ordered, schema=self._schema),
            adjusted=tuple(self._adjusted),
            found_values=self._found_values,
        )

    def _text(self, event_field: EventField) -> Any:
        column = self._by_field.get(event_field)
        if column is None:
            return pa.repeat(_NO_TEXT, self._row_count)
        texts = texts_of(column)
        return pc.fill_null(texts, _NO_TEXT) if texts.null_count else texts

    def _level(self) -> Any:
        column = self._by_field.get(EventField.LEVEL)
        if column is None or types.is_null(column.type):
            return pa.array(np.zeros(self._row_count, dtype=np.int32))
        levels = levels_of(column)
        self._find(EventField.LEVEL, column, levels == 0)
        return pa.array(levels)

    def _event_time(self) -> Any:
        column = self._by_field.get(EventField.EVENT_TIME)
        if column is None:
            return self._time_elsewhere()
        times = times_of(column)
        self._find(EventField.EVENT_TIME, column, (times == NO_TIME) & column.is_valid().to_numpy(zero_copy_only=False))
        return time_array(times, column)

    def _find(self, event_field: EventField, column: Any, is_unread: Mask) -> None:
        """Note what stands where no value of the field could be read."""
        rows = np.flatnonzero(is_unread)
        texts = texts_of(column).take(pa.array(rows)).to_pylist() if len(rows) else []
        for row, text in zip(rows.tolist(), texts, strict=True):
            is_quoted = text is None or is_text(column.type)
            self._found_values[row, event_field] = describe_json(text) if is_quoted else text

    def _time_elsewhere(self) -> Any:
        """Take the time from where loggers write it, if each value there can be read."""
        for name in _TIME_NAMES:
            column = self._others.get(name)
            if column is None or not _may_be_time(column.type) or column.null_count == len(column):
                continue
            times = times_of(column)
            is_unread = (times == NO_TIME) & column.is_valid().to_numpy(zero_copy_only=False)
            if not is_unread.any():
                del self._others[name]
                return time_array(times, column)
        return pa.nulls(self._row_count, pa.timestamp("ns", "UTC"))

    def _status_code(self) -> Any:
        column = self._by_field.get(EventField.STATUS_CODE)
        if column is None or types.is_null(column.type):
            return pa.nulls(self._row_count, pa.int32())
        numbers = integers_of(column)
        fits = (numbers >= MIN_STATUS) & (numbers <= MAX_STATUS)
        return self._number(EventField.STATUS_CODE, column, numbers, fits, pa.int32())

    def _response_time(self) -> Any:
        column = self._by_field.get(EventField.RESPONSE_TIME)
        if column is None or types.is_null(column.type):
            return pa.nulls(self._row_count, pa.float64())
        numbers = floats_of(column)
        fits = (numbers >= 0) & (numbers < np.inf)
        return self._number(EventField.RESPONSE_TIME, column, numbers, fits, pa.float64())

    def _number(self, event_field: EventField, column: Any, numbers: Any, fits: Mask, kind: Any) -> Any:
        """Return the numbers that fit, and keep the others as attributes."""
        is_valid = column.is_valid().to_numpy(zero_copy_only=False)
        is_kept = is_valid & ~fits
        if not is_kept.any():
            return column if column.type == kind else pa.array(numbers, kind, mask=~is_valid)
        self._kept.append(present_values(event_field.name.lower(), texts_of(column), is_kept))
        self._adjusted.append((Adjustment(event_field, AdjustmentAction.KEPT_AS_ATTRIBUTE), is_kept))
        return pa.array(np.where(fits, numbers, 0), kind, mask=~(is_valid & fits))

    def _attributes(self, max_attributes: int, max_bytes: int) -> Any:
        try:
            merged = merge_attributes(
                _with_names_that_differ(self._sources()),
                self._row_count,
                max_attributes=max_attributes,
                max_bytes=max_bytes,
            )
        except TooManyBytesError:
            raise _too_large(max_bytes) from None
        if merged.left_out is not None:
            self._adjusted.append((Adjustment(EventField.ATTRIBUTES, AdjustmentAction.LEFT_OUT), merged.left_out))
        return self._map(merged)

    def _sources(self) -> Iterator[AttributeSource]:
        yield from self._kept
        sent = self._by_field.get(EventField.ATTRIBUTES)
        if sent is not None and types.is_map(sent.type):
            yield map_source("", sent)
        elif sent is not None and types.is_struct(sent.type) and sent.type.num_fields:
            yield from attribute_sources("", sent)
        for name, column in self._others.items():
            yield from attribute_sources(name, column)

    def _map(self, merged: MergedAttributes) -> Any:
        # The stubs know no type of a map with keys and values by themselves.
        map_array: Any = pa.MapArray
        kind = self._schema.field(EventField.ATTRIBUTES.value).type
        return map_array.from_arrays(pa.array(merged.offsets), merged.keys, merged.values, type=kind)


def _count(column: "pa.Field[Any]") -> int:
    """Return how many columns one has in all; reading its name fails where it is not UTF-8."""
    kind: Any = column.type
    inner = (kind.field(index) for index in range(kind.num_fields)) if types.is_nested(kind) else ()
    return len([column.name]) + sum(map(_count, inner))


def _unusable(column: str, expected: str, found: str) -> UnusableColumnsError:
    return UnusableColumnsError(f"column {describe_json(column)}: expected {expected}, found {found}")


def _too_large(max_bytes: int) -> UnusableColumnsError:
    return UnusableColumnsError(f"expected at most {max_bytes} bytes once each event has its own strings, found more")


def _check_type(name: str, event_field: EventField | None, kind: Any) -> None:
    takes, expected = _TYPES[event_field] if event_field else (is_taken, _OTHER)
    if not (types.is_null(kind) or takes(kind)):
        raise _unusable(name, expected, kind_of(kind))
    if depth_of(kind) > MAX_DEPTH:
        raise _unusable(name, f"values at most {MAX_DEPTH} deep", "deeper ones")


def _with_names_that_differ(sources: Iterable[AttributeSource]) -> Iterator[AttributeSource]:
    found: set[str] = set()
    for source in sources:
        if source.keys is None and source.name in found:
            raise _unusable(source.name, "each column once", "a second one")
        found.add(source.name)
        yield source


def _may_be_named(kind: Any) -> bool:
    return is_text(kind) or (not types.is_dictionary(kind) and (is_number(kind) or types.is_boolean(kind)))


def _may_be_level(kind: Any) -> bool:
    return is_text(kind) or is_number(kind)


def _may_be_time(kind: Any) -> bool:
    return types.is_timestamp(kind) or is_text(kind) or is_number(kind)


def _may_be_attributes(kind: Any) -> bool:
    return (types.is_map(kind) or types.is_struct(kind)) and is_taken(kind)


_TYPES: Final[Mapping[EventField, tuple[Callable[[Any], bool], str]]] = {
    EventField.RECORD_ID: (_may_be_named, "a string or a number"),
    EventField.EVENT_TIME: (_may_be_time, "a timestamp, a string in the form of RFC 3339, or a number since 1970"),
    EventField.SERVICE: (is_text, _TEXT),
    EventField.LEVEL: (_may_be_level, "a string or an integer"),
    EventField.MESSAGE: (is_text, _TEXT),
    EventField.STATUS_CODE: (is_number, "an integer"),
    EventField.RESPONSE_TIME: (is_number, "a number"),
    EventField.HOST: (is_text, _TEXT),
    EventField.TRACE_ID: (is_text, _TEXT),
    EventField.ATTRIBUTES: (_may_be_attributes, "a map with keys that are strings, or a struct"),
}
