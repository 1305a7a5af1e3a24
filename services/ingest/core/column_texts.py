"""Columns of any type as strings, without an object per value: what becomes an attribute is a string in the end.

Numbers and booleans are written as in JSON, times as in RFC 3339, lists and whatever is inside them as JSON. Null stays
null. What a column would take as strings is bounded before any is made: dictionaries and views repeat a long string for
a few bytes each.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from services.ingest.core.columns import Column, sizes_of

MAX_DEPTH: Final = 16
# More than a time or a long decimal has as a string.
_SCALAR_SIZE = 80
# What an element of a list or a member of an object has around it.
_PUNCTUATION = 8
# The longest number as a string, by its bits.
_NUMBER_SIZES: Final = {1: 5, 8: 4, 16: 8, 32: 16, 64: 25}
_VIEW_SIZE = 4  # how many int32 a view has; its length is the first
_FIRST_PRINTABLE = 0x20
_SIMPLE_ESCAPES: Final = {"\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


def is_text(kind: Any) -> bool:
    """Return whether a type holds strings, in any of Arrow's forms."""
    if types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_number(kind: Any) -> bool:
    """Return whether a type holds numbers."""
    return bool(types.is_integer(kind) or types.is_floating(kind))


def is_taken(kind: Any) -> bool:
    """Return whether columns of a type, which may be nested, can become strings."""
    if types.is_dictionary(kind):
        return _is_scalar(kind.value_type)
    return _is_scalar(kind) or (types.is_nested(kind) and _is_nested(kind) and all(map(is_taken, parts_of(kind))))


def parts_of(kind: Any) -> Iterator[Any]:
    """Return the types that a type has inside."""
    if types.is_map(kind):
        yield from (kind.key_type, kind.item_type)
    elif types.is_nested(kind):
        yield from (kind.field(index).type for index in range(kind.num_fields))


def depth_of(kind: Any) -> int:
    """Return how deep a type is nested: 1 for a plain one."""
    return 1 + max(map(depth_of, parts_of(kind)), default=0)


def kind_of(kind: Any) -> str:
    """Return what a type is, for people, without the names and types inside it."""
    return str(kind).partition("<")[0].partition("(")[0]


def _is_scalar(kind: Any) -> bool:
    checks = (types.is_null, types.is_boolean, types.is_decimal, types.is_date, types.is_time, types.is_timestamp)
    is_plain = is_number(kind) or types.is_duration(kind) or any(check(kind) for check in checks)
    return is_plain or (is_text(kind) and not types.is_dictionary(kind))


def _is_nested(kind: Any) -> bool:
    if types.is_map(kind):
        return is_text(kind.key_type)
    return bool(
        types.is_struct(kind) or types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    )


def text_size(column: Any) -> int:
    """Return how many bytes the strings of a column would take, or more, without making them."""
    kind = column.type
    if types.is_dictionary(kind):
        sizes = pa.array(_text_sizes(column.dictionary))
        repeated = pc.sum(pc.take(sizes, column.indices)).as_py() or 0
        return int(repeated) + int(_text_sizes(column.dictionary).sum())
    if types.is_map(kind):
        around = _PUNCTUATION * (len(column) + len(column.keys))
        return text_size(column.keys) + text_size(column.items) + around
    if types.is_struct(kind):
        names = sum(len(kind.field(index).name.encode()) for index in range(kind.num_fields))
        inside = sum(text_size(column.field(index)) for index in range(kind.num_fields))
        return inside + (names + _PUNCTUATION * (1 + kind.num_fields)) * len(column)
    if types.is_nested(kind):
        return text_size(column.values) + _PUNCTUATION * (len(column) + len(column.values))
    return int(_text_sizes(column).sum())


def _text_sizes(column: Any) -> Any:
    """Return the bytes of each value as a string, or more."""
    if types.is_string(column.type):
        return sizes_of(column).astype(np.int64)
    if types.is_large_string(column.type):
        return np.diff(np.frombuffer(column.buffers()[1], np.int64, len(column) + 1, column.offset * 8))
    if types.is_string_view(column.type):
        return _view_sizes(column)
    return np.full(len(column), _scalar_size(column.type), dtype=np.int64)


def _scalar_size(kind: Any) -> int:
    if types.is_null(kind):
        return 0
    return _NUMBER_SIZES[kind.bit_width] if is_number(kind) or types.is_boolean(kind) else _SCALAR_SIZE


def _view_sizes(column: Any) -> Any:
    return _views(column)[column.offset :, 0].astype(np.int64)


def _views(column: Any) -> Any:
    """Return what a view is for each value: length, and where it stands; all zero where it is null."""
    size = column.offset + len(column)
    views = np.frombuffer(column.buffers()[1], np.int32, _VIEW_SIZE * size).reshape(-1, _VIEW_SIZE)
    if not column.null_count:
        return views
    # Where a view is null, it may be any.
    views = views.copy()
    views[column.offset :][column.is_null().to_numpy(zero_copy_only=False)] = 0
    return views


def _without_views(column: Any) -> Any:
    validity, _, *buffers = column.buffers()
    # Arrow's own cast follows views that are null, and ends the process.
    clean = pa.Array.from_buffers(
        column.type, len(column), [validity, pa.py_buffer(_views(column)), *buffers], offset=column.offset
    )
    return clean.cast(pa.string())


def texts_of(column: Any) -> Any:
    """Return the values of a column as strings; null stays null."""
    kind = column.type
    if types.is_string(kind):
        return column
    if types.is_string_view(kind):
        return _without_views(column)
    if types.is_dictionary(kind):
        return pc.take(texts_of(column.dictionary), column.indices)
    if types.is_nested(kind):
        return _with_nulls_of(json_texts_of(column), column)
    return _scalar_texts(column)


def _scalar_texts(column: Any) -> Any:
    kind = column.type
    if types.is_timestamp(kind):
        # Without a zone: only so does Arrow find what is outside its calendar.
        column = column.view(pa.timestamp(kind.unit))
    if types.is_float16(kind):
        column = column.cast(pa.float32())
    texts = column.cast(pa.string())
    if types.is_floating(kind):
        return _json_floats(texts)
    if types.is_timestamp(kind) or types.is_date(kind) or types.is_time(kind):
        return _times(texts, column)
    return texts


def _json_floats(texts: Any) -> Any:
    for found, expected in (("nan", "NaN"), ("-nan", "NaN"), ("inf", "Infinity"), ("-inf", "-Infinity")):
        texts = pc.if_else(pc.equal(texts, pa.scalar(found)), expected, texts)
    return texts


def _times(texts: Any, column: Any) -> Any:
    """Correct Arrow's own spelling; what lies outside its calendar is the number that it is."""
    is_outside = pc.starts_with(texts, "<")
    if types.is_timestamp(column.type):
        texts = pc.binary_join_element_wise(pc.replace_substring(texts, " ", "T"), "Z", "")
    if pc.any(is_outside).as_py():
        width = pa.int32() if column.type.bit_width == pa.int32().bit_width else pa.int64()
        texts = pc.if_else(is_outside, column.view(width).cast(pa.string()), texts)
    return texts


def json_texts_of(column: Any) -> Any:
    """Return the values of a column as JSON; null is written as null."""
    kind = column.type
    if types.is_struct(kind):
        texts = _objects([kind.field(index).name for index in range(kind.num_fields)], column.flatten())
    elif types.is_map(kind):
        texts = _maps(column)
    elif types.is_nested(kind):
        texts = _lists(column)
    elif is_number(kind) or types.is_boolean(kind) or types.is_null(kind) or types.is_decimal(kind):
        texts = texts_of(column)
    else:
        texts = _quoted(texts_of(column))
    return pc.fill_null(_with_nulls_of(texts, column), "null")


def _objects(names: list[str], parts: list[Any]) -> Any:
    pieces: list[Any] = ["{"]
    for place, (name, part) in enumerate(zip(names, parts, strict=True)):
        pieces += [f"{',' if place else ''}{_quoted(pa.array([name]))[0]}:", json_texts_of(part)]
    return pc.binary_join_element_wise(*pieces, "}", "") if parts else None


def _maps(column: Any) -> Any:
    entries = pc.binary_join_element_wise(_quoted(texts_of(column.keys)), json_texts_of(column.items), ":")
    return _joined(column.offsets, entries, "{", "}")


def _lists(column: Any) -> Any:
    if types.is_fixed_size_list(column.type):
        size = column.type.list_size
        offsets = pa.array(np.arange(len(column) + 1, dtype=np.int32) * np.int32(size))
        return _joined(offsets, json_texts_of(column.values[column.offset * size :]), "[", "]")
    return _joined(column.offsets.cast(pa.int32()), json_texts_of(column.values), "[", "]")


def _joined(offsets: Any, entries: Any, opening: str, closing: str) -> Any:
    joined: Any = pc.binary_join(pa.ListArray.from_arrays(offsets, entries), ",")
    return pc.binary_join_element_wise(opening, joined, closing, "")


def _quoted(texts: Any) -> Any:
    texts = pc.replace_substring(pc.replace_substring(texts, "\\", "\\\\"), '"', '\\"')
    for control in _controls_in(texts):
        texts = pc.replace_substring(texts, control, _SIMPLE_ESCAPES.get(control, f"\\u{ord(control):04x}"))
    return pc.binary_join_element_wise('"', texts, '"', "")


def _controls_in(texts: Any) -> list[str]:
    data = texts.buffers()[2]
    letters = np.frombuffer(data, np.uint8) if data else np.zeros(0, dtype=np.uint8)
    return [chr(code) for code in np.unique(letters[letters < _FIRST_PRINTABLE]).tolist()]


def _with_nulls_of(texts: Any, column: Column) -> Any:
    if texts is None:
        texts = pa.array(["{}"] * len(column), pa.string())
    return pc.if_else(column.is_valid(), texts, None) if column.null_count else texts


def integers_of(column: Any) -> Any:
    """Return numbers as int64, and 0 for those that are null, not whole or too large for it."""
    if types.is_floating(column.type):
        numbers = floats_of(column)
        is_whole = (np.abs(numbers) < 2.0**63) & (np.floor(numbers) == numbers)
        return np.where(is_whole, numbers, 0).astype(np.int64)
    numbers = (pc.fill_null(column, 0) if column.null_count else column).to_numpy()
    if numbers.dtype == np.uint64:
        numbers = np.where(numbers <= np.iinfo(np.int64).max, numbers, 0)
    return numbers.astype(np.int64)


def floats_of(column: Any) -> Any:
    """Return numbers as float64, and 0 for those that are null."""
    if types.is_float16(column.type):
        column = column.cast(pa.float32())
    if not types.is_float64(column.type):
        column = column.cast(pa.float64(), safe=False)
    return (pc.fill_null(column, 0.0) if column.null_count else column).to_numpy()
