"""Whether the values of a snapshot fit together: what was read from a topic may be anything."""

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from services.evaluator.core.match.events import Ints
from services.evaluator.core.rules import SelectionKey
from services.evaluator.core.window.exact_sums import SumColumns
from services.evaluator.core.window.growing_blocks import BlockColumns
from services.evaluator.core.window.numbering import WindowEntry
from services.evaluator.core.window.pane_table import GROUP_BITS, TableColumns
from services.evaluator.core.window.snapshot import StageSnapshot

# As many samples as a growing block can keep of a row.
_MAX_SAMPLE_COUNT = 127


class InvalidSnapshotError(ValueError):
    """The values of a snapshot contradict each other: no stage has been in such a state."""


def check_snapshot(snapshot: StageSnapshot) -> None:
    """Check everything that restoring a stage relies on; raise InvalidSnapshotError.

    The types of the columns are the reader's business.
    """
    table = snapshot.table
    _require(snapshot.position >= 0, "position: below 0")
    _check_windows(table.windows, snapshot.selections.keys())
    groups = [group for group in table.groups if group is not None]
    _require(len(set(groups)) == len(groups), "groups: a group twice")
    _check_codes(table)
    slots, events, sums = len(table.codes) + 1, sum(map(len, table.samples.tables)), table.folded.sums
    _check_lengths([*table.folded.numbers.values(), sums.high, sums.low], len(table.codes), "folded")
    _check_sums(sums)
    for block in table.blocks.values():
        _check_block(block, slots, events)
    _check_lengths([table.samples.ids], len(table.samples.slots), "samples")
    _check_indexes(table.samples.slots, 0, slots, "samples: slots")
    _check_indexes(table.samples.ids, 0, events, "samples: ids")


def _check_windows(windows: Iterable[WindowEntry | None], selections: Collection[SelectionKey]) -> None:
    entries = list(windows)
    listed = [entry.key for entry in entries if entry is not None and entry.is_listed]
    _require(len(set(listed)) == len(listed), "windows: two begin at the same time")
    owners = [entry.overflow_of for entry in entries if entry is not None and entry.overflow_of]
    _require(len(set(owners)) == len(owners), "windows: two overflows of one window")
    for entry in entries:
        if entry is None:
            continue
        _require(0 <= entry.folded_of <= len(entries), "windows: totals of a window that is not there")
        _require(not entry.folded_of or entries[entry.folded_of - 1] is not None, "windows: totals of a free number")
        _require(0 <= entry.overflow_of <= len(entries), "windows: overflow of a window that is not there")
        _require(not entry.overflow_of or _may_overflow(entries[entry.overflow_of - 1]), "windows: overflow of another")
        if entry.is_open and entry.is_listed and entry.selection_revision:
            _require(entry.key[0] in selections, "windows: of a selection that is not known")


def _may_overflow(entry: WindowEntry | None) -> bool:
    return entry is not None and not entry.overflow_of and not entry.folded_of


def _check_codes(table: TableColumns) -> None:
    codes, numbers = table.codes, np.flatnonzero([False, *(entry is not None for entry in table.windows)])
    groups = np.flatnonzero([group is not None for group in table.groups])
    _require(_are_distinct(codes), "codes: a pane twice")
    _require(np.isin(codes >> GROUP_BITS, numbers).all(), "codes: a window that is not there")
    _require(np.isin(codes & ((1 << GROUP_BITS) - 1), groups).all(), "codes: a group that is not there")


def _check_sums(sums: SumColumns) -> None:
    _require(np.isfinite(sums.high).all() and not np.isinf(sums.low).any(), "sums: not finite")
    wide = (np.flatnonzero(np.isnan(sums.low)) + 1).tolist()
    _require(sorted(sums.integers) == wide, "sums: integers of other rows than those that have one")


def _check_block(block: BlockColumns, slots: int, events: int) -> None:
    own, counts = block.columns["slots"], block.columns["sample_count"]
    _check_lengths(block.columns.values(), len(own), "blocks")
    _check_indexes(own, 1, slots, "blocks: slots")
    _require(_are_distinct(own), "blocks: a pane twice")
    _check_indexes(counts, 0, _MAX_SAMPLE_COUNT + 1, "blocks: sample_count")
    _require(counts.sum() == len(block.sample_ids), "blocks: not as many samples as sample_count says")
    _check_indexes(block.sample_ids, 0, events, "blocks: samples")


def _are_distinct(numbers: Ints) -> bool:
    # Sorting a million takes a tenth of the time of numpy.unique.
    ordered = np.sort(numbers)
    return not (ordered[1:] == ordered[:-1]).any()


def _check_indexes(indexes: Ints, first: int, end: int, name: str) -> None:
    is_inside = not len(indexes) or (indexes.min() >= first and indexes.max() < end)
    _require(is_inside, f"{name}: outside of {first} to {end - 1}")


def _check_lengths(columns: Iterable[Any], length: int, name: str) -> None:
    _require(all(len(column) == length for column in columns), f"{name}: columns differ in length")


def _require(is_met: Any, problem: str) -> None:
    if not is_met:
        raise InvalidSnapshotError(problem)
