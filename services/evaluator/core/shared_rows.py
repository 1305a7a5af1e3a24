"""Rows that rules share, on the way to the window stage: one row for all rules that have counted the same events.

The match stage counts once what rules of one bucketing and value field select together, and writes one row for each
group and pane, with the list of its rules. The window stage reads it as a row of each of them, as it always had them.
So nothing in keys changes: what is judged where still depends on the rule and the group alone (`records.partition_of`).
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from services.evaluator.core.distinct_integers import distinct_integers
from services.evaluator.core.match.events import Ints, RowMask
from services.evaluator.core.match.outputs import are_judged_in
from services.evaluator.core.partial_rows import PartialBatch, PartialRows, Sharers
from services.evaluator.core.rules import SelectionKey


def expand(batch: PartialBatch) -> PartialBatch:
    """Return a batch with a row for each of the rules that share one, of which this output partition judges the group.

    A row that is shared with nobody stays as it is: the writer has sent it where it is needed.
    """
    if all(len(each) == 1 for each in batch.rows.selections):
        return batch
    keys, members = _members(batch.rows)
    # A pair of a row and one of its sharers after the other.
    row = np.repeat(np.arange(len(batch.rows)), batch.rows.sharers)
    chosen = np.flatnonzero(_are_judged_here(batch, keys, row, members))
    row, members = row[chosen], members[chosen]
    sizes = np.bincount(batch.block_of_row[row], minlength=len(batch.blocks)).tolist()
    return replace(
        batch,
        blocks=[replace(part, rows=size) for part, size in zip(batch.blocks, sizes, strict=True)],
        rows=replace(batch.rows.take(row), selection=members, selections=tuple((key,) for key in keys)),
    )


def _members(rows: PartialRows) -> tuple[list[SelectionKey], Ints]:
    """Return the selections of all rows, and an index of them for each sharer of a row, one row after the other."""
    places, listed, sizes = _listed(tuple(rows.selections))
    counts = sizes[rows.selection]
    firsts = (np.cumsum(sizes) - sizes)[rows.selection] - (np.cumsum(counts) - counts)
    return list(places), listed[np.repeat(firsts, counts) + np.arange(int(counts.sum()))]


# What shares rows stays the same for many flushes.
@lru_cache(maxsize=64)
def _listed(selections: tuple[Sharers, ...]) -> tuple[dict[SelectionKey, int], Ints, Ints]:
    """Return the place of each selection, those of all entries one after the other, and how many each entry has."""
    places: dict[SelectionKey, int] = {}
    listed = [places.setdefault(key, len(places)) for each in selections for key in each]
    return places, np.array(listed, dtype=np.int64), np.array([len(each) for each in selections], dtype=np.int64)


def _are_judged_here(batch: PartialBatch, keys: list[SelectionKey], row: Ints, members: Ints) -> RowMask:
    """Return of each pair of a row and one of its sharers whether it counts here."""
    rows = batch.rows
    is_alone = rows.sharers == 1
    groups = distinct_integers(rows.group[~is_alone])
    place = np.zeros(len(rows.groups), dtype=np.int64)
    place[groups] = np.arange(len(groups))
    counts: RowMask = is_alone[row] | are_judged_in(
        batch.output,
        batch.outputs,
        [rule_id for rule_id, _ in keys],
        members,
        [rows.groups[each] for each in groups.tolist()],
        place[rows.group][row],
    )
    return counts
