"""Arrow columns as numpy sees them, without an object per row."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Column: TypeAlias = "pa.Array[Any]"
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]
Offsets = npt.NDArray[np.int32]

_INT32_BYTES = 4
_HEX_DIGIT = np.zeros(256, dtype=np.bool_)
_HEX_DIGIT[list(b"0123456789abcdef")] = True


def offsets_of(column: Column) -> Offsets:
    """Where each row of a string, binary, list or map column begins and the last one ends."""
    if not len(column):
        return np.zeros(1, dtype=np.int32)
    start = column.offset * _INT32_BYTES
    return np.frombuffer(_buffer(column, 1), dtype=np.int32, count=len(column) + 1, offset=start)


def sizes_of(column: Column) -> Numbers:
    """Bytes of each string, or entries of each list or map."""
    return np.diff(offsets_of(column)).astype(np.int64)


def characters_are_outside(column: Any, least: int, most: int) -> Mask:
    """Where a string has fewer or more characters (code points) than allowed; `least` is 0 or 1."""
    sizes = sizes_of(column)
    if sizes.size and sizes.max() > most:
        # Only here can bytes and characters lead to different answers.
        sizes = pc.utf8_length(column).to_numpy(zero_copy_only=False).astype(np.int64)
    return (sizes < least) | (sizes > most)


def holds_other_than_hex(column: Column) -> Mask:
    """Where a string has a character that is not a lower-case hexadecimal digit."""
    offsets = offsets_of(column)
    begin, end = int(offsets[0]), int(offsets[-1])
    if begin == end:
        return np.zeros(len(column), dtype=np.bool_)
    text = np.frombuffer(_buffer(column, 2), dtype=np.uint8, count=end - begin, offset=begin)
    return rows_of(~_HEX_DIGIT[text], offsets - begin)


def _buffer(column: Column, place: int) -> Any:
    """Give the column's memory as it is; the stubs do not know that numpy reads Arrow's buffers."""
    return column.buffers()[place]


def rows_of(entries: Mask, offsets: Offsets) -> Mask:
    """Which rows own at least one of the marked entries; row i owns those from offsets[i] to offsets[i + 1]."""
    rows = np.zeros(len(offsets) - 1, dtype=np.bool_)
    marked = np.flatnonzero(entries)
    if marked.size:
        rows[np.searchsorted(offsets, marked, side="right") - 1] = True
    return rows
