"""Which group of its rule an event belongs to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.domain.level import Level
from services.evaluator.core.columns import Columns, Rows

_LEVELS = {level.value: level.name for level in Level}
_ATTRIBUTE_PREFIX = "attributes."
# Up to how many cells a table of all combinations is cheaper than sorting.
_TABLE_CELLS = 65536


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """The groups that some rows fall into."""

    # The values of each group, in the order of the rule's group_by; "" where a value is absent.
    keys: list[tuple[str, ...]]
    # For each row that was asked for, the index of its key.
    ids: NDArray[np.int64]


def groups(columns: Columns, group_by: Sequence[str], rows: Rows) -> Groups:
    """Group these rows by these fields; one group of all rows when there are no fields, none when there are no rows."""
    encoded = [_encoded(columns, name) for name in group_by]
    ids, firsts = np.zeros(len(rows), dtype=np.int64), np.zeros(min(len(rows), 1), dtype=np.int64)
    for codes, words in encoded:
        ids, firsts = _numbered(ids * len(words) + codes[rows], len(firsts) * len(words))
    keys = [tuple(words[codes[row]] for codes, words in encoded) for row in rows[firsts]]
    return Groups(keys, ids)


def _encoded(columns: Columns, name: str) -> tuple[NDArray[np.int64], list[str]]:
    """A field as numbers of its different values, and these values as people read them."""
    encoded: tuple[NDArray[np.int64], list[str]] = columns.remembered(("groups", name), lambda: _encode(columns, name))
    return encoded


def _encode(columns: Columns, name: str) -> tuple[NDArray[np.int64], list[str]]:
    if name.startswith(_ATTRIBUTE_PREFIX):
        column = columns.attribute(name.removeprefix(_ATTRIBUTE_PREFIX))
    else:
        column = columns.column(name)
    if pa.types.is_string(column.type):
        # An absent text and an empty one are the same group, so they must be the same number as well.
        column = column.fill_null("")
    encoded: Any = pc.dictionary_encode(column, null_encoding="encode")
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, [_word(name, value) for value in encoded.dictionary.to_pylist()]


def _word(name: str, value: str | int | None) -> str:
    if value is None:
        return ""
    return _LEVELS.get(value, str(value)) if name == "level" and isinstance(value, int) else str(value)


def _numbered(codes: NDArray[np.int64], cells: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The codes as numbers without gaps, and for each number the first place where it stands."""
    if cells > max(_TABLE_CELLS, len(codes)):
        _, firsts, ids = np.unique(codes, return_index=True, return_inverse=True)
        return ids.astype(np.int64), firsts.astype(np.int64)
    table = np.full(cells, -1, dtype=np.int64)
    # Backwards, so that the first place is what remains.
    table[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    used = np.flatnonzero(table >= 0)
    firsts = table[used]
    table[used] = np.arange(len(used))
    return table[codes], firsts
