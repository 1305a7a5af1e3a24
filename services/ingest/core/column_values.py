"""Levels and times in columns of any type that can hold them."""

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from services.domain.event_time import parse_epoch, parse_rfc3339
from services.domain.level import Level
from services.ingest.core.column_texts import floats_of, integers_of, is_number, is_text, texts_of

# A time that no check accepts.
NO_TIME: Final = -1
_LEVELS: Final = {level.name: int(level) for level in Level} | {str(int(level)): int(level) for level in Level}
_LONGEST_LEVEL = max(map(len, _LEVELS))
# Nanoseconds in each unit.
_UNITS: Final = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_MIN_SECONDS = 100_000_000
_MAX_NS: Final = np.iinfo(np.int64).max


def levels_of(column: Any) -> Any:
    """Return the numbers of levels that are names in any case or numbers; 0 for what is no level."""
    if not is_text(column.type):
        numbers = integers_of(column)
        return np.where((numbers >= min(Level)) & (numbers <= max(Level)), numbers, 0).astype(np.int32)
    if not types.is_dictionary(column.type) or len(column.dictionary) > len(column):
        column = texts_of(column).dictionary_encode()
    names = texts_of(column.dictionary).to_pylist()
    # A null is the last of the names: it is no level.
    numbers = np.array([*(_level(name) for name in names), 0], dtype=np.int32)
    places = integers_of(pc.fill_null(column.indices.cast(pa.int64()), len(names)))
    return numbers[places]


def _level(name: str | None) -> int:
    return _LEVELS.get(name.upper(), 0) if name is not None and len(name) <= _LONGEST_LEVEL else 0


def time_array(times: Any, column: Any) -> Any:
    """Return times as the contract has them, null where the column is."""
    mask = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
    return pa.array(times, pa.int64(), mask=mask).view(pa.timestamp("ns", "UTC"))


def times_of(column: Any) -> Any:
    """Return nanoseconds since 1970, NO_TIME for what is no time; where a row is null, any number."""
    if types.is_null(column.type):
        return np.full(len(column), NO_TIME, dtype=np.int64)
    if types.is_timestamp(column.type):
        numbers = integers_of(column.view(pa.int64()))
        factor = _UNITS[column.type.unit]
        return numbers if factor == 1 else _scaled(numbers, factor)
    if is_number(column.type):
        return _epoch_times(column)
    read = {text: NO_TIME if text is None else _read_time(text) for text in set(texts_of(column).to_pylist())}
    return np.array([read[text] for text in texts_of(column).to_pylist()], dtype=np.int64)


def _scaled(numbers: Any, factor: int) -> Any:
    """Return numbers times the factor, NO_TIME where that is out of range or before 1970."""
    fits = (numbers >= 0) & (numbers <= _MAX_NS // factor)
    return np.where(fits, numbers, 0) * factor + np.where(fits, 0, NO_TIME)


def _epoch_times(column: Any) -> Any:
    """Read numbers of seconds, milliseconds, microseconds or nanoseconds since 1970; the size tells the unit."""
    numbers = floats_of(column) if types.is_floating(column.type) else integers_of(column)
    times = np.full(len(column), NO_TIME, dtype=np.int64)
    for factor in _UNITS.values():
        unit = 1_000_000_000 // factor
        is_unit = (numbers >= _MIN_SECONDS * unit) & (numbers < min(1000 * _MIN_SECONDS * unit, _MAX_NS // factor))
        whole = np.where(is_unit, np.floor(numbers), 0).astype(np.int64)
        fraction = np.where(is_unit, (numbers - whole) * factor, 0).astype(np.int64)
        times = np.where(is_unit, whole * factor + fraction, times)
    return times


def _read_time(text: str) -> int:
    time = parse_rfc3339(text) or parse_epoch(text)
    if time is None:
        return NO_TIME
    nanoseconds = time[0] * 1_000_000_000 + time[1]
    return nanoseconds if 0 <= nanoseconds <= _MAX_NS else NO_TIME
