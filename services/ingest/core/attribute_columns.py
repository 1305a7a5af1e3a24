"""Columns that become the attributes of events: entries of several sources, merged without an object for each."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from services.domain.event_fields import MAX_ATTRIBUTE_KEY
from services.ingest.core.column_texts import texts_of
from services.ingest.core.columns import Mask, Offsets, offsets_of, sizes_of

Rows = npt.NDArray[np.integer[Any]]
# Deeper structs are JSON.
_MAX_DEPTH = 8
# One character more than fits, so that it is seen that the key is cut.
_CUT_KEY: Final = MAX_ATTRIBUTE_KEY + 1
_MAX_UINT16 = 2**16
# More of them in one row are not compared one with another.
_FEW_KEYS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeSource:
    """Entries by rising row: all have the key `name`, or each has its own in `keys`; no value is null."""

    name: str
    keys: Any = None
    rows: Rows
    values: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedAttributes:
    """The entries of each row from offsets[i] to offsets[i + 1], with keys that differ."""

    offsets: Offsets
    keys: Any
    values: Any
    left_out: Mask | None
    """The rows of which entries were left out: there were too many, or one came first with the same key."""


class TooManyBytesError(Exception):
    """The entries would take more memory than allowed."""


def has_distinct_keys(column: Any) -> bool:
    """Return whether the rows of a map without nulls hold all its entries, and none has a key twice."""
    offsets = offsets_of(column)
    if offsets[0] or offsets[-1] != len(column.keys):
        return False
    sizes = offsets[1:] - offsets[:-1]
    rows = np.repeat(np.arange(len(column), dtype=np.int32), sizes)
    if len(column) and sizes.max() <= _FEW_KEYS and _look_distinct(column.keys, rows, int(sizes.max())):
        return True
    encoded = column.keys.dictionary_encode()
    return _first_of_each(rows.astype(np.int64) * len(encoded.dictionary) + encoded.indices.to_numpy()) is None


def _look_distinct(keys: Any, rows: Rows, max_count: int) -> bool:
    """Return whether the keys of each row differ in length, first or last byte, which is seen without reading them."""
    offsets = offsets_of(keys)
    begins, ends = offsets[:-1], offsets[1:]
    sizes = ends - begins
    if not len(keys) or not sizes.min():
        return not len(keys)
    letters = np.frombuffer(keys.buffers()[2], np.uint8)
    looks = (sizes << 16) + (letters[begins].astype(np.int32) << 8) + letters[ends - 1]
    return not any(
        ((looks[step:] == looks[:-step]) & (rows[step:] == rows[:-step])).any() for step in range(1, max_count)
    )


def attribute_sources(name: str, column: Any, depth: int = 1) -> Iterator[AttributeSource]:
    """Return what a column adds to the attributes: structs and maps have an entry for each value inside them."""
    kind = column.type
    if types.is_struct(kind) and kind.num_fields and depth < _MAX_DEPTH:
        for index, part in enumerate(column.flatten()):
            yield from attribute_sources(_dotted(name, kind.field(index).name), part, depth + 1)
    elif types.is_map(kind):
        yield map_source(name, column)
    elif not types.is_null(kind):
        yield present_values(name, texts_of(column), column.is_valid().to_numpy(zero_copy_only=False))


def map_source(name: str, column: Any) -> AttributeSource:
    """Return the entries of a map, their keys after the name and a dot, if there is a name."""
    # Neither the entries of null rows, nor those before the first row or after the last.
    offsets = offsets_of(column)
    sizes = np.where(column.is_valid().to_numpy(zero_copy_only=False), sizes_of(column), 0)
    begins = np.repeat(offsets[:-1] - (np.cumsum(sizes) - sizes), sizes)
    places = begins + np.arange(len(begins))
    rows = np.repeat(np.arange(len(column), dtype=np.int32), sizes)
    keys, values = texts_of(column.keys), texts_of(column.items)
    if not _is_range_from_zero(places, len(keys)):
        keys, values = keys.take(pa.array(places)), values.take(pa.array(places))
    if values.null_count:
        is_valid = values.is_valid()
        keys, values, rows = keys.filter(is_valid), values.filter(is_valid), rows[is_valid.to_numpy(False)]
    if name:
        keys = pc.binary_join_element_wise(name, keys, ".")
    return AttributeSource(name=name, keys=keys, rows=rows, values=values)


def present_values(name: str, texts: Any, is_present: Mask) -> AttributeSource:
    """Return the strings that are present, each as an entry with this key."""
    rows = np.flatnonzero(is_present)
    values = texts if len(rows) == len(texts) else texts.take(pa.array(rows))
    return AttributeSource(name=name, rows=rows, values=values)


def merge_attributes(
    sources: Iterable[AttributeSource], row_count: int, *, max_attributes: int, max_bytes: int
) -> MergedAttributes:
    """Merge entries, in each row those of the first source first; of two with one key the first one stays.

    Sources with a name have different ones. Raises TooManyBytesError where keys and values would take more than
    `max_bytes`.
    """
    sources, is_full = _with_room(sources, row_count, max_attributes)
    rows, values = _joined_entries(sources)
    names, codes = _key_codes(sources)
    order = None
    if len(sources) > 1:
        order = np.argsort(rows, kind="stable")
        rows, codes = rows[order], codes[order]
    kept = _kept(
        rows, codes, len(names), max_attributes, row_count, may_repeat=any(s.keys is not None for s in sources)
    )
    if kept is not None:
        is_full[rows[~kept]] = True
        order = np.flatnonzero(kept) if order is None else order[kept]
        rows, codes = rows[kept], codes[kept]
    if order is not None:
        values = values.take(pa.array(order))
    if sizes_of(names)[codes].sum(dtype=np.int64) + sizes_of(values).sum(dtype=np.int64) > max_bytes:
        raise TooManyBytesError
    offsets = np.zeros(row_count + 1, dtype=np.int32)
    np.cumsum(np.bincount(rows, minlength=row_count), out=offsets[1:])
    return MergedAttributes(
        offsets=offsets, keys=names.take(pa.array(codes)), values=values, left_out=is_full if is_full.any() else None
    )


def _with_room(
    sources: Iterable[AttributeSource], row_count: int, max_attributes: int
) -> tuple[list[AttributeSource], Mask]:
    """Return the sources of which a row has room for a value, and the rows that have none for a value of another.

    Very many columns would otherwise be merged only to be left out.
    """
    found = []
    counts, is_full = np.zeros(row_count, dtype=np.int32), np.zeros(row_count, dtype=np.bool_)
    for source in sources:
        if source.keys is None:
            has_room = counts[source.rows] < max_attributes
            if len(has_room) and not has_room.any():
                is_full[source.rows] = True
                continue
            counts[source.rows] += 1
        found.append(source)
    return found, is_full


def _dotted(name: str, inner: str) -> str:
    return (f"{name}.{inner[:_CUT_KEY]}" if name else inner)[:_CUT_KEY]


def _is_range_from_zero(places: Rows, size: int) -> bool:
    return len(places) == size and (not size or (places[0] == 0 and places[-1] == size - 1))


def _joined_entries(sources: Sequence[AttributeSource]) -> tuple[Rows, Any]:
    if not sources:
        return np.zeros(0, dtype=np.int32), pa.array([], pa.string())
    rows = np.concatenate([source.rows for source in sources])
    if len(rows) and rows.max() < _MAX_UINT16:
        rows = rows.astype(np.uint16)  # sorted by radix, in a tenth of the time
    return rows, pa.concat_arrays([source.values for source in sources])


def _key_codes(sources: Sequence[AttributeSource]) -> tuple[Any, Rows]:
    """Return the keys that differ, and which of them each entry has."""
    constant = pa.array([source.name for source in sources if source.keys is None], pa.string())
    own = [source.keys for source in sources if source.keys is not None]
    encoded = pa.concat_arrays([constant, *own]).dictionary_encode()
    codes = encoded.indices.to_numpy()
    place, own_place, found = 0, len(constant), []
    for source in sources:
        if source.keys is None:
            found.append(np.full(len(source.rows), codes[place]))
            place += 1
        else:
            found.append(codes[own_place : own_place + len(source.keys)])
            own_place += len(source.keys)
    return encoded.dictionary, np.concatenate(found) if found else np.zeros(0, dtype=np.int32)


def _kept(
    rows: Rows, codes: Rows, key_count: int, max_attributes: int, row_count: int, *, may_repeat: bool
) -> Mask | None:
    """Mark the entries that stay; None where all do."""
    kept = _first_of_each(rows.astype(np.int64) * key_count + codes) if may_repeat else None
    counts = np.bincount(rows, minlength=row_count)
    if kept is None and (not len(counts) or counts.max() <= max_attributes):
        return None
    if kept is None:
        kept = np.ones(len(rows), dtype=np.bool_)
    before: Rows = np.cumsum(kept) - kept
    begins = np.cumsum(counts) - counts
    rank = before - np.concatenate([before, [0]])[begins[rows]]
    within: Mask = kept & (rank < max_attributes)
    return within


def _first_of_each(entries: Rows) -> Mask | None:
    """Mark the first of equal numbers; None where no two are equal."""
    in_order = np.sort(entries)
    if not (in_order[1:] == in_order[:-1]).any():
        return None
    first = np.zeros(len(entries), dtype=np.bool_)
    first[np.unique(entries, return_index=True)[1]] = True
    return first
