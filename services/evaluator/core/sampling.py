"""Which events an alert shows as evidence: the first three of each row."""

from collections.abc import Sequence

import numpy as np

from services.domain.level import Level
from services.evaluator.core.arrival import Ints, Record
from services.evaluator.core.columns import Columns
from services.evaluator.core.partial import SAMPLE_CHARACTERS, Sample

_FIELDS = ("service", "level", "message", "status_code", "response_time", "host", "trace_id")
_LEVELS = frozenset(Level)
_TRACEPARENT_PARTS = 4


def first_of_each(cells: Ints, wanted: Ints) -> Ints:
    """Give the positions of the first `wanted[c]` entries of each cell c, in order."""
    candidates = np.flatnonzero(wanted[cells] > 0)
    if not len(candidates):
        return candidates
    order = candidates[np.argsort(cells[candidates], kind="stable")]
    sorted_cells = cells[order]
    starts = np.flatnonzero(np.diff(sorted_cells, prepend=-1))
    lengths = np.diff(starts, append=len(order))
    rank = np.arange(len(order)) - np.repeat(starts, lengths)
    return np.sort(order[rank < wanted[sorted_cells]])


def samples_of(columns: Columns, events: Ints, times_ns: Ints, records: Sequence[Record]) -> list[Sample]:
    """Make samples of some events; `times_ns` and `records` have an entry for each of them."""
    taken = columns.batch.select(list(_FIELDS)).take(events).to_pylist()
    return [
        Sample(
            event_ns=time_ns,
            service=row["service"],
            level=_level(row["level"]),
            message=row["message"][:SAMPLE_CHARACTERS],
            status_code=row["status_code"],
            response_time=row["response_time"],
            host=row["host"],
            trace_id=row["trace_id"] or trace_id_of(record.traceparent),
        )
        for row, time_ns, record in zip(taken, times_ns.tolist(), records, strict=True)
    ]


def trace_id_of(traceparent: str) -> str:
    """Give the trace id inside a W3C traceparent; empty when there is none."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) >= _TRACEPARENT_PARTS else ""


def _level(number: int) -> Level | None:
    return Level(number) if number in _LEVELS else None
