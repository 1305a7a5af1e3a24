"""What rules with the same scope, groups and windows share: which cell each event falls into."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.evaluator.core.arrival import Ints
from services.evaluator.core.columns import Columns
from services.evaluator.core.grouping import groups
from services.evaluator.core.partial import Group

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
