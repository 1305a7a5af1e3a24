"""Arrow columns as numpy sees them, without an object per row.

A batch has hundreds of rows, so each call of numpy costs about as much as its work. Functions first look whether any
row is marked at all, and return None when none is, which is the usual case.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Column: TypeAlias = "pa.Array[Any]"
# Events, with the columns of the contract (EVENT_SCHEMA in services/contract).
Columns: TypeAlias = pa.RecordBatch
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.integer[Any]]
Offsets = npt.NDArray[np.int32]

_INT32_BYTES = 4


def offsets_of(column: Column) -> Offsets:
    """Return where each row of a string, binary, list or map column begins and the last one ends."""
    if not len(column):
        return np.zeros(1, dtype=np.int32)
    return np.frombuffer(_buffer(column, 1), np.int32, len(column) + 1, column.offset * _INT32_BYTES)


def sizes_of(column: Column) -> Numbers:
    """Return the bytes of each string, or the entries of each list or map."""
    offsets = offsets_of(column)
    return offsets[1:] - offsets[:-1]


def numbers_of(column: Column, kind: type[np.generic]) -> Any:
    """Return the numbers of a column; where it is null, the number may be any."""
    item = np.dtype(kind).itemsize
    return np.frombuffer(_buffer(column, 1), kind, len(column), column.offset * item)


def bytes_outside(column: Column, min_length: int, max_length: int) -> Mask | None:
    """Mark strings with fewer or more bytes than allowed."""
    sizes = sizes_of(column)
    return outside(sizes, min_length, max_length) if min_length else above(sizes, max_length)


def characters_outside(column: Any, min_length: int, max_length: int) -> Mask | None:
    """Mark strings with fewer or more characters (code points) than allowed; `min_length` is 0 or 1."""
    # A string has no more characters than bytes, and it is empty in both counts or in neither.
    if bytes_outside(column, min_length, max_length) is None:
        return None
    return outside(pc.utf8_length(column).to_numpy(zero_copy_only=False), min_length, max_length)


def outside(numbers: Any, minimum: float, maximum: float) -> Mask | None:
    """Mark numbers below the minimum or above the maximum, and NaN."""
    if not numbers.size or (numbers.min() >= minimum and numbers.max() <= maximum):
        return None
    # Written so that NaN, which is neither below nor above, is outside.
    rows: Mask = np.logical_not((numbers >= minimum) & (numbers <= maximum))
    return rows


def above(numbers: Any, maximum: int) -> Mask | None:
    """Mark integers above the maximum."""
    rows: Mask | None = numbers > maximum if numbers.size and numbers.max() > maximum else None
    return rows


def is_present(column: Column) -> Mask:
    """Mark rows that are not null, in a column that has nulls."""
    bits = np.frombuffer(_buffer(column, 0), np.uint8)
    end = column.offset + len(column)
    return np.unpackbits(bits, count=end, bitorder="little")[column.offset :].view(np.bool_)


def other_than_hex(column: Column) -> Mask | None:
    """Mark strings with a character that is not a lower-case hexadecimal digit; not all strings may be empty."""
    offsets = offsets_of(column)
    begin, end = int(offsets[0]), int(offsets[-1])
    text = np.frombuffer(_buffer(column, 2), np.uint8, end - begin, begin)
    # Unsigned: what lies below "0" or "a" becomes a large number.
    is_hex: Mask = ((text - ord("0")) < 10) | ((text - ord("a")) < 6)  # noqa: PLR2004  (ten digits, six letters)
    return None if is_hex.all() else rows_of(~is_hex, offsets - begin)


def rows_of(entries: Mask, offsets: Offsets) -> Mask:
    """Mark rows with at least one marked entry; row i has those from offsets[i] to offsets[i + 1]."""
    rows = np.zeros(len(offsets) - 1, dtype=np.bool_)
    rows[np.searchsorted(offsets, np.flatnonzero(entries), side="right") - 1] = True
    return rows


def any_of(*masks: Mask | None) -> Mask | None:
    """Mark rows that at least one of the masks marks."""
    found = [mask for mask in masks if mask is not None]
    if not found:
        return None
    rows: Mask = np.logical_or.reduce(found)
    return rows


def _buffer(column: Column, place: int) -> Any:
    """Return the column's memory; the stubs do not know that numpy reads Arrow's buffers."""
    return column.buffers()[place]
