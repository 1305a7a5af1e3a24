"""Arrow columns as numpy sees them, without an object per row.

A batch has hundreds of rows, so that each call of numpy costs about as much as its work: functions look first whether
anything is wrong at all, which is the rule, and answer None when nothing is.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Column: TypeAlias = "pa.Array[Any]"
Columns: TypeAlias = Mapping[str, Any]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.integer[Any]]
Offsets = npt.NDArray[np.int32]

_INT32_BYTES = 4


def offsets_of(column: Column) -> Offsets:
    """Where each row of a string, binary, list or map column begins and the last one ends."""
    if not len(column):
        return np.zeros(1, dtype=np.int32)
    return np.frombuffer(_buffer(column, 1), np.int32, len(column) + 1, column.offset * _INT32_BYTES)


def sizes_of(column: Column) -> Numbers:
    """Bytes of each string, or entries of each list or map."""
    offsets = offsets_of(column)
    return offsets[1:] - offsets[:-1]


def numbers_of(column: Column, kind: type[np.generic]) -> Any:
    """The numbers of a column; where it is null, any number may stand."""
    item = np.dtype(kind).itemsize
    return np.frombuffer(_buffer(column, 1), kind, len(column), column.offset * item)


def bytes_outside(column: Column, least: int, most: int) -> Mask | None:
    """Where a string has fewer or more bytes than allowed."""
    return outside(sizes_of(column), least, most)


def characters_outside(column: Any, least: int, most: int) -> Mask | None:
    """Where a string has fewer or more characters (code points) than allowed; `least` is 0 or 1."""
    # With at most `most` bytes there are at most as many characters, and none exactly where there is no byte.
    if bytes_outside(column, least, most) is None:
        return None
    return outside(pc.utf8_length(column).to_numpy(zero_copy_only=False), least, most)


def outside(numbers: Any, least: float, most: float) -> Mask | None:
    """Where a number is below or above what is allowed, or is none at all."""
    if not numbers.size or (numbers.min() >= least and numbers.max() <= most):
        return None
    # Written so that "not a number", which is neither, is outside.
    wrong: Mask = np.logical_not((numbers >= least) & (numbers <= most))
    return wrong


def other_than_hex(column: Column) -> Mask | None:
    """Where a string has a character that is not a lower-case hexadecimal digit; not all may be empty."""
    offsets = offsets_of(column)
    begin, end = int(offsets[0]), int(offsets[-1])
    text = np.frombuffer(_buffer(column, 2), np.uint8, end - begin, begin)
    # Unsigned: what lies below "0" or "a" becomes a large number.
    is_hex: Mask = ((text - ord("0")) < 10) | ((text - ord("a")) < 6)  # noqa: PLR2004  (ten digits, six letters)
    return None if is_hex.all() else rows_of(~is_hex, offsets - begin)


def rows_of(entries: Mask, offsets: Offsets) -> Mask:
    """Which rows own at least one of the marked entries; row i owns those from offsets[i] to offsets[i + 1]."""
    rows = np.zeros(len(offsets) - 1, dtype=np.bool_)
    rows[np.searchsorted(offsets, np.flatnonzero(entries), side="right") - 1] = True
    return rows


def any_of(*masks: Mask | None) -> Mask | None:
    """Where at least one of the masks is set."""
    found = [mask for mask in masks if mask is not None]
    if not found:
        return None
    rows: Mask = np.logical_or.reduce(found)
    return rows


def _buffer(column: Column, place: int) -> Any:
    """Give the column's memory as it is; the stubs do not know that numpy reads Arrow's buffers."""
    return column.buffers()[place]
