"""Canaries among the events: they are counted as others are, and do not move event time.

A canary has the time of its sending. If it moved the watermark, it would make the events of all clients late whose logs
come with a delay; if it made its partition busy, windows would wait for the next one.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.domain.canary import CANARY_SERVICE
from services.evaluator.core.match.events import EventBatch, EventColumns, Ints, RowMask, mask_of
from services.evaluator.core.records import EARLIEST_NS


def without_canaries_ns(columns: EventColumns, times_ns: Ints) -> Ints:
    """Return the times of the events, those of canaries replaced by one that is before all others."""
    canaries = _canary_rows(columns)
    return times_ns if canaries is None else np.where(canaries, EARLIEST_NS - 1, times_ns)


def busy_partitions(events: EventBatch) -> set[int]:
    """Return the partitions of the records, without those of which all records have canaries only."""
    canaries = _canary_rows(events.columns)
    if canaries is None:
        return {record.partition for record in events.records}
    others = np.bincount(events.record_of_event()[~canaries], minlength=len(events.records))
    is_busy = (others > 0) | (events.lengths == 0)
    return {record.partition for record, busy in zip(events.records, is_busy.tolist(), strict=True) if busy}


def _canary_rows(columns: EventColumns) -> RowMask | None:
    """Return which events are canaries; None when none is."""
    rows: RowMask | None = columns.cached("canaries", lambda: _find(columns))
    return rows


def _find(columns: EventColumns) -> RowMask | None:
    service = columns.column("service")
    found = mask_of(pc.equal(service, pa.scalar(CANARY_SERVICE))) if len(service) else np.zeros(0, dtype=np.bool_)
    return found if found.any() else None
