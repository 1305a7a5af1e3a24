"""What rules with the same scope, grouping and window share: the bucket (block, pane, group) of each event."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.domain.level import Level
from services.evaluator.core.match.events import Columns, Ints, Rows
from services.evaluator.core.records import Group

# Above this many possible cells for each event, the cells that occur are found by sorting instead of counting.
_SPARSE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One block, one pane, one group."""

    block: int
    pane_ns: int
    group: Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The cells that occur in a fetch. Arrays named `of_event` have an entry for each event of the fetch."""

    cells: tuple[Cell, ...]
    # The cell of each event; -1 where the scope does not select it.
    of_event: Ints
    # None when the scope selects every event.
    selected: NDArray[np.bool_] | None
    # For each event, how many before it are in its cell.
    rank: Ints
    total: list[int]
    last_event_ns: list[int]


def frame_of(
    columns: Columns,
    selected: NDArray[np.bool_] | None,
    group_by: Sequence[str],
    window_ns: int,
    *,
    times_ns: Ints,
    blocks: Ints,
) -> Frame:
    """Put each selected event into its cell; `blocks` numbers the block of each event from 0."""
    rows = np.arange(len(columns)) if selected is None else np.flatnonzero(selected)
    found = groups(columns, group_by, rows)
    panes, pane_of_row = _panes(times_ns[rows], window_ns)
    width = max(len(found.keys), 1)
    codes = (blocks[rows] * len(panes) + pane_of_row) * width + found.ids
    present, cell_of_row, total = _compact(codes)
    last = np.full(len(present), np.iinfo(np.int64).min)
    np.maximum.at(last, cell_of_row, times_ns[rows])
    of_event = cell_of_row
    rank = ranks = _ranks(cell_of_row, total)
    if selected is not None:
        of_event, rank = np.full(len(columns), -1), np.full(len(columns), -1)
        of_event[rows], rank[rows] = cell_of_row, ranks
    return Frame(
        cells=tuple(_cell(code, panes, found.keys) for code in present.tolist()),
        of_event=of_event,
        selected=selected,
        rank=rank,
        total=total.tolist(),
        last_event_ns=last.tolist(),
    )


def _ranks(cells: Ints, counts: Ints) -> Ints:
    ranks = np.empty(len(cells), dtype=np.int64)
    ranks[np.argsort(cells, kind="stable")] = np.arange(len(cells)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


def _cell(code: int, panes: Sequence[int], keys: Sequence[Group]) -> Cell:
    rest, group = divmod(code, len(keys))
    block, pane = divmod(rest, len(panes))
    return Cell(block=block, pane_ns=panes[pane], group=keys[group])


def _panes(times_ns: Ints, window_ns: int) -> tuple[list[int], Ints | int]:
    """Give the panes' starts, and for each time the index of its pane."""
    if not len(times_ns):
        return [0], 0
    first, last = int(times_ns.min()) // window_ns, int(times_ns.max()) // window_ns
    if first == last:
        return [first * window_ns], 0
    numbers, index = np.unique(times_ns // window_ns, return_inverse=True)
    return [number * window_ns for number in numbers.tolist()], index


def _compact(codes: Ints) -> tuple[Ints, Ints, Ints]:
    """Give the codes that occur, for each entry the index of its code, and how often each occurs."""
    size = int(codes.max()) + 1 if len(codes) else 0
    if size > _SPARSE * len(codes) + 1024:
        present, index, counts = np.unique(codes, return_inverse=True, return_counts=True)
        return present, index, counts
    counts = np.bincount(codes, minlength=size)
    present = np.flatnonzero(counts)
    dense = np.empty(size, dtype=np.int64)
    dense[present] = np.arange(len(present))
    return present, dense[codes], counts[present]


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
