"""Which rows of a fetch of `window-partials` other rows of the same fetch replace."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.evaluator.core.match.events import Ints


def rows_to_keep(columns: Any, rows: Any, batch_of_row: Ints, judged: NDArray[np.bool_], outputs: Ints) -> Ints:
    """Return the indices of rows that are not replaced; rows with samples stay, because later ones may omit them.

    Of each key the judged row that reaches furthest counts. It is not always the last: a writer that began again
    repeats rows, and repeated rows of a block are stale once a later block has begun. Rows that are not judged yet
    replace none: windows close before they are read.
    """
    sources, blocks, up_to = (columns.column(name).to_numpy() for name in ("source_partition", "block", "up_to"))
    reached = np.where(judged & ~_is_stale(outputs, sources, blocks), up_to, -1)
    keys = [sources[batch_of_row], blocks[batch_of_row]]
    keys.append(outputs[batch_of_row])
    keys += [rows.field("selection_revision").to_numpy(), rows.field("pane_time").cast(pa.int64()).to_numpy()]
    keys += [_codes(rows.field("rule_id")), *_group_codes(rows.field("group"))]
    last = _greatest_of_each(keys, reached[batch_of_row])
    has_samples = np.diff(rows.field("samples").offsets.to_numpy()) > 0
    return np.flatnonzero(last | has_samples | ~judged[batch_of_row])


def _is_stale(outputs: Ints, sources: Ints, blocks: Ints) -> NDArray[np.bool_]:
    """Mark the batches of blocks after which a later block of the same source has begun."""
    latest_blocks: dict[tuple[int, int], int] = {}
    is_stale = []
    for output, source, block in zip(outputs.tolist(), sources.tolist(), blocks.tolist(), strict=True):
        latest_blocks[output, source] = latest = max(block, latest_blocks.get((output, source), block))
        is_stale.append(block < latest)
    return np.array(is_stale, dtype=bool)


def _codes(texts: Any) -> Ints:
    return np.asarray(texts.dictionary_encode().indices.to_numpy(), dtype=np.int64)


def _group_codes(groups: Any) -> list[Ints]:
    """Return a number for each value of each group, by place; -1 where a group has fewer values."""
    offsets = groups.offsets.to_numpy()
    lengths = np.diff(offsets)
    values = _codes(groups.flatten())
    places = []
    for place in range(int(lengths.max(initial=0))):
        codes = np.full(len(lengths), -1, dtype=np.int64)
        has = lengths > place
        codes[has] = values[offsets[:-1][has] - offsets[0] + place]
        places.append(codes)
    return places


def _greatest_of_each(keys: Sequence[Ints], values: Ints) -> NDArray[np.bool_]:
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
