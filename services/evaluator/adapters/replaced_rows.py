"""Which rows of a fetch of `window-partials` other rows of the same fetch replace."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from services.evaluator.core.match.events import Ints, RowMask
from services.evaluator.core.partial_rows import PartialBatch, concat
from services.evaluator.core.records import BlockProgress


def leave_out_replaced(
    batches: Sequence[PartialBatch], judged: Sequence[bool], outputs: Sequence[int]
) -> list[PartialBatch]:
    """Return the batches without the rows that others replace; rows with samples stay, as later ones may omit them.

    Of each key the judged row that reaches furthest counts. It is not always the last: a writer that began again
    repeats rows, and repeated rows of a block are stale once a later block has begun. Rows that are not judged yet
    replace none: windows close before they are read.
    """
    rows = concat([batch.rows for batch in batches])
    batch_of_row = np.repeat(np.arange(len(batches)), [len(batch.rows) for batch in batches])
    progress = [batch.progress for batch in batches]
    is_judged = np.array(judged, dtype=np.bool_)
    up_to = np.array([each.up_to for each in progress])
    reached = np.where(is_judged & ~_is_stale(outputs, progress), up_to, -1)
    keys = [
        np.array([each.source_partition for each in progress])[batch_of_row],
        np.array([each.block for each in progress])[batch_of_row],
        np.array(outputs)[batch_of_row],
        rows.selection,
        rows.group,
        rows.pane_ns,
    ]
    kept = _greatest_of_each(keys, reached[batch_of_row]) | ~is_judged[batch_of_row]
    kept[rows.sample_rows] = True
    indexes = np.flatnonzero(kept)
    borders = np.searchsorted(batch_of_row[indexes], np.arange(len(batches) + 1)).tolist()
    return [
        replace(batch, rows=rows.take(indexes[start:end]))
        for batch, (start, end) in zip(batches, pairwise(borders), strict=True)
    ]


def _is_stale(outputs: Sequence[int], progress: Sequence[BlockProgress]) -> RowMask:
    """Mark the batches of blocks after which a later block of the same source has begun."""
    latest_blocks: dict[tuple[int, int], int] = {}
    is_stale = []
    for output, each in zip(outputs, progress, strict=True):
        key = output, each.source_partition
        latest_blocks[key] = latest = max(each.block, latest_blocks.get(key, each.block))
        is_stale.append(each.block < latest)
    return np.array(is_stale, dtype=bool)


def _greatest_of_each(keys: Sequence[Ints], values: Ints) -> RowMask:
    """Mark the row of each key with the greatest value."""
    # The first array is the last to decide.
    order = np.lexsort([values, *keys])
    is_end = np.zeros(len(order), dtype=bool)
    is_end[-1:] = True
    for key in keys:
        is_end[:-1] |= np.diff(key[order]) != 0
    last = np.zeros(len(order), dtype=bool)
    last[order] = is_end
    return last
